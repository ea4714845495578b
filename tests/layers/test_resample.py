"""Resampling beside a plain upfirdn, plain convolutions and PyTorch's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import STORED
from jax.test_util import check_grads
from stored.layers import normal as _normal
from stored.layers import resample_inputs

from jaxgan.layers import resample
from jaxgan.layers.conv import conv

FILTERS = [(1, 3, 3, 1), (1, 2, 1), (1, 1), (5, 1, 2), (1, 4, 6, 4, 1)]  # one is not even
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
LOOSE = {"rtol": 1e-4, "atol": 1e-4}


def _upfirdn(x, taps, up=1, down=1, padding=(0, 0), gain=1.0):
    """Zeros between, zeros around (negative: crop), true convolution, every `down`th number."""
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
def test_it_is_upfirdn(taps):
    size, k = (6, 2), len(taps)
    x = _normal(2, *size, 3)
    cases = [
        (resample.upsample, {"up": 2, "padding": ((k + 1) // 2, (k - 2) // 2), "gain": 4}, 2),
        (resample.downsample, {"down": 2, "padding": ((k - 1) // 2, (k - 2) // 2)}, 1 / 2),
        (resample.blur, {"padding": (k // 2, (k - 1) // 2)}, 1),
    ]
    for function, arguments, factor in cases:
        y = jax.jit(function, static_argnums=1)(x, taps)
        assert y.shape == (2, size[0] * factor, size[1] * factor, 3)
        np.testing.assert_allclose(y, _upfirdn(x, taps, **arguments), **CLOSE)


@jax.jit
def _all(x):
    """Everything without a convolution."""
    return (
        resample.upsample(x),
        resample.downsample(x),
        resample.blur(x),
        resample.downsample(x, (1, 2, 1)),
        resample.blur(x, (1, 2, 1)),
        resample.nearest_upsample(x),
        resample.average_downsample(x),
    )


def test_constants_stay_away_from_the_border():
    for y in _all(jnp.full((1, 8, 8, 2), 3.0)):
        edge = y.shape[1] // 4
        np.testing.assert_allclose(y[:, edge:-edge, edge:-edge], 3, rtol=1e-6)


def test_nearest_and_average():
    x = _normal(2, 4, 6, 3)

    @jax.jit
    def run(x):
        large, small = resample.nearest_upsample(x), resample.average_downsample(x)
        filtered = resample.upsample(x, (1, 1)), resample.downsample(x, (1, 1))
        return large, small, *filtered, resample.average_downsample(large)

    large, small, large_too, small_too, same = run(x)
    np.testing.assert_array_equal(large, np.kron(x, np.ones((1, 2, 2, 1), np.float32)))
    np.testing.assert_allclose(small[1, 1, 2], x[1, 2:4, 4:6].mean((0, 1)), **CLOSE)
    for actual, expected in ((same, x), (large_too, large), (small_too, small)):
        np.testing.assert_allclose(actual, expected, **CLOSE)


def test_convolution_and_nearest_or_average_in_one():
    x, w = _normal(2, 6, 8, 3), _normal(3, 3, 3, 5, seed=1)

    @jax.jit
    def run(x, w):
        up = resample.nearest_upsample_conv(x, w), conv(resample.nearest_upsample(x), w, 1, 1)
        down = resample.average_downsample(conv(x, w, 1, 1))
        return up, (resample.conv_average_downsample(x, w), down)

    for actual, expected in run(x, w):
        np.testing.assert_allclose(actual, expected, **LOOSE)


@pytest.mark.parametrize(("kernel", "taps"), [(1, (1, 3, 3, 1)), (3, (1, 2, 1)), (5, (1, 1))])
def test_filter_and_convolution_are_those_of_the_general_form(kernel, taps):
    """StyleGAN2's: the whole padding first, no matter in which order they are computed."""
    x, w = _normal(2, 4, 6, 3), _normal(kernel, kernel, 3, 5, seed=1)
    k, half = len(taps), kernel // 2
    padding = (half + (k + 1) // 2, half + (k - 2) // 2)
    large = _upfirdn(x, taps, up=2, padding=padding, gain=4).astype(np.float32)
    padding = (half + (k - 1) // 2, half + (k - 2) // 2)
    small = _upfirdn(x, taps, padding=padding).astype(np.float32)

    @jax.jit
    def run(x, w, large, small):
        up = resample.upsample_conv(x, w, taps), conv(large, jnp.flip(w, (0, 1)))
        return up, (resample.conv_downsample(x, w, taps), conv(small, w)[:, ::2, ::2])

    for actual, expected in run(x, w, large, small):
        np.testing.assert_allclose(actual, expected, **LOOSE)


def test_numbers_are_pytorchs():
    @jax.jit
    def run(x, kernel):
        def up(x, kernel):
            y = resample.upsample_conv(x, kernel)
            return jnp.sin(y).sum(), y

        slopes, large = jax.grad(up, (0, 1), has_aux=True)(x, kernel)
        return large, resample.conv_downsample(x[:, :4, :6], kernel), *slopes

    with np.load(STORED / "torch_resample.npz") as stored:
        expected = [stored[name] for name in ("up", "down", "x", "kernel")]
    for a, e in zip(run(*resample_inputs().values()), expected, strict=True):
        np.testing.assert_allclose(a, e, **LOOSE)


def test_derivatives_are_finite_differences():
    with jax.enable_x64(True):
        x = jnp.asarray(_normal(1, 4, 4, 1), jnp.float64)

        def curved(x):  # the second derivative of a linear map would be none
            return [jnp.sin(y) for y in (*_all(x), resample.upsample(x, (5, 1, 2)))]

        check_grads(jax.jit(curved), (x,), 2, ["rev"], 1e-5, 1e-5)


def test_half_precision_is_summed_in_float32():
    x = jnp.full((1, 8, 8, 1), 1 + 2**-7, jnp.bfloat16)
    y = jax.jit(resample.upsample)(x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y[:, 2:-2, 2:-2], jnp.bfloat16(1 + 2**-7))
    slope = jax.jit(jax.grad(lambda x: resample.upsample(x).astype(jnp.float32).sum()))(x)
    assert slope.dtype == jnp.bfloat16


def test_a_filter_of_one_tap_is_refused():
    with pytest.raises(ValueError, match="at least 2 taps"):
        resample.upsample(_normal(1, 4, 4, 1), (1,))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_filter_is_a_depthwise_convolution_on_a_tpu_alone(platform):
    def slope(x):
        return jax.grad(lambda x: jnp.sin(resample.downsample(resample.upsample(x))).sum())(x)

    traced = jax.jit(slope).trace(jnp.ones((1, 4, 4, 2)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == (platform == "tpu")
    assert ("stablehlo.pad" in text) == (platform != "tpu")


KERNEL = jnp.ones((3, 3, 2, 1))
HALVING = {
    "downsample": resample.downsample,
    "conv_downsample": lambda x: resample.conv_downsample(x, KERNEL),
    "average_downsample": resample.average_downsample,
    "conv_average_downsample": lambda x: resample.conv_average_downsample(x, KERNEL),
}


@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("name", HALVING)
def test_a_side_that_cannot_be_halved_is_refused(name, side):
    def halve(height, width):
        return jax.eval_shape(HALVING[name], jnp.ones((1, height, width, 2))).shape

    if "average" not in name and side > 1:
        assert halve(side, 4)[1:3] == (1, 2)
        return
    allowed = "even" if "average" in name else "at least 2"
    for height, width in ((side, 4), (4, side)):
        message = rf"^{name}: a map of {height}x{width}.*\(1, {height}, {width}, 2\).*{allowed}"
        with pytest.raises(ValueError, match=message):
            halve(height, width)


@pytest.mark.parametrize("side", [(8, 6), (7, 5)])
@pytest.mark.parametrize("change", [{"up": 2}, {"down": 2}, {}])
def test_a_tpus_way_is_the_same(side, change):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *side, 3)), jnp.float32)
    axes = []
    for n in side:
        up, down = change.get("up", 1), change.get("down", 1)
        axes.append(
            resample._Fir(n, (n * up + 3 - 4) // down + 1, (0.5, 1.0, 2.0, 3.0), up, down, 2)
        )
    for fir in (tuple(axes), tuple(f.adjoint for f in axes)):
        y = x if fir[0].inputs == side[0] else resample._shifted(tuple(axes), x)
        np.testing.assert_allclose(
            resample._depthwise(fir, y), resample._shifted(fir, y), rtol=1e-5, atol=1e-5
        )
