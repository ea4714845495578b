"""Spectral normalisation: the singular value, the gradient, and when the vectors move."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.layers.conv import Conv, ConvTranspose
from jaxgan.layers.spectral import (
    SpectralConv,
    SpectralConvTranspose,
    SpectralDense,
    power_iteration,
    spectral_norm,
)

KEY = jax.random.key(5)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}

IMAGE, VOLUME = (2, 5, 5, 3), (2, 3, 3, 3, 2)
LAYERS = {
    "dense": (SpectralDense(4), (2, 3)),
    "embedding": (SpectralDense(4, use_bias=False), (2, 3)),
    "conv": (SpectralConv(4, 3, 2, 1), IMAGE),
    "conv of volumes": (SpectralConv(4, 2), VOLUME),
    "transposed": (SpectralConvTranspose(4, 3, 2, 1, 1), IMAGE),
    "transposed of volumes": (SpectralConvTranspose(4, 2), VOLUME),
}


def _matrix(layer, kernel):
    transposed = isinstance(layer, SpectralConvTranspose)
    return np.moveaxis(kernel, -2 if transposed else -1, -1).reshape(-1, layer.features)


def _layer(name):
    layer, shape = LAYERS[name]
    x = jax.random.normal(KEY, shape)
    return layer, x, layer.init(KEY, x, refresh=False)


def _refreshed(layer, variables, x, times):
    step = jax.jit(
        lambda spectral: layer.apply(
            {**variables, "spectral": spectral}, x, refresh=True, mutable=["spectral"]
        )
    )
    spectral = variables["spectral"]
    for _ in range(times):
        out, stats = step(spectral)
        spectral = stats["spectral"]
    return out, {**variables, "spectral": spectral}


def _plain(layer, kernel, bias, x):
    """The layer with the kernel it is given."""
    bias = jnp.zeros(layer.features) if bias is None else bias
    if isinstance(layer, SpectralDense):
        return x @ kernel + bias
    if isinstance(layer, SpectralConv):
        plain = Conv(layer.features, layer.kernel, layer.stride, layer.padding)
    else:
        plain = ConvTranspose(
            layer.features, layer.kernel, layer.stride, layer.padding, layer.output_padding
        )
    return plain.apply({"params": {"kernel": kernel, "bias": bias}}, x)


@pytest.mark.parametrize("name", LAYERS)
def test_the_kernel_has_top_singular_value_1(name):
    layer, x, variables = _layer(name)
    params = {**variables["params"], "kernel": 3 * variables["params"]["kernel"]}
    out, _ = _refreshed(layer, {**variables, "params": params}, x, 60)
    top = np.linalg.svd(_matrix(layer, params["kernel"]), compute_uv=False)[0]
    expected = _plain(layer, params["kernel"] / top, params.get("bias"), x)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_the_collection_holds_the_vectors_alone(name):
    layer, _, variables = _layer(name)
    assert set(variables) == {"params", "spectral"}
    vectors, kernel = variables["spectral"], variables["params"]["kernel"]
    assert {n: x.shape for n, x in vectors.items()} == {
        "u": (layer.features,),
        "v": (kernel.size // layer.features,),
    }
    for x in vectors.values():
        np.testing.assert_allclose(np.linalg.norm(x), 1, rtol=1e-6)


def test_the_first_estimate_is_close():
    layer, x, variables = _layer("conv")
    matrix = _matrix(layer, variables["params"]["kernel"])
    first = spectral_norm(matrix, **variables["spectral"])
    np.testing.assert_allclose(first, np.linalg.svd(matrix, compute_uv=False)[0], rtol=0.05)


def test_a_refresh_is_one_power_iteration_of_the_paper():
    layer, x, variables = _layer("transposed")
    u = np.array([0.5, -0.5, 0.5, 0.5], np.float32)
    spectral = {"u": u, "v": np.full_like(variables["spectral"]["v"], 7)}
    _, after = _refreshed(layer, {**variables, "spectral": spectral}, x, 1)
    matrix = _matrix(layer, variables["params"]["kernel"])
    v = matrix @ u
    v /= np.linalg.norm(v)
    u = matrix.T @ v
    u /= np.linalg.norm(u)
    chex.assert_trees_all_close(after["spectral"], {"u": u, "v": v}, **CLOSE)


@pytest.mark.parametrize("name", LAYERS)
def test_without_a_refresh_nothing_moves(name):
    layer, x, variables = _layer(name)
    out, stats = layer.apply(variables, x, refresh=False, mutable=["spectral"])
    chex.assert_trees_all_equal(stats["spectral"], variables["spectral"])
    np.testing.assert_array_equal(out, layer.apply(variables, x, refresh=False))


@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_gives_the_last_value_of_training(name):
    layer, x, variables = _layer(name)
    far = {"u": jnp.full(layer.features, 0.5), "v": variables["spectral"]["v"]}
    out, after = _refreshed(layer, {**variables, "spectral": far}, x, 1)
    np.testing.assert_allclose(layer.apply(after, x, refresh=False), out, **CLOSE)
    # The test can tell: other vectors give another value.
    other = layer.apply({**variables, "spectral": far}, x, refresh=False)
    assert np.abs(other - out).max() > 1e-3


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_is_the_papers(name):
    """Equation 12, with E the gradient by the normalised kernel: (E - <E, W / s> v u^T) / s."""
    layer, x, variables = _layer(name)
    params = variables["params"]

    def loss(kernel):
        own = {**variables, "params": {**params, "kernel": kernel}}
        out, _ = layer.apply(own, x, refresh=True, mutable=["spectral"])
        return jnp.sin(out).sum()

    spectral = _refreshed(layer, variables, x, 1)[1]["spectral"]
    u, v = np.asarray(spectral["u"]), np.asarray(spectral["v"])
    sigma = v @ _matrix(layer, params["kernel"]) @ u
    bar = params["kernel"] / sigma
    by_bar = jax.grad(lambda k: jnp.sin(_plain(layer, k, params.get("bias"), x)).sum())(bar)
    plain, bar = _matrix(layer, by_bar), _matrix(layer, bar)
    expected = (plain - (plain * bar).sum() * np.outer(v, u)) / sigma
    np.testing.assert_allclose(
        _matrix(layer, jax.grad(loss)(params["kernel"])), expected, rtol=1e-3, atol=1e-5
    )


def test_a_frozen_collection_cannot_be_refreshed():
    layer, x, variables = _layer("dense")
    with pytest.raises(Exception, match="immutable"):
        layer.apply(variables, x, refresh=True)


def test_half_precision_keeps_parameters_and_vectors_in_float32():
    layer, x = SpectralConv(4, 3, dtype=jnp.bfloat16), jnp.ones(IMAGE)
    variables = layer.init(KEY, x, refresh=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert layer.apply(variables, x, refresh=False).dtype == jnp.bfloat16


def test_an_embedding_of_one_tag_is_that_of_the_class():
    layer, _, variables = _layer("embedding")
    rows = layer.apply(variables, jnp.eye(3), refresh=False)
    tags = layer.apply(variables, jnp.array([[0.0, 1, 0], [1, 0, 1]]), refresh=False)
    np.testing.assert_allclose(tags, jnp.stack([rows[1], rows[0] + rows[2]]), **CLOSE)


def test_an_iteration_of_a_kernel_of_zeros_is_finite():
    u, v = power_iteration(jnp.zeros((3, 2)), jnp.ones(2))
    assert not u.any() and not v.any()


TORCH = {
    "dense": lambda t: t.nn.Linear(3, 4),
    "conv": lambda t: t.nn.Conv2d(3, 4, 3, 2, 1),
    "conv of volumes": lambda t: t.nn.Conv3d(2, 4, 2),
    "transposed": lambda t: t.nn.ConvTranspose2d(3, 4, 3, 2, 1, 1),
    "transposed of volumes": lambda t: t.nn.ConvTranspose3d(2, 4, 2),
}


@pytest.mark.parametrize("name", TORCH)
def test_numbers_and_gradients_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    layer, x, _ = _layer(name)
    torch.manual_seed(0)
    peer = torch.nn.utils.parametrizations.spectral_norm(TORCH[name](torch)).eval()
    stored = peer.parametrizations.weight
    axes = (*range(2, x.ndim), 1, 0) if x.ndim > 2 else (1, 0)  # [O, I, *k] to [*k, I, O]
    kernel = stored.original.detach().permute(axes)

    # PyTorch's v counts the inputs first, then the taps.
    v = stored[0]._v.reshape(kernel.shape[-1 if "transposed" in name else -2], *kernel.shape[:-2])
    variables = {
        "params": {"kernel": jnp.asarray(kernel.numpy()), "bias": peer.bias.detach().numpy()},
        "spectral": {"u": stored[0]._u.numpy(), "v": np.moveaxis(v.numpy(), 0, -1).reshape(-1)},
    }

    torch_x = torch.tensor(np.moveaxis(x, -1, 1) if x.ndim > 2 else np.asarray(x))
    out = peer(torch_x)
    torch.sin(out).sum().backward()
    expected = np.moveaxis(out.detach().numpy(), 1, -1)
    np.testing.assert_allclose(layer.apply(variables, x, refresh=False), expected, **CLOSE)

    def loss(params):
        return jnp.sin(layer.apply({**variables, "params": params}, x, refresh=False)).sum()

    grads = jax.grad(loss)(variables["params"])
    by_kernel = stored.original.grad.permute(axes).numpy()
    np.testing.assert_allclose(grads["kernel"], by_kernel, rtol=1e-4, atol=1e-5)
