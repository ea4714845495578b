"""Resampling beside a plain upfirdn, plain convolutions and PyTorch's numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan.layers import resample
from jaxgan.layers.conv import conv

FILTERS = [(1, 3, 3, 1), (1, 2, 1), (1, 1), (5, 1, 2), (1, 4, 6, 4, 1)]  # one is not even
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _upfirdn(x, taps, up=1, down=1, padding=(0, 0), gain=1.0):
    """Zeros between, zeros around (negative: crop), true convolution, every so manyth number."""
    f = np.outer(taps, taps) / np.sum(taps) ** 2 * gain
    batch, height, width, channels = x.shape
    z = np.zeros((batch, height * up, width * up, channels))
    z[:, ::up, ::up] = x
    before, after = padding
    z = np.pad(z, [(0, 0), *[(max(before, 0), max(after, 0))] * 2, (0, 0)])
    z = z[:, max(-before, 0) :, max(-before, 0) :]
    z = z[:, : z.shape[1] - max(-after, 0), : z.shape[2] - max(-after, 0)]
    k = len(taps)
    h, w = z.shape[1] - k + 1, z.shape[2] - k + 1
    y = sum(
        f[k - 1 - i, k - 1 - j] * z[:, i : i + h, j : j + w] for i in range(k) for j in range(k)
    )
    return y[:, ::down, ::down]


@pytest.mark.parametrize("taps", FILTERS)
@pytest.mark.parametrize("size", [(6, 8), (2, 4)])
def test_it_is_upfirdn(taps, size):
    x, k = _normal(2, *size, 3), len(taps)
    cases = [
        (resample.upsample, {"up": 2, "padding": ((k + 1) // 2, (k - 2) // 2), "gain": 4}, 2),
        (resample.downsample, {"down": 2, "padding": ((k - 1) // 2, (k - 2) // 2)}, 1 / 2),
        (resample.blur, {"padding": (k // 2, (k - 1) // 2)}, 1),
    ]
    for function, arguments, factor in cases:
        y = jax.jit(function, static_argnums=1)(x, taps)
        assert y.shape == (2, size[0] * factor, size[1] * factor, 3)
        np.testing.assert_allclose(y, _upfirdn(x, taps, **arguments), **CLOSE)


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1)])
def test_constants_stay_away_from_the_border(taps):
    x = jnp.full((1, 8, 8, 2), 3.0)
    inner = slice(2, -2)
    for function in (resample.upsample, resample.downsample, resample.blur):
        y = function(x, taps) if function is not resample.upsample else function(x, (1, 3, 3, 1))
        np.testing.assert_allclose(y[:, inner, inner], 3, rtol=1e-6)


def test_nearest_and_average():
    x = _normal(2, 4, 6, 3)
    large = resample.nearest_upsample(x)
    np.testing.assert_array_equal(large, np.kron(x, np.ones((1, 2, 2, 1), np.float32)))
    np.testing.assert_allclose(resample.average_downsample(large), x, **CLOSE)
    small = resample.average_downsample(x)
    np.testing.assert_allclose(small[1, 1, 2], x[1, 2:4, 4:6].mean((0, 1)), **CLOSE)
    np.testing.assert_allclose(small, resample.downsample(x, (1, 1)), **CLOSE)
    np.testing.assert_allclose(large, resample.upsample(x, (1, 1)), **CLOSE)


def test_convolution_and_nearest_or_average_in_one():
    x, w = _normal(2, 6, 8, 3), _normal(3, 3, 3, 5, seed=1)
    up = conv(resample.nearest_upsample(x), w, 1, 1)
    down = resample.average_downsample(conv(x, w, 1, 1))
    np.testing.assert_allclose(resample.nearest_upsample_conv(x, w), up, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(resample.conv_average_downsample(x, w), down, rtol=1e-4, atol=1e-4)


def _zero_between(y):
    z = np.zeros((y.shape[0], 2 * y.shape[1], 2 * y.shape[2], y.shape[3]), np.float32)
    z[:, ::2, ::2] = y
    return z


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1), (1, 1)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_filter_and_convolution_are_those_of_the_general_form(kernel, taps):
    """StyleGAN2's: the whole padding first, no matter in which order they are computed."""
    x, w = _normal(2, 4, 6, 3), _normal(kernel, kernel, 3, 5, seed=1)
    k, half = len(taps), kernel // 2
    padding = (half + (k + 1) // 2, half + (k - 2) // 2)
    filtered = _upfirdn(x, taps, up=2, padding=padding, gain=4).astype(np.float32)
    expected = conv(jnp.asarray(filtered), jnp.flip(w, (0, 1)))
    np.testing.assert_allclose(resample.upsample_conv(x, w, taps), expected, rtol=1e-4, atol=1e-4)
    padding = (half + (k - 1) // 2, half + (k - 2) // 2)
    filtered = _upfirdn(x, taps, padding=padding).astype(np.float32)
    expected = conv(jnp.asarray(filtered), w)[:, ::2, ::2]
    np.testing.assert_allclose(resample.conv_downsample(x, w, taps), expected, rtol=1e-4, atol=1e-4)


def test_numbers_are_pytorchs():
    torch = pytest.importorskip("torch")
    x, w = _normal(2, 5, 7, 3), _normal(3, 3, 3, 4, seed=1)
    taps = torch.tensor([1.0, 3, 3, 1]) / 8
    fir = torch.outer(taps, taps)[None, None]

    def to_torch(a, *order):
        return torch.tensor(np.ascontiguousarray(np.transpose(a, order)), requires_grad=True)

    def filtered(y, gain, padding, stride=1):
        channels = y.shape[1]
        f = gain * fir.repeat(channels, 1, 1, 1)
        return torch.nn.functional.conv2d(y, f, None, stride, padding, groups=channels)

    tx, tw = to_torch(x, 0, 3, 1, 2), to_torch(w, 2, 3, 0, 1)  # [I, O, k, k]
    up = filtered(torch.nn.functional.conv_transpose2d(tx, tw, None, 2), 4, 1)
    even = tx[:, :, :4, :6]
    down = torch.nn.functional.conv2d(filtered(even, 1, 2), tw.swapaxes(0, 1), None, 2)
    torch.sin(up).sum().backward()
    slopes = jax.grad(lambda x, w: jnp.sin(resample.upsample_conv(x, w)).sum(), (0, 1))(x, w)

    def back(t):
        return np.transpose(t.detach().numpy(), (0, 2, 3, 1))

    loose = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(resample.upsample_conv(x, w), back(up), **loose)
    np.testing.assert_allclose(resample.conv_downsample(x[:, :4, :6], w), back(down), **loose)
    np.testing.assert_allclose(slopes[0], back(tx.grad), **loose)
    np.testing.assert_allclose(slopes[1], np.transpose(tw.grad.numpy(), (2, 3, 0, 1)), **loose)


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (5, 1, 2)])
def test_derivatives_are_finite_differences(taps):
    functions = [
        lambda x: resample.upsample(x, taps),
        lambda x: resample.downsample(x, taps),
        lambda x: resample.blur(x, taps),
        resample.nearest_upsample,
        resample.average_downsample,
    ]
    with jax.enable_x64(True):
        x = jnp.asarray(_normal(1, 4, 6, 2), jnp.float64)

        def curved(x):  # the second derivative of a linear map would be none
            return [jnp.sin(function(x)) for function in functions]

        check_grads(jax.jit(curved), (x,), 2, ["rev"], 1e-5, 1e-5)


