"""Convolutions: every way to compute them beside XLA's and PyTorch's numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import STORED
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from stored.layers import CONVS, OUTPUTS, layer_inputs
from stored.layers import normal as _normal

from jaxgan.layers import bilinear
from jaxgan.layers.conv import Conv, ConvTranspose, conv, conv_transpose
from jaxgan.layers.cpu import lowering
from jaxgan.layers.cpu.lowering import Axis

# Kernel, stride and padding of the library's networks, and their neighbors.
WINDOWS = [(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 0), (3, 1, 1), (3, 2, 1), (4, 1, 0), (4, 2, 1)]
WINDOWS += [(5, 1, 2), (5, 2, 2), (2, 3, 0), (5, 3, 1)]


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


def _ways(window, cache, x, w, y):
    """What each way to compute the three maps gives, XLA's first."""
    convs = [
        lowering.conv_by_xla(window, x, w),
        lowering.conv_by_parts(window, x, w, cache),
        lowering.conv_by_product(window, x, w),
    ]
    transposes = [
        lowering.conv_transpose_by_xla(window, y, w),
        lowering.conv_transpose_by_phases(window, y, w),
        lowering.conv_transpose_by_product(window, y, w),
    ]
    weights = [
        lowering.weights_by_xla(window, x, y),
        lowering.weights_by_groups(window, x, y, cache),
        lowering.weights_by_product(window, x, y),
    ]
    if all(a.stride == 1 for a in window):
        convs.append(lowering.conv_turned(window, x, w))
        weights.append(lowering.weights_turned(window, x, y))
    return convs, transposes, weights


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        *(((7, 10), *window) for window in WINDOWS),
        # Kernels about as large as the map.
        ((4, 4), 4, 1, 0),
        ((6, 5), 5, 1, 0),
        ((5, 2), 5, 3, 2),
    ],
)
def test_every_way_gives_the_same(size, kernel, stride, padding):
    window = _window(size, kernel, stride, padding)
    ways = jax.jit(lambda *a: _ways(window, 64, *a))  # a cache so small that parts are several
    for results in ways(*_arrays(window, batch=16, inputs=4)):
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


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (5, 2, 2)])
def test_derivatives_of_images_are_xlas(kernel, stride, padding):
    window = _window((5, 6), kernel, stride, padding)
    x, w, y = _arrays(window)
    _assert_same_derivatives(bilinear.conv, lowering.conv_by_xla, window, x, w)
    _assert_same_derivatives(bilinear.conv_transpose, lowering.conv_transpose_by_xla, window, y, w)


def test_derivatives_of_volumes_are_xlas():
    window = _window((5, 4, 6), 4, 2, 1)
    x, w, y = _arrays(window, outputs=1)
    _assert_same_derivatives(bilinear.conv, lowering.conv_by_xla, window, x, w)
    _assert_same_derivatives(bilinear.conv_transpose, lowering.conv_transpose_by_xla, window, y, w)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("run", [conv, conv_transpose])
def test_nothing_that_a_cpu_computes_in_a_naive_loop(run, stride):
    """XLA's backend for CPUs has no fast way for maps with zeros in between, nor for groups."""
    x, w = jnp.ones((8, 64, 64, 16)), jnp.ones((4, 4, 16, 16))

    def slopes(x, w):
        return jax.grad(lambda x, w: jnp.sin(run(x, w, stride, 1)).sum(), (0, 1))(x, w)

    text = jax.jit(slopes).trace(x, w).lower(lowering_platforms=("cpu",)).as_text()
    assert set(re.findall(r"lhs_dilate = \[.*?\]", text)) == {"lhs_dilate = [1, 1]"}
    assert set(re.findall(r"group_count = \d+", text)) == {"group_count = 1"}


def test_second_derivatives_are_finite_differences():
    with jax.enable_x64(True):
        x, w = (jnp.asarray(_normal(*s), jnp.float64) for s in ((1, 5, 5, 2), (3, 3, 2, 2)))
        for run in (lambda x, w: conv(x, w, 2, 1), lambda y, w: conv_transpose(y, w, 2, 1, 1)):
            check_grads(jax.jit(run), (x, w), 2, ["rev"], 1e-6, 1e-6)


@settings(max_examples=4)
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

    @jax.jit
    def run(x, w):
        slope = jax.grad(lambda w: jnp.sum(conv(x, w, 1, 0).astype(jnp.float32)))(w)
        return conv(x, w, 1, 0), slope, conv_transpose(x, jnp.ones((4, 4, 1, 16)), 2, 1)

    y, slope, z = run(x, w)
    assert (y.dtype, slope.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(y, jnp.bfloat16(400 * (1 + 2**-7)))
    assert (z.shape, z.dtype) == ((1, 16, 16, 1), jnp.bfloat16)


def test_xlas_convolution_gives_the_same_and_can_be_differentiated_forward():
    x, y, w = _normal(1, 5, 5, 2), _normal(1, 3, 3, 4), _normal(3, 3, 2, 4)

    def run(by_xla):
        def both(x):
            return conv(x, w, 2, 1, by_xla=by_xla), conv_transpose(y, w, 2, 1, by_xla=by_xla)

        return both

    _assert_close(jax.jit(run(True))(x), jax.jit(run(False))(x))
    jax.make_jaxpr(lambda x: jax.jvp(run(True), (x,), (x,)))(x)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jit(lambda x: jax.jvp(run(False), (x,), (x,)))(x)


@pytest.mark.parametrize(("number", "case"), list(enumerate(CONVS)))
def test_modules_compute_what_pytorchs_do(number, case):
    with np.load(STORED / "torch_conv.npz") as stored:
        expected = [stored[f"{number}.{name}"] for name in ("out", "x", "kernel")]
    name, *arguments = case
    layer = (ConvTranspose if "Transpose" in name else Conv)(OUTPUTS, *arguments)
    x, kernel, bias = layer_inputs(*case).values()

    def run(x, kernel):
        out = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
        return jnp.sum(jnp.sin(out)), out

    slopes, out = jax.jit(jax.grad(run, (0, 1), has_aux=True))(x, kernel)
    _assert_close([out, *slopes], expected)


def test_modules_keep_parameters_in_float32():
    x = jnp.ones((2, 6, 6, 3))

    def shapes(layer, x):
        variables = jax.eval_shape(layer.init, jax.random.key(0), x)
        out = jax.eval_shape(layer.apply, variables, x)
        return jax.tree.map(lambda a: (a.shape, a.dtype.name), (variables["params"], out))

    params = {"kernel": ((3, 5, 3, 4), "float32"), "bias": ((4,), "float32")}
    layer = Conv(4, (3, 5), (2, 1), (1, 2))
    assert shapes(layer, x.astype(jnp.bfloat16)) == (params, ((2, 3, 6, 4), "bfloat16"))
    plain = ConvTranspose(4, 5, 2, 2, 1, use_bias=False)
    params = {"kernel": ((5, 5, 4, 3), "float32")}
    assert shapes(plain, x) == (params, ((2, 12, 12, 4), "float32"))


@pytest.mark.parametrize("layer", [Conv(8, 3), ConvTranspose(8, 3)])
def test_kernels_start_with_unit_fan_in(layer):
    init = jax.jit(layer.init)
    kernel = init(jax.random.key(0), jnp.ones((1, 4, 4, 64)))["params"]["kernel"]
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
