"""Grouped convolution: every group of channels has a kernel of its own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgan.layers.conv import cast


def grouped_conv(x: Array, w: Array) -> Array:
    """Convolves every group of channels by itself; the size stays.

    On a CPU XLA's own weight gradient is a thousand times slower than this one, which is products
    of matrices, a batch of one for each group; it cannot be differentiated forward (`jax.jvp`).

    Args:
      x: [B, H, W, I], floating point.
      w: [k, k, I / groups, O], k odd, the outputs of the first group first; cast to the dtype of
        `x`. A PyTorch weight [O, I / groups, k, k] becomes this by `permute(2, 3, 1, 0)`.

    Returns:
      [B, H, W, O] in the dtype of `x`.

    Raises:
      ValueError: if the channels cannot be divided into such groups.
    """
    inputs, (kernel, _, size, outputs) = x.shape[-1], w.shape
    if inputs % size or outputs % (inputs // size):
        raise ValueError(
            f"grouped_conv: {inputs} channels into {outputs} cannot be divided into groups of "
            f"{size}; use multiples of {size}"
        )
    groups = inputs // size
    if jax.default_backend() != "cpu":
        around = [((kernel - 1) // 2, kernel // 2)] * 2
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x,
            w.astype(x.dtype),
            (1, 1),
            around,
            dimension_numbers=layout,
            feature_group_count=groups,
        )
    wide = jnp.promote_types(x.dtype, jnp.float32)
    by_group = w.astype(x.dtype).astype(wide).reshape(kernel, kernel, size, groups, -1)
    y = _conv(_split(x.astype(wide), groups), by_group.transpose(3, 0, 1, 2, 4))
    return _join(y).astype(x.dtype)


class GroupedConv(nn.Module):
    """Grouped convolution with "kernel" [k, k, group, features], float32, and no bias.

    Attributes:
      features: number of output channels.
      group: how many channels a group has.
      kernel: extent of the kernel, odd.
      kernel_init: its initialiser.
      dtype: dtype of the computation and the result; None keeps the input's.
    """

    features: int
    group: int = 16
    kernel: int = 3
    kernel_init: Callable = nn.initializers.lecun_normal()
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, I] -> [B, H, W, features]. Raises ValueError if groups do not fit."""
        shape = (self.kernel, self.kernel, self.group, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        return grouped_conv(cast(x, self.dtype), kernel)


def _split(x: Array, groups: int) -> Array:
    """[B, H, W, G * I] -> [G, B, H, W, I]."""
    return x.reshape(*x.shape[:3], groups, -1).transpose(3, 0, 1, 2, 4)


def _join(y: Array) -> Array:
    """[G, B, H, W, O] -> [B, H, W, G * O]."""
    return y.transpose(1, 2, 3, 0, 4).reshape(*y.shape[1:4], -1)


# Two bilinear maps closed under differentiation: with the maps x [G, B, H, W, I] and
# y [G, B, H, W, O] and the kernels w [G, k, k, I, O], both are read off one trilinear form, as in
# `bilinear.py`; what leaves out x is the first again, with mirrored kernels.


@jax.custom_vjp
def _conv(x: Array, w: Array) -> Array:
    """One product for what each row adds to the k rows around it, and their sum."""
    groups, batch, height, width, _ = x.shape
    kernel, outputs = w.shape[1], w.shape[-1]
    rows = _along(x, 3, kernel)
    columns = math.prod(w.shape[2:4])
    w = w.transpose(0, 2, 3, 1, 4).reshape(groups, columns, kernel * outputs)
    y = (rows.reshape(groups, -1, columns) @ w).reshape(*x.shape[:4], kernel, outputs)
    half = kernel // 2
    around = [(0, 0)] * 2 + [(half, half)] + [(0, 0)] * 2
    return sum(jnp.pad(y[..., i, :], around)[:, :, i : i + height] for i in range(kernel))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weights(kernel: int, x: Array, y: Array) -> Array:
    """One product of what each position sees along its row with what sees it along its column."""
    groups, inputs, outputs = x.shape[0], x.shape[-1], y.shape[-1]
    rows = _along(x, 3, kernel).reshape(groups, -1, kernel * inputs)
    columns = _along(y, 2, kernel).reshape(groups, -1, kernel * outputs)
    w = rows.swapaxes(1, 2) @ columns
    w = w.reshape(groups, kernel, inputs, kernel, outputs)
    # y's row i + half sees x's row as one above it: from below.
    return jnp.flip(w, 3).transpose(0, 3, 1, 2, 4)


def _along(x: Array, axis: int, kernel: int) -> Array:
    """Each position's neighbours along an axis: [G, B, H, W, C] -> [G, B, H, W, k * C]."""
    half, size = kernel // 2, x.shape[axis]
    around = [(0, 0)] * x.ndim
    around[axis] = (half, half)
    x = jnp.pad(x, around)
    return jnp.concatenate([lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(kernel)], -1)


def _mirrored(w: Array) -> Array:
    return jnp.flip(w, (1, 2)).swapaxes(3, 4)


def _conv_back(saved, d):
    x, w = saved
    return _conv(d, _mirrored(w)), _weights(w.shape[1], x, d)


def _weights_back(_, saved, d):
    x, y = saved
    return _conv(y, _mirrored(d)), _conv(x, d)


_conv.defvjp(lambda x, w: (_conv(x, w), (x, w)), _conv_back)
_weights.defvjp(lambda kernel, x, y: (_weights(kernel, x, y), (x, y)), _weights_back)
