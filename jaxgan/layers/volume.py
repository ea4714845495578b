"""Convolutions of volumes through convolutions of images, which XLA's CPU backend runs better.

The depth's taps become channels: a volume is cut into one image for each output depth, with the
slices that this depth looks at side by side as channels [B, D, H, W, I] -> [B d, H, W, k I]. The
copies are k / stride times the volume, where patches of all three dimensions would be k^3 /
stride^3 times.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgan.layers import bilinear
from jaxgan.layers.lowering import Axis, Window


def conv(window: Window, x: Array, w: Array) -> Array:
    """[B, *size, I], [*kernel, I, O] -> [B, *outputs, O], three spatial dimensions."""
    depth, *plane = window
    y = bilinear.conv(tuple(plane), _stack(depth, x), _flat(w))
    return y.reshape(x.shape[0], depth.outputs, *y.shape[1:])


def conv_transpose(window: Window, y: Array, w: Array) -> Array:
    """[B, *outputs, O], [*kernel, I, O] -> [B, *size, I], three spatial dimensions."""
    depth, *plane = window
    x = bilinear.conv_transpose(tuple(plane), y.reshape(-1, *y.shape[2:]), _flat(w))
    return _unstack(depth, x)


def _flat(w: Array) -> Array:
    """[k, h, w, I, O] -> [h, w, k I, O]."""
    _, height, width, _, outputs = w.shape
    return w.transpose(1, 2, 0, 3, 4).reshape(height, width, -1, outputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _stack(depth: Axis, x: Array) -> Array:
    """[B, size, H, W, I] -> [B outputs, H, W, kernel I]."""
    x = _pad(x, depth.padding, depth.span + depth.kernel - 1 - depth.size - depth.padding)
    slices = [x[:, t : t + depth.span : depth.stride] for t in range(depth.kernel)]
    x = jnp.concatenate(slices, -1)
    return x.reshape(-1, *x.shape[2:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _unstack(depth: Axis, x: Array) -> Array:
    """[B outputs, H, W, kernel I] -> [B, size, H, W, I]: the transpose of `_stack`."""
    *plane, channels = x.shape[1:]
    x = x.reshape(-1, depth.outputs, *plane, depth.kernel, channels // depth.kernel)
    batch, _, *plane, _, channels = x.shape

    def phase(first, offset):
        total = jnp.zeros((batch, depth.rows, *plane, channels), x.dtype)
        for tap in range(first, depth.kernel, depth.stride):
            shift = tap // depth.stride - offset
            total += _pad(x[..., tap, :], shift, depth.rows - depth.outputs - shift)
        return total

    x = jnp.stack([phase(*starts) for starts in depth.phases()], 2)
    return x.reshape(batch, -1, *plane, channels)[:, : depth.size]


_stack.defvjp(lambda depth, x: (_stack(depth, x), None), lambda depth, _, d: (_unstack(depth, d),))
_unstack.defvjp(
    lambda depth, x: (_unstack(depth, x), None), lambda depth, _, d: (_stack(depth, d),)
)


def _pad(x: Array, low: int, high: int) -> Array:
    """Pads the depth with zeros; negative numbers crop."""
    unchanged = [(0, 0, 0)] * (x.ndim - 2)
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (low, high, 0), *unchanged])
