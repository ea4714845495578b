"""Convolutions: every way to compute them against XLA's own and against PyTorch's numbers.

`python tests/test_conv.py` writes data/torch_conv.npz anew; it needs PyTorch.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxgan.layers import bilinear, lowering, volume
from jaxgan.layers.conv import Conv, ConvTranspose, conv, conv_transpose
from jaxgan.layers.lowering import Axis

TORCH = Path(__file__).parent / "data" / "torch_conv.npz"

# Kernel, stride and padding of the library's networks, and their neighbours.
WINDOWS = [(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 0), (3, 1, 1), (3, 2, 1), (4, 1, 0), (4, 2, 1)]
WINDOWS += [(5, 1, 2), (5, 2, 2)]
VOLUMES = [(1, 1, 0), (2, 2, 0), (3, 1, 1), (4, 1, 0), (4, 2, 1), (5, 2, 2)]


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _window(sizes, kernel, stride, padding):
    return tuple(Axis(size, kernel, stride, padding) for size in sizes)


def _arrays(window, batch=2, inputs=3, outputs=2):
    """The large map, the kernel and the small map of a window."""
    return (
        _normal(batch, *(a.size for a in window), inputs, seed=1),
        _normal(*(a.kernel for a in window), inputs, outputs, seed=2),
        _normal(batch, *(a.outputs for a in window), outputs, seed=3),
    )


def _assert_close(actual, expected, tolerance=1e-5):
    """Relative to the largest number of each array."""
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(1, np.abs(e).max()))


def _ways(window, x, w, y):
    """What each way to compute the three maps gives, XLA's first."""
    convs = [lowering.conv_by_xla, lowering.conv_by_parts, lowering.conv_by_product]
    transposes = [
        lowering.conv_transpose_by_xla,
        lowering.conv_transpose_by_phases,
        lowering.conv_transpose_by_product,
    ]
    weights = [lowering.weights_by_xla, lowering.weights_by_groups, lowering.weights_by_product]
    if all(a.stride == 1 for a in window):
        convs.append(lowering.conv_turned)
        weights.append(lowering.weights_turned)
    return (
        [way(window, x, w) for way in convs],
        [way(window, y, w) for way in transposes],
        [way(window, x, y) for way in weights],
    )


@pytest.mark.parametrize(("kernel", "stride", "padding"), [*WINDOWS, (2, 3, 0), (5, 3, 1)])
def test_every_way_gives_the_same(kernel, stride, padding, monkeypatch):
    monkeypatch.setattr(lowering, "_CACHE", 64)  # so that parts and groups are several
    window = _window((7, 10), kernel, stride, padding)
    for results in jax.jit(lambda *a: _ways(window, *a))(*_arrays(window, batch=16, inputs=4)):
        for result in results[1:]:
            _assert_close(result, results[0])


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [((4, 4), 4, 1, 0), ((6, 5), 5, 1, 0), ((7, 8), 5, 2, 1), ((5, 2), 5, 3, 2)],
)
def test_kernels_about_as_large_as_the_map_give_the_same(size, kernel, stride, padding):
    window = _window(size, kernel, stride, padding)
    for results in jax.jit(lambda *a: _ways(window, *a))(*_arrays(window)):
        for result in results[1:]:
            _assert_close(result, results[0])


def test_a_kernel_as_large_as_the_map_is_a_dense_layer():
    assert lowering.covers(_window((4, 4), 4, 1, 0))
    assert not lowering.covers(_window((4, 5), 4, 1, 0))


def _derivatives(run, window, a, b):
    """The value, both first derivatives, and the second ones of a curved function of it."""
    value = run(window, a, b)
    target = _normal(*value.shape, seed=4)

    def loss(a, b):
        return jnp.sum(jnp.sin(run(window, a, b)) * target)

    def steepness(a, b):
        return sum(jnp.sum(jnp.sin(g) ** 2) for g in jax.grad(loss, (0, 1))(a, b))

    return value, jax.grad(loss, (0, 1))(a, b), jax.grad(steepness, (0, 1))(a, b)


