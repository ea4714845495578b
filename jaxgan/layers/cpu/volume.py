"""Convolutions of volumes through convolutions of images, which XLA's CPU backend runs better.

The depth's taps become channels: a volume is cut into one image for each output depth, with the
slices that this depth reads side by side as channels [B, D, H, W, I] -> [B d, H, W, k I]. The
copies are k / stride times as large as the volume, where patches in all three dimensions would be
k^3 / stride^3 times.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxgan.layers.cpu import images, lowering
from jaxgan.layers.cpu.lowering import Axis, Window


def conv(window: Window, x: Array, w: Array) -> Array:
    """[B, *size, I], [*kernel, I, O] -> [B, *outputs, O], three spatial dimensions."""
    depth, *plane = window
    y = images.conv(tuple(plane), _stack(depth, x), _flat(w))
    return y.reshape(x.shape[0], depth.outputs, *y.shape[1:])


def conv_transpose(window: Window, y: Array, w: Array) -> Array:
    """[B, *outputs, O], [*kernel, I, O] -> [B, *size, I], three spatial dimensions."""
    depth, *plane = window
    x = images.conv_transpose(tuple(plane), y.reshape(-1, *y.shape[2:]), _flat(w))
    return _unstack(depth, x)


def conv_weights(window: Window, x: Array, y: Array) -> Array:
    """[B, *size, I], [B, *outputs, O] -> [*kernel, I, O], three spatial dimensions."""
    depth, *plane = window
    w = images.conv_weights(tuple(plane), _stack(depth, x), y.reshape(-1, *y.shape[2:]))
    height, width, _, outputs = w.shape
    w = w.reshape(height, width, depth.kernel, -1, outputs)
    return w.transpose(2, 0, 1, 3, 4)


def _flat(w: Array) -> Array:
    """[k, h, w, I, O] -> [h, w, k I, O]."""
    _, height, width, _, outputs = w.shape
    return w.transpose(1, 2, 0, 3, 4).reshape(height, width, -1, outputs)


def _stack(depth: Axis, x: Array) -> Array:
    """[B, size, H, W, I] -> [B outputs, H, W, kernel I]."""
    after = depth.span + depth.kernel - 1 - depth.size - depth.padding
    x = lowering.pad(x, [(depth.padding, after)])
    slices = [x[:, t : t + depth.span : depth.stride] for t in range(depth.kernel)]
    x = jnp.concatenate(slices, -1)
    return x.reshape(-1, *x.shape[2:])


def _unstack(depth: Axis, x: Array) -> Array:
    """[B outputs, H, W, kernel I] -> [B, size, H, W, I]: the transpose of `_stack`."""
    *plane, channels = x.shape[1:]
    x = x.reshape(-1, depth.outputs, *plane, depth.kernel, channels // depth.kernel)
    batch, _, *plane, _, channels = x.shape

    def phase(first, offset):
        total = jnp.zeros((batch, depth.rows, *plane, channels), x.dtype)
        for tap in range(first, depth.kernel, depth.stride):
            shift = tap // depth.stride - offset
            around = [(shift, depth.rows - depth.outputs - shift)]
            total += lowering.pad(x[..., tap, :], around)
        return total

    x = jnp.stack([phase(*starts) for starts in depth.phases()], 2)
    return x.reshape(batch, -1, *plane, channels)[:, : depth.size]
