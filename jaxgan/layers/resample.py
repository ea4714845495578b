"""Resampling by two, with FIR filters or without, alone and together with a convolution.

The filters are StyleGAN2's (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN",
2020, arXiv:1912.04958), with the padding and gain of its official upfirdn2d: a filter is given by
its taps along one axis, of which only the ratios matter, and maps are padded with zeros. R3GAN uses
the default too: its official code convolves the [1, 2, 1] of its options with [1, 1].

A filter runs along one axis after the other, as a sum of shifted maps for each phase of the larger
map: on a CPU a depthwise convolution takes more than fifty times as long. The derivative, to any
order, is the adjoint filter and as fast. It cannot be differentiated forward (`jax.jvp`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgan.layers.conv import conv, conv_transpose

Taps = tuple[float, ...]
TAPS: Taps = (1, 3, 3, 1)


def upsample(x: Array, taps: Taps = TAPS) -> Array:
    """[B, H, W, C] -> [B, 2 H, 2 W, C]: inserts zeros, then filters with gain 4."""
    return _resample(x, taps, (len(taps) + 1) // 2, (len(taps) - 2) // 2, up=2, gain=4)


def downsample(x: Array, taps: Taps = TAPS) -> Array:
    """[B, H, W, C] -> [B, H / 2, W / 2, C]: filters and keeps every other row and column.

    Sides are rounded down. Raises ValueError if one is less than 2.
    """
    _check_sides("downsample", x)
    return _resample(x, taps, (len(taps) - 1) // 2, (len(taps) - 2) // 2, down=2)


def blur(x: Array, taps: Taps = TAPS) -> Array:
    """[B, H, W, C] -> [B, H, W, C]: filters; StyleGAN's taps are (1, 2, 1)."""
    return _resample(x, taps, len(taps) // 2, (len(taps) - 1) // 2)


def upsample_conv(x: Array, w: Array, taps: Taps = TAPS) -> Array:
    """Doubles the side and convolves, as StyleGAN2's generator does.

    A transposed convolution with stride 2, then the filter with gain 4. The kernel is used as
    PyTorch's conv_transpose2d uses it, as in the official PyTorch code: mirrored, where `conv`
    does not mirror it.

    Args:
      x: [B, H, W, I], floating point.
      w: [k, k, I, O], k odd.
      taps: of the filter.

    Returns:
      [B, 2 H, 2 W, O].
    """
    kernel = w.shape[0]
    before = kernel // 2 + (len(taps) + 1) // 2 - (kernel - 1)
    after = kernel // 2 + (len(taps) - 2) // 2 - (kernel - 2)
    y = conv_transpose(x, w.swapaxes(2, 3), 2)
    return _resample(y, taps, before, after, gain=4)


def conv_downsample(x: Array, w: Array, taps: Taps = TAPS) -> Array:
    """Convolves and halves the side, as StyleGAN2's discriminator does.

    The filter, then a convolution with stride 2.

    Args:
      x: [B, H, W, I], floating point.
      w: [k, k, I, O], k odd.
      taps: of the filter.

    Returns:
      [B, H / 2, W / 2, O], rounded down.

    Raises:
      ValueError: if a side is less than 2.
    """
    _check_sides("conv_downsample", x)
    if w.shape[:2] == (1, 1):
        return conv(downsample(x, taps), w)
    around = w.shape[0] // 2
    x = _resample(x, taps, around + (len(taps) - 1) // 2, around + (len(taps) - 2) // 2)
    return conv(x, w, 2)


def nearest_upsample(x: Array) -> Array:
    """[B, H, W, C] -> [B, 2 H, 2 W, C]: repeats every pixel four times."""
    return x.repeat(2, 1).repeat(2, 2)


def average_downsample(x: Array) -> Array:
    """[B, H, W, C] -> [B, H / 2, W / 2, C]: means of 2x2. Raises ValueError for odd sides."""
    _check_sides("average_downsample", x, even=True)
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def nearest_upsample_conv(x: Array, w: Array) -> Array:
    """Computes `conv` of `nearest_upsample` with less than half of the multiplications.

    Args:
      x: [B, H, W, I], floating point.
      w: [3, 3, I, O].

    Returns:
      [B, 2 H, 2 W, O].
    """
    return conv_transpose(x, jnp.flip(_widened(w), (0, 1)).swapaxes(2, 3), 2, 1)


def conv_average_downsample(x: Array, w: Array) -> Array:
    """Computes `average_downsample` of `conv` with less than half of the multiplications.

    Args:
      x: [B, H, W, I], floating point.
      w: [3, 3, I, O].

    Returns:
      [B, H / 2, W / 2, O].

    Raises:
      ValueError: if a side is odd.
    """
    _check_sides("conv_average_downsample", x, even=True)
    return conv(x, _widened(w) / 4, 2, 1)


def _check_sides(name: str, x: Array, *, even: bool = False) -> None:
    height, width = x.shape[1:3]
    if min(height, width) < 2 or (even and (height % 2 or width % 2)):
        allowed = "even" if even else "at least 2"
        raise ValueError(
            f"{name}: a map of {height}x{width}, of the input {x.shape}, cannot be halved; both "
            f"sides must be {allowed}"
        )


def _widened(w: Array) -> Array:
    """[3, 3, I, O] -> [4, 4, I, O]: the kernel, convolved with a 2x2 of ones."""
    for axis in (0, 1):
        around = [(0, 0)] * w.ndim
        ahead, behind = [*around], [*around]
        ahead[axis], behind[axis] = (0, 1), (1, 0)
        w = jnp.pad(w, ahead) + jnp.pad(w, behind)
    return w


class _Fir(NamedTuple):
    """A filter along one axis. Output o is the sum over t of taps[t] * z[down * o + t - before],
    where z[up * i] is input i and all else is zero."""

    inputs: int
    outputs: int
    taps: Taps
    up: int
    down: int
    before: int

    @property
    def adjoint(self) -> _Fir:
        before = len(self.taps) - 1 - self.before
        return _Fir(self.outputs, self.inputs, self.taps[::-1], self.down, self.up, before)


def _resample(x, taps, before, after, *, up=1, down=1, gain=1):
    """`gain` is that of both axes."""
    if len(taps) < 2:
        raise ValueError(f"a filter has at least 2 taps and got {taps}; (1, 3, 3, 1) is usual")
    # Convolution mirrors a filter.
    scaled = tuple(tap * gain**0.5 / sum(taps) for tap in reversed(taps))
    axes = tuple(
        _Fir(n, (n * up + before + after - len(taps)) // down + 1, scaled, up, down, before)
        for n in x.shape[1:3]
    )
    return _separable(axes, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _separable(axes: tuple[_Fir, _Fir], x: Array) -> Array:
    everywhere, tpu = _ways(axes)
    return lax.platform_dependent(x, tpu=tpu, default=everywhere)


# The same functions for the same filters, so that JAX traces each of them once.
@functools.cache
def _ways(axes: tuple[_Fir, _Fir]) -> tuple[Callable[[Array], Array], ...]:
    return functools.partial(_shifted, axes), functools.partial(_depthwise, axes)


def _depthwise(axes: tuple[_Fir, _Fir], x: Array) -> Array:
    """One convolution of every channel by itself, in the dtype of x: a TPU has no maps to store."""
    down, across = axes
    kernel = jnp.outer(jnp.asarray(down.taps), jnp.asarray(across.taps)).astype(x.dtype)
    around = [
        (f.before, f.down * (f.outputs - 1) + len(f.taps) - f.before - f.up * (f.inputs - 1) - 1)
        for f in axes
    ]
    return lax.conv_general_dilated(
        x,
        jnp.broadcast_to(kernel[..., None, None], (*kernel.shape, 1, x.shape[-1])),
        [f.down for f in axes],
        around,
        [f.up for f in axes],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _shifted(axes: tuple[_Fir, _Fir], x: Array) -> Array:
    """Sums of shifted maps, an axis after the other, in float32 or better."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, fir in enumerate(axes, 1):
        wide = _by_phases(fir, wide, axis)
    return wide.astype(x.dtype)


def _forward(axes, x):
    return _separable(axes, x), None


def _backward(axes, _, d):
    return (_separable(tuple(fir.adjoint for fir in axes), d),)


_separable.defvjp(_forward, _backward)


def _by_phases(fir: _Fir, x: Array, axis: int) -> Array:
    rows = -(-fir.outputs // fir.up)
    # For each phase, the taps by which output up * q + phase reads input down * q + shift.
    read = [
        [
            (tap, (phase * fir.down + t - fir.before) // fir.up)
            for t, tap in enumerate(fir.taps)
            if (phase * fir.down + t - fir.before) % fir.up == 0
        ]
        for phase in range(fir.up)
    ]
    shifts = [shift for pairs in read for _, shift in pairs]
    ahead = -min(shifts)
    span = fir.down * (rows - 1) + 1
    around = [(0, 0, 0)] * x.ndim
    around[axis] = (ahead, max(shifts) + span - fir.inputs, 0)  # negative ones crop
    x = lax.pad(x, jnp.zeros((), x.dtype), around)

    def shifted(shift):
        start = ahead + shift
        return lax.slice_in_dim(x, start, start + span, fir.down, axis)

    phases = [sum(tap * shifted(shift) for tap, shift in pairs) for pairs in read]
    if fir.up == 1:
        return phases[0]
    y = jnp.stack(phases, axis + 1)
    y = y.reshape(*x.shape[:axis], rows * fir.up, *x.shape[axis + 1 :])
    return lax.slice_in_dim(y, 0, fir.outputs, 1, axis)