def _assert_same_derivatives(ours, theirs, window, a, b):
    actual, expected = jax.jit(
        lambda a, b: (_derivatives(ours, window, a, b), _derivatives(theirs, window, a, b))
    )(a * 0.3, b * 0.3)
    _assert_close(actual, expected, 1e-4)


@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_derivatives_of_images_are_xlas(kernel, stride, padding):
    window = _window((5, 6), kernel, stride, padding)
    x, w, y = _arrays(window)
    _assert_same_derivatives(bilinear.conv, lowering.conv_by_xla, window, x, w)
    _assert_same_derivatives(bilinear.conv_transpose, lowering.conv_transpose_by_xla, window, y, w)


@pytest.mark.parametrize(("kernel", "stride", "padding"), VOLUMES)
def test_derivatives_of_volumes_are_xlas(kernel, stride, padding):
    window = _window((5, 4, 6), kernel, stride, padding)
    x, w, y = _arrays(window, outputs=1)
    _assert_same_derivatives(volume.conv, lowering.conv_by_xla, window, x, w)
    _assert_same_derivatives(volume.conv_transpose, lowering.conv_transpose_by_xla, window, y, w)


_WAYS = [
    "conv_by_parts",
    "conv_by_product",
    "conv_turned",
    "conv_transpose_by_phases",
    "conv_transpose_by_product",
    "weights_by_groups",
    "weights_by_product",
    "weights_turned",
]


@pytest.mark.parametrize(
    ("window", "channels", "ways"),
    [
        ((8, 4, 2, 1), 5, ["conv_by_product", "conv_transpose_by_product", "weights_by_groups"]),
        ((16, 4, 2, 1), 5, ["conv_by_parts", "conv_transpose_by_product", "weights_by_groups"]),
        ((18, 4, 2, 1), 5, ["conv_by_parts", "conv_transpose_by_phases", "weights_by_groups"]),
        ((18, 4, 2, 1), 3, ["conv_by_parts", "conv_transpose_by_product", "weights_by_groups"]),
        ((18, 2, 2, 0), 5, ["conv_by_parts", "conv_transpose_by_product", "weights_by_groups"]),
        ((4, 4, 1, 0), 5, ["conv_by_product", "conv_transpose_by_product", "weights_by_product"]),
        ((9, 3, 1, 1), 5, ["conv_turned", "conv_transpose_by_phases", "weights_turned"]),
    ],
)
def test_the_way_is_chosen_by_shape(window, channels, ways, monkeypatch):
    taken = []
    outer = []  # ways that another one takes are not counted
    for way in _WAYS:
        run = getattr(lowering, way)

        def spy(window, a, b, way=way, run=run):
            taken.extend([] if outer else [way])
            outer.append(way)
            result = run(window, a, b)
            outer.pop()
            return result

        monkeypatch.setattr(lowering, way, spy)
    window = (Axis(*window),) * 2
    x, w, y = _arrays(window, 1, channels, 1)
    jax.eval_shape(lambda: (bilinear.conv(window, x, w), bilinear.conv_transpose(window, y, w)))
    jax.eval_shape(lambda: bilinear.conv_weights(window, x, y))
    assert taken == ways


def test_second_derivatives_are_finite_differences():
    with jax.enable_x64(True):
        x, w = (jnp.asarray(_normal(*s), jnp.float64) for s in ((1, 5, 5, 2), (3, 3, 2, 2)))
        for run in (lambda x, w: conv(x, w, 2, 1), lambda y, w: conv_transpose(y, w, 2, 1, 1)):
            check_grads(jax.jit(run), (x, w), 2, ["rev"], 1e-6, 1e-6)


