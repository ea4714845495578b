"""Three bilinear maps closed under differentiation: convolution, transpose, weight gradient.

With `x` the large map [B, *window.size, I], `y` the small map [B, *window.outputs, O] and `w` the
kernel [*window.kernel, I, O], all three are read off one trilinear form

    sum over b, i, t of  y[b, i] . w[t] . x[b, stride * i + t - padding]

by leaving out one of its arguments. The derivative of each is therefore the other two, to any
order. XLA's CPU backend runs the strided and dilated convolutions that it derives for these
gradients in a naive loop, a hundred times slower than a plain convolution; here every map is
written in terms of plain convolutions and matrix products instead.
"""

import functools
import math
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Window(NamedTuple):
    """The static part of a convolution: one integer a spatial dimension in each field.

    `size` is the extent of the large map (a convolution's input, a transposed one's output).
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def outputs(self) -> tuple[int, ...]:
        """Extent of the small map."""
        return tuple(
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(self.size, self.kernel, self.stride, self.padding, strict=True)
        )


def dimension_numbers(rank: int) -> tuple[str, str, str]:
    spatial = "DHW"[-rank:]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"


def xla_conv(window: Window, x: Array, w: Array) -> Array:
    """`conv` as XLA does it, for accelerators and as the oracle of the tests."""
    return lax.conv_general_dilated(
        x,
        w,
        window.stride,
        tuple((p, p) for p in window.padding),
        dimension_numbers=dimension_numbers(len(window.size)),
    )


def xla_conv_transpose(window: Window, y: Array, w: Array) -> Array:
    """`conv_transpose` as XLA does it, for accelerators and as the oracle of the tests."""
    spatial = tuple(range(w.ndim - 2))
    around = tuple(
        (k - 1 - p, n - 1 + p - s * (m - 1))
        for n, m, k, s, p in zip(
            window.size, window.outputs, window.kernel, window.stride, window.padding, strict=True
        )
    )
    return lax.conv_general_dilated(
        y,
        jnp.flip(w, spatial).swapaxes(-1, -2),
        (1,) * len(spatial),
        around,
        lhs_dilation=window.stride,
        dimension_numbers=dimension_numbers(len(spatial)),
    )


def _pad(x: Array, low: tuple[int, ...], high: tuple[int, ...]) -> Array:
    """Pads the spatial dimensions 1, 2, ... with zeros; negative numbers crop."""
    if not any(low) and not any(high):
        return x
    around = [(0, 0, 0), *((a, b, 0) for a, b in zip(low, high, strict=True))]
    around += [(0, 0, 0)] * (x.ndim - len(around))
    return lax.pad(x, jnp.zeros((), x.dtype), around)


def _covers(window: Window) -> bool:
    """Whether every patch is the whole large map: a dense layer."""
    return window.kernel == window.size and not any(window.padding)


def _is_pointwise(window: Window) -> bool:
    return not any(window.padding) and all(
        k == s == 1 for k, s in zip(window.kernel, window.stride, strict=True)
    )


def _patches(window: Window, x: Array) -> Array:
    """[B, *size, I] -> [B * prod(outputs), prod(kernel) * I]."""
    channels = x.shape[-1]
    columns = math.prod(window.kernel) * channels
    if _covers(window) or _is_pointwise(window):
        return x.reshape(-1, columns)
    outputs = window.outputs
    reach = tuple(
        s * (m - 1) + k for s, m, k in zip(window.stride, outputs, window.kernel, strict=True)
    )
    high = tuple(r - n - p for r, n, p in zip(reach, window.size, window.padding, strict=True))
    x = _pad(x, window.padding, high)
    taps = [
        x[
            (slice(None),)
            + tuple(
                slice(t, t + s * (m - 1) + 1, s)
                for t, s, m in zip(tap, window.stride, outputs, strict=True)
            )
        ]
        for tap in product(*map(range, window.kernel))
    ]
    return jnp.stack(taps, -2).reshape(-1, columns)


def _conv_by_product(window: Window, x: Array, w: Array) -> Array:
    y = _patches(window, x) @ w.reshape(-1, w.shape[-1])
    return y.reshape(x.shape[0], *window.outputs, w.shape[-1])


def _weights_by_product(window: Window, x: Array, y: Array) -> Array:
    w = _patches(window, x).T @ y.reshape(-1, y.shape[-1])
    return w.reshape(*window.kernel, x.shape[-1], y.shape[-1])


def _phases(window: Window) -> list[tuple[tuple[int, int], ...]]:
    """For each residue r of an output position: the first tap it takes and its input's offset.

    Output `stride * q + r` takes tap `stride * u + first` of input `q + offset - u`, u = 0, 1, ...
    """
    return [
        tuple(
            ((a + p) % s, (a + p) // s)
            for a, p, s in zip(r, window.padding, window.stride, strict=True)
        )
        for r in product(*map(range, window.stride))
    ]


def _interleave(window: Window, phases: list[Array]) -> Array:
    """prod(stride) maps [B, *ceil(size / stride), I] -> [B, *size, I]: depth to space."""
    rank = len(window.size)
    *shape, channels = phases[0].shape
    z = jnp.stack(phases, -2).reshape(*shape, *window.stride, channels)
    order = [0] + [axis for d in range(rank) for axis in (1 + d, 1 + rank + d)] + [1 + 2 * rank]
    extent = tuple(m * s for m, s in zip(shape[1:], window.stride, strict=True))
    z = z.transpose(order).reshape(shape[0], *extent, channels)
    return z[(slice(None), *(slice(n) for n in window.size))]


def _conv_transpose_by_phases(window: Window, y: Array, w: Array) -> Array:
    """One convolution of stride 1 for each phase, with the taps that reach it."""
    rank = len(window.size)
    rows = tuple(-(-n // s) for n, s in zip(window.size, window.stride, strict=True))
    w = w.swapaxes(-1, -2)

    def phase(starts):
        taps = w[tuple(slice(t, None, s) for (t, _), s in zip(starts, window.stride, strict=True))]
        if 0 in taps.shape:
            return jnp.zeros((y.shape[0], *rows, w.shape[-1]), y.dtype)
        around = tuple(
            (u - 1 - e, n + e - m)
            for u, (_, e), n, m in zip(taps.shape, starts, rows, window.outputs, strict=False)
        )
        return lax.conv_general_dilated(
            y,
            jnp.flip(taps, tuple(range(rank))),
            (1,) * rank,
            around,
            dimension_numbers=dimension_numbers(rank),
        )

    return _interleave(window, [phase(starts) for starts in _phases(window)])


def _conv_transpose_by_product(window: Window, y: Array, w: Array) -> Array:
    """One product gives what each input adds through each tap; shifted sums gather it."""
    batch, inputs = y.shape[0], w.shape[-2]
    taps = y.reshape(-1, y.shape[-1]) @ w.reshape(-1, w.shape[-1]).T
    if _covers(window) or _is_pointwise(window):
        return taps.reshape(batch, *window.size, inputs)
    taps = taps.reshape(batch, *window.outputs, *window.kernel, inputs)
    rows = tuple(-(-n // s) for n, s in zip(window.size, window.stride, strict=True))
    everywhere = (slice(None),) * (1 + len(window.size))

    def phase(starts):
        total = jnp.zeros((batch, *rows, inputs), y.dtype)
        ranges = (
            range(t, k, s)
            for (t, _), k, s in zip(starts, window.kernel, window.stride, strict=True)
        )
        for tap in product(*ranges):
            shift = tuple(
                t // s - e for t, s, (_, e) in zip(tap, window.stride, starts, strict=True)
            )
            end = tuple(n - m - a for n, m, a in zip(rows, window.outputs, shift, strict=True))
            total += _pad(taps[everywhere + tap], shift, end)
        return total

    return _interleave(window, [phase(starts) for starts in _phases(window)])


def _weights_by_conv(window: Window, x: Array, y: Array) -> Array:
    """Summed over groups of examples, so that the part of `y` in use stays in the cache."""
    batch = x.shape[0]
    groups = max(1, min(batch // 8, y.size * y.dtype.itemsize // 2**19))
    w = jax.ShapeDtypeStruct((*window.kernel, x.shape[-1], y.shape[-1]), x.dtype)
    total = 0
    for group in range(groups):
        part = slice(group * batch // groups, (group + 1) * batch // groups)
        total += jax.linear_transpose(functools.partial(xla_conv, window, x[part]), w)(y[part])[0]
    return total


def _is_small(window: Window, most: int) -> bool:
    return math.prod(window.outputs) <= most


def _in_float32(function):
    """Sums in float32 at least; the result has the dtype of the first argument."""

    @functools.wraps(function)
    def wrapped(window, a, b):
        dtype = jnp.promote_types(a.dtype, jnp.float32)
        return function(window, a.astype(dtype), b.astype(dtype)).astype(a.dtype)

    return wrapped


@_in_float32
def _conv(window: Window, x: Array, w: Array) -> Array:
    if _covers(window) or _is_pointwise(window) or _is_small(window, 16):
        return _conv_by_product(window, x, w)
    return xla_conv(window, x, w)


@_in_float32
def _transposed(window: Window, y: Array, w: Array) -> Array:
    if _covers(window) or _is_pointwise(window) or _is_small(window, 64) or w.shape[-2] <= 4:
        return _conv_transpose_by_product(window, y, w)
    return _conv_transpose_by_phases(window, y, w)


@_in_float32
def _weights(window: Window, x: Array, y: Array) -> Array:
    if _covers(window) or _is_pointwise(window):
        return _weights_by_product(window, x, y)
    return _weights_by_conv(window, x, y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def bilinear_conv(window: Window, x: Array, w: Array) -> Array:
    """[B, *size, I], [*kernel, I, O] -> [B, *outputs, O]."""
    return _conv(window, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def bilinear_conv_transpose(window: Window, y: Array, w: Array) -> Array:
    """[B, *outputs, O], [*kernel, I, O] -> [B, *size, I]."""
    return _transposed(window, y, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def bilinear_weights(window: Window, x: Array, y: Array) -> Array:
    """[B, *size, I], [B, *outputs, O] -> [*kernel, I, O]."""
    return _weights(window, x, y)


bilinear_conv.defvjp(
    lambda window, x, w: (_conv(window, x, w), (x, w)),
    lambda window, saved, d: (
        bilinear_conv_transpose(window, d, saved[1]),
        bilinear_weights(window, saved[0], d),
    ),
)
bilinear_conv_transpose.defvjp(
    lambda window, y, w: (_transposed(window, y, w), (y, w)),
    lambda window, saved, d: (
        bilinear_conv(window, d, saved[1]),
        bilinear_weights(window, d, saved[0]),
    ),
)
bilinear_weights.defvjp(
    lambda window, x, y: (_weights(window, x, y), (x, y)),
    lambda window, saved, d: (
        bilinear_conv_transpose(window, saved[1], d),
        bilinear_conv(window, saved[0], d),
    ),
)