@pytest.mark.parametrize(
    "function",
    [
        resample.upsample_conv,
        resample.conv_downsample,
        resample.nearest_upsample_conv,
        resample.conv_average_downsample,
    ],
)
def test_derivatives_with_a_convolution_are_finite_differences(function):
    with jax.enable_x64(True):
        shapes = ((1, 2, 4, 2), (3, 3, 2, 1))
        x, w = (jnp.asarray(0.3 * _normal(*s), jnp.float64) for s in shapes)
        check_grads(jax.jit(lambda x, w: jnp.sin(function(x, w))), (x, w), 2, ["rev"], 1e-6, 1e-6)


def test_the_derivative_is_the_adjoint():
    x, y = _normal(1, 4, 6, 2), _normal(1, 8, 12, 2, seed=1)
    _, pull = jax.vjp(functools.partial(resample.upsample, taps=(5, 1, 2)), x)
    there = np.vdot(resample.upsample(x, (5, 1, 2)), y)
    np.testing.assert_allclose(there, np.vdot(x, pull(y)[0]), rtol=1e-4)


def test_half_precision_is_summed_in_float32():
    x = jnp.full((1, 8, 8, 1), 1 + 2**-7, jnp.bfloat16)
    y = resample.upsample(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y[:, 2:-2, 2:-2], jnp.bfloat16(1 + 2**-7))
    slope = jax.grad(lambda x: resample.upsample(x).astype(jnp.float32).sum())(x)
    assert slope.dtype == jnp.bfloat16


def test_a_filter_of_one_tap_is_refused():
    with pytest.raises(ValueError, match="at least 2 taps"):
        resample.upsample(_normal(1, 4, 4, 1), (1,))


def test_no_filter_is_a_depthwise_convolution():
    def slope(x):
        return jax.grad(lambda x: jnp.sin(resample.downsample(resample.upsample(x))).sum())(x)

    text = str(jax.make_jaxpr(slope)(jnp.ones((1, 4, 4, 2))))
    assert "conv_general_dilated" not in text and "pad" in text