@settings(max_examples=6)
@given(
    rank=st.sampled_from([2, 3]),
    sizes=st.tuples(*[st.integers(1, 7)] * 3),
    kernel=st.tuples(*[st.integers(1, 5)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    padding=st.tuples(*[st.integers(0, 2)] * 3),
    channels=st.tuples(*[st.integers(1, 5)] * 2),
)
@example(2, (28, 14, 1), (5, 3, 1), (2, 2, 1), (2, 1, 0), (1, 2))
@example(2, (7, 14, 1), (1, 5, 1), (3, 2, 1), (2, 0, 0), (5, 3))
def test_transposed_is_the_adjoint(rank, sizes, kernel, stride, padding, channels):
    window = tuple(map(Axis, sizes, kernel, stride, padding))[:rank]
    assume(all(a.outputs > 0 for a in window))
    x, w, y = _arrays(window, 2, *channels)
    extra = tuple(a.size + 2 * a.padding - a.kernel - a.span + 1 for a in window)
    stride, padding = stride[:rank], padding[:rank]

    @jax.jit
    def run(x, w, y):
        there, back = conv(x, w, stride, padding), conv_transpose(y, w, stride, padding, extra)
        return there, back, lowering.conv_by_xla(window, x, w)

    there, back, expected = run(x, w, y)
    _assert_close(there, expected)
    np.testing.assert_allclose(np.vdot(there, y), np.vdot(x, back), rtol=1e-4, atol=1e-3)


def test_batched_by_vmap_and_spread_by_pmap():
    x, w = _normal(4, 2, 6, 6, 3), _normal(5, 5, 3, 4)

    def slope(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(conv(x, w, 2, 2))))(x)

    expected = jnp.stack([jax.jit(slope)(part) for part in x])
    _assert_close(jax.jit(jax.vmap(slope))(x), expected)
    devices = jax.local_device_count()
    spread = jax.pmap(slope)(x[:devices])
    _assert_close(np.asarray(spread), expected[:devices])


def test_bfloat16_sums_in_float32():
    x, w = jnp.ones((1, 8, 8, 16), jnp.bfloat16), jnp.full((5, 5, 16, 1), 1 + 2**-7, jnp.float32)
    y = conv(x, w, 1, 0)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, jnp.bfloat16(400 * (1 + 2**-7)))
    slope = jax.grad(lambda w: jnp.sum(conv(x, w, 1, 0).astype(jnp.float32)))(w)
    assert slope.dtype == jnp.float32
    z = conv_transpose(x, jnp.ones((4, 4, 1, 16)), 2, 1)
    assert (z.shape, z.dtype) == ((1, 16, 16, 1), jnp.bfloat16)


