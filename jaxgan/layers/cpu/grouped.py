"""Grouped convolution on a CPU: products of matrices, a batch of one for each group.

XLA's own weight gradient takes a thousand times as long there.
"""

from __future__ import annotations

import functools
import math
import operator

import jax.numpy as jnp
from jax import Array, lax


def conv(groups: int, x: Array, w: Array) -> Array:
    """[B, H, W, I] and [k, k, I / groups, O] -> [B, H, W, O].

    A product gives what each row adds to the k rows around it; shifted sums gather it.
    """
    x, w = _apart(groups, x), _apart(groups, w)
    _, batch, height, width, _ = x.shape
    kernel, outputs = w.shape[1], w.shape[-1]
    rows = _along(x, 3, kernel)
    columns = math.prod(w.shape[2:4])
    w = w.transpose(0, 2, 3, 1, 4).reshape(groups, columns, kernel * outputs)
    y = (rows.reshape(groups, -1, columns) @ w).reshape(*x.shape[:4], kernel, outputs)
    half = kernel // 2
    around = [(0, 0)] * 2 + [(half, half)] + [(0, 0)] * 2
    parts = (jnp.pad(y[..., i, :], around)[:, :, i : i + height] for i in range(kernel))
    return _together(functools.reduce(operator.add, parts))


def weights(groups: int, kernel: int, x: Array, y: Array) -> Array:
    """[B, H, W, I] and [B, H, W, O] -> [k, k, I / groups, O].

    A product of each position's neighbors along a row of x with those along a column of y.
    """
    x, y = _apart(groups, x), _apart(groups, y)
    inputs, outputs = x.shape[-1], y.shape[-1]
    rows = _along(x, 3, kernel).reshape(groups, -1, kernel * inputs)
    columns = _along(y, 2, kernel).reshape(groups, -1, kernel * outputs)
    w = rows.swapaxes(1, 2) @ columns
    w = w.reshape(groups, kernel, inputs, kernel, outputs)
    # A row of y that is below a row of x reads it as a row above: the taps are reversed.
    return _together(jnp.flip(w, 3).transpose(0, 3, 1, 2, 4))


def _apart(groups: int, x: Array) -> Array:
    """[a, b, c, groups * d] -> [groups, a, b, c, d]."""
    return x.reshape(*x.shape[:3], groups, -1).transpose(3, 0, 1, 2, 4)


def _together(x: Array) -> Array:
    """[groups, a, b, c, d] -> [a, b, c, groups * d]."""
    return x.transpose(1, 2, 3, 0, 4).reshape(*x.shape[1:4], -1)


def _along(x: Array, axis: int, kernel: int) -> Array:
    """Each position's neighbors along an axis: [G, B, H, W, C] -> [G, B, H, W, k * C]."""
    half, size = kernel // 2, x.shape[axis]
    around = [(0, 0)] * x.ndim
    around[axis] = (half, half)
    x = jnp.pad(x, around)
    return jnp.concatenate([lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(kernel)], -1)
