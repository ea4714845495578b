"""Spectral normalization: the singular value, the gradient, and when the vectors move."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import STORED
from stored.layers import OUTPUTS, SPECTRAL, layer_inputs, spectral_vectors

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

IMAGE = (2, 5, 5, 3)
LAYERS = {
    "dense": (SpectralDense(4), (2, 3)),
    "embedding": (SpectralDense(4, use_bias=False), (2, 3)),
    "conv": (SpectralConv(4, 3, 2, 1), IMAGE),
    "transposed": (SpectralConvTranspose(4, 3, 2, 1, 1), IMAGE),
}


def _matrix(layer, kernel):
    transposed = isinstance(layer, SpectralConvTranspose)
    return np.moveaxis(kernel, -2 if transposed else -1, -1).reshape(-1, layer.features)


@functools.cache
def _layer(name):
    layer, shape = LAYERS[name]
    x = jax.random.normal(KEY, shape)
    return layer, x, jax.jit(lambda: layer.init(KEY, x, refresh=False))()


def _applied(layer, variables, x):
    return jax.jit(lambda variables: layer.apply(variables, x, refresh=False))(variables)


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


def test_without_a_refresh_nothing_moves():
    layer, x, variables = _layer("dense")
    _, stats = layer.apply(variables, x, refresh=False, mutable=["spectral"])
    chex.assert_trees_all_equal(stats["spectral"], variables["spectral"])


@pytest.mark.parametrize("name", ["dense", "transposed"])
def test_evaluation_gives_the_last_value_of_training(name):
    layer, x, variables = _layer(name)
    far = {"u": jnp.full(layer.features, 0.5), "v": variables["spectral"]["v"]}
    out, after = _refreshed(layer, {**variables, "spectral": far}, x, 1)
    np.testing.assert_allclose(_applied(layer, after, x), out, **CLOSE)
    # The test can tell: other vectors give another value.
    other = _applied(layer, {**variables, "spectral": far}, x)
    assert np.abs(other - out).max() > 1e-3


def test_the_gradient_of_a_refresh_is_the_papers():
    """Equation 12, with E the gradient by the normalized kernel: (E - <E, W / s> v u^T) / s."""
    layer, x, variables = _layer("conv")
    params = variables["params"]

    @jax.jit
    def slope(kernel):
        def loss(kernel):
            changed = {**variables, "params": {**params, "kernel": kernel}}
            out, _ = layer.apply(changed, x, refresh=True, mutable=["spectral"])
            return jnp.sin(out).sum()

        return jax.grad(loss)(kernel)

    spectral = _refreshed(layer, variables, x, 1)[1]["spectral"]
    u, v = np.asarray(spectral["u"]), np.asarray(spectral["v"])
    sigma = v @ _matrix(layer, params["kernel"]) @ u
    bar = params["kernel"] / sigma
    by_bar = jax.jit(jax.grad(lambda k: jnp.sin(_plain(layer, k, params["bias"], x)).sum()))(bar)
    plain, bar = _matrix(layer, by_bar), _matrix(layer, bar)
    expected = (plain - (plain * bar).sum() * np.outer(v, u)) / sigma
    actual = _matrix(layer, slope(params["kernel"]))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)


def test_a_frozen_collection_cannot_be_refreshed():
    layer, x, variables = _layer("dense")
    with pytest.raises(Exception, match="immutable"):
        layer.apply(variables, x, refresh=True)


def test_half_precision_keeps_parameters_and_vectors_in_float32():
    layer, x = SpectralConv(4, 3), jnp.ones(IMAGE, jnp.bfloat16)
    out, variables = jax.eval_shape(lambda: layer.init_with_output(KEY, x, refresh=False))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert out.dtype == jnp.bfloat16


def test_an_embedding_of_one_tag_is_that_of_the_class():
    layer, _, variables = _layer("embedding")
    rows = layer.apply(variables, jnp.eye(3), refresh=False)
    tags = layer.apply(variables, jnp.array([[0.0, 1, 0], [1, 0, 1]]), refresh=False)
    np.testing.assert_allclose(tags, jnp.stack([rows[1], rows[0] + rows[2]]), **CLOSE)


def test_an_iteration_of_a_kernel_of_zeros_is_finite():
    u, v = power_iteration(jnp.zeros((3, 2)), jnp.ones(2))
    assert not u.any() and not v.any()


MODULES = {
    "Linear": SpectralDense,
    "Conv": SpectralConv,
    "ConvTranspose": SpectralConvTranspose,
}


@pytest.mark.parametrize(("number", "case"), list(enumerate(SPECTRAL)))
def test_numbers_and_gradients_are_pytorchs(number, case):
    name, *arguments = case
    layer = MODULES[name.rstrip("23d")](OUTPUTS, *arguments)
    x, kernel, bias = layer_inputs(*case).values()
    spectral = spectral_vectors(*case)

    def run(kernel):
        variables = {"params": {"kernel": kernel, "bias": bias}, "spectral": spectral}
        out = layer.apply(variables, x, refresh=False)
        return jnp.sin(out).sum(), out

    slope, out = jax.jit(jax.grad(run, has_aux=True))(kernel)
    with np.load(STORED / "torch_spectral.npz") as stored:
        np.testing.assert_allclose(out, stored[f"{number}.out"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(slope, stored[f"{number}.kernel"], rtol=1e-4, atol=1e-5)