def test_accelerators_run_xlas_own(monkeypatch):
    x, w = _normal(1, 5, 5, 2), _normal(3, 3, 2, 4)
    expected = conv(x, w, 2, 1), conv_transpose(_normal(1, 3, 3, 4), w, 2, 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    _assert_close((conv(x, w, 2, 1), conv_transpose(_normal(1, 3, 3, 4), w, 2, 1)), expected)
    # XLA's own can be differentiated forward; ours cannot.
    jax.jvp(lambda x: conv(x, w, 2, 1), (x,), (x,))


# PyTorch's numbers.

CASES = {
    "Conv2d": [(5, 2, 2), (4, 2, 1), (3, 1, 1), (4, 1, 0)],
    "Conv3d": [(4, 2, 1), (3, 1, 1)],
    "ConvTranspose2d": [(5, 2, 2, 1), (4, 2, 1, 0), (4, 1, 0, 0), (3, 2, 1, 1)],
    "ConvTranspose3d": [(4, 2, 1, 0), (3, 2, 1, 1)],
}


def torch_numbers():
    """Inputs and weights as PyTorch lays them out, and what its layers make of them."""
    import torch

    numbers = {}
    for name, cases in CASES.items():
        for case in cases:
            rank, size = int(name[-2]), 4 if name[-2] == "3" else 7
            layer = getattr(torch.nn, name)(3, 2, *case)
            x = torch.tensor(_normal(2, 3, *[size] * rank, seed=rank), requires_grad=True)
            with torch.no_grad():
                for seed, parameter in enumerate(layer.parameters()):
                    parameter.copy_(torch.tensor(_normal(*parameter.shape, seed=5 + seed)))
            out = layer(x)
            torch.sin(out).sum().backward()
            arrays = {
                "x": x,
                "weight": layer.weight,
                "bias": layer.bias,
                "out": out,
                "x_gradient": x.grad,
                "weight_gradient": layer.weight.grad,
            }
            key = "_".join([name, *map(str, case)])
            numbers |= {f"{key}.{n}": a.detach().numpy().copy() for n, a in arrays.items()}
    return numbers


@pytest.mark.parametrize(
    "key", ["_".join([n, *map(str, c)]) for n, cs in CASES.items() for c in cs]
)
def test_modules_compute_what_pytorchs_do(key):
    with np.load(TORCH) as stored:
        numbers = {n: stored[f"{key}.{n}"] for n in ("x", "weight", "bias", "out")}
        slopes = {n: stored[f"{key}.{n}"] for n in ("x_gradient", "weight_gradient")}
    name, *case = key.split("_")
    layer = (ConvTranspose if "Transpose" in name else Conv)(2, *map(int, case))
    spatial = range(2, numbers["x"].ndim)

    def last(x):
        return jnp.transpose(x, (0, *spatial, 1))

    def kernel(w):  # both [O, I, ...] and the transposed layers' [I, O, ...]
        return jnp.transpose(w, (*spatial, 1, 0))

    params = {"kernel": kernel(numbers["weight"]), "bias": jnp.asarray(numbers["bias"])}

    def run(params, x):
        out = layer.apply({"params": params}, x)
        return jnp.sum(jnp.sin(out)), out

    backward = jax.jit(jax.grad(run, (0, 1), has_aux=True))
    (slope, x_slope), out = backward(params, last(numbers["x"]))
    _assert_close(out, last(numbers["out"]))
    _assert_close(x_slope, last(slopes["x_gradient"]))
    _assert_close(slope["kernel"], kernel(slopes["weight_gradient"]))


def test_stored_numbers_are_pytorchs():
    pytest.importorskip("torch")
    with np.load(TORCH) as stored:
        _assert_close(torch_numbers(), dict(stored))


def test_modules_keep_parameters_in_float32():
    x = jnp.ones((2, 6, 6, 3))
    layer = Conv(4, (3, 5), (2, 1), (1, 2), dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), x)
    shapes = jax.tree.map(lambda a: (a.shape, a.dtype.name), variables)
    assert shapes == {"params": {"kernel": ((3, 5, 3, 4), "float32"), "bias": ((4,), "float32")}}
    out = layer.apply(variables, x)
    assert (out.shape, out.dtype) == ((2, 3, 6, 4), jnp.bfloat16)
    plain = ConvTranspose(4, 5, 2, 2, 1, use_bias=False)
    variables = plain.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (5, 5, 4, 3)}}
    assert plain.apply(variables, x).shape == (2, 12, 12, 4)


@pytest.mark.parametrize("layer", [Conv(8, 3), ConvTranspose(8, 3)])
def test_kernels_start_with_unit_fan_in(layer):
    kernel = layer.init(jax.random.key(0), jnp.ones((1, 4, 4, 64)))["params"]["kernel"]
    np.testing.assert_allclose(jnp.std(kernel), (9 * 64) ** -0.5, rtol=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv(jnp.ones((1, 4, 4, 2)), jnp.ones((5, 5, 2, 1))), "does not fit"),
        (lambda: conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 3, 1))), "must be equal"),
        (lambda: conv(jnp.ones((4, 4, 2)), jnp.ones((3, 3, 2, 1))), "ranks of"),
        (lambda: conv(jnp.ones((1, 4, 4, 2), int), jnp.ones((3, 3, 2, 1))), "floating point"),
        (lambda: conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1)), (1, 2, 1)), "stride"),
        (lambda: conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1)), 0), "at least 1"),
        (lambda: conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1)), 1, -1), "at least 0"),
        (lambda: conv_transpose(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 3))), "must be equal"),
        (
            lambda: conv_transpose(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2)), 2, 1, 2),
            "less than the stride",
        ),
        (
            lambda: conv_transpose(jnp.ones((1, 1, 1, 2)), jnp.ones((2, 2, 1, 2)), 2, 1),
            "less padding",
        ),
    ],
)
def test_what_does_not_fit_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


if __name__ == "__main__":
    np.savez_compressed(TORCH, **torch_numbers())
