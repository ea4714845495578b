"""Grouped convolution: every group of channels has its kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgan.layers import cpu
from jaxgan.layers.conv import kernel_of
from jaxgan.layers.cpu import grouped, lowering
from jaxgan.layers.cpu.lowering import Axis

LANES = 128
"""Channels that a TPU computes at a time; smaller groups would leave the rest of them idle."""


def grouped_conv(x: Array, w: Array, *, by_xla: bool = False) -> Array:
    """Convolves every group of channels by itself; the size stays.

    It cannot be differentiated forward (`jax.jvp`).

    Args:
      x: [B, H, W, I], floating point.
      w: [k, k, I / groups, O], k odd, the outputs of the first group first; cast to the dtype of
        `x`. A PyTorch weight [O, I / groups, k, k] becomes this by `permute(2, 3, 1, 0)`.
      by_xla: as in `conv.conv`.

    Returns:
      [B, H, W, O] in the dtype of `x`.

    Raises:
      ValueError: if the channels cannot be divided into such groups.
    """
    inputs, (*_, size, outputs) = x.shape[-1], w.shape
    if inputs % size or outputs % (inputs // size):
        raise ValueError(
            f"grouped_conv: {inputs} channels into {outputs} cannot be divided into groups of "
            f"{size}; use multiples of {size}"
        )
    run = (
        functools.partial(_by_xla, inputs // size)
        if by_xla
        else functools.partial(_conv, inputs // size)
    )
    return run(x, w.astype(x.dtype))


# Two bilinear maps closed under differentiation, as in `bilinear.py`. The derivative by x is a
# convolution of y with mirrored kernels, so no third map is needed.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(groups: int, x: Array, w: Array) -> Array:
    """[B, H, W, I] and [k, k, I / groups, O] -> [B, H, W, O]."""
    here, tpu, elsewhere = _ways_of_conv(groups)
    return lax.platform_dependent(x, w, cpu=here, tpu=tpu, default=elsewhere)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weights(groups: int, kernel: int, x: Array, y: Array) -> Array:
    """[B, H, W, I] and [B, H, W, O] -> [k, k, I / groups, O]."""
    here, tpu, elsewhere = _ways_of_weights(groups, kernel)
    return lax.platform_dependent(x, y, cpu=here, tpu=tpu, default=elsewhere)


# The same functions for the same groups, so that JAX traces each of them once.
@functools.cache
def _ways_of_conv(groups):
    here = cpu.wide(functools.partial(grouped.conv, groups))
    return here, functools.partial(_in_lanes, groups), functools.partial(_by_xla, groups)


@functools.cache
def _ways_of_weights(groups, kernel):
    here = cpu.wide(functools.partial(grouped.weights, groups, kernel))
    tpu = functools.partial(_weights_in_lanes, groups, kernel)
    return here, tpu, functools.partial(_weights_by_xla, groups, kernel)


def _by_xla(groups: int, x: Array, w: Array) -> Array:
    window = tuple(Axis(side, w.shape[0], 1, w.shape[0] // 2) for side in x.shape[1:3])
    return lowering.conv_by_xla(window, x, w, groups)


def _weights_by_xla(groups: int, kernel: int, x: Array, y: Array) -> Array:
    shape = (kernel, kernel, x.shape[-1] // groups, y.shape[-1])
    conv = functools.partial(_by_xla, groups, x)
    return jax.linear_transpose(conv, jax.ShapeDtypeStruct(shape, x.dtype))(y)[0]


def _side(groups: int, x: Array, y: Array) -> int:
    """How many groups are computed as one, so that they fill the lanes; 1 if that is not so."""
    inputs, outputs = x.shape[-1] // groups, y.shape[-1] // groups
    side = LANES // inputs if inputs == outputs and LANES % inputs == 0 else 1
    return side if side > 1 and groups % side == 0 else 1


def _in_lanes(groups: int, x: Array, w: Array) -> Array:
    """With kernels that are zero between the groups that are computed as one."""
    side, (kernel, _, size, outputs) = _side(groups, x, w), w.shape
    if side == 1:
        return _by_xla(groups, x, w)
    apart = w.reshape(kernel, kernel, size, groups // side, side, size)
    joined = jnp.einsum("hwigno,mn->hwmigno", apart, jnp.eye(side, dtype=w.dtype))
    return _by_xla(groups // side, x, joined.reshape(kernel, kernel, LANES, outputs))


def _weights_in_lanes(groups: int, kernel: int, x: Array, y: Array) -> Array:
    side, size = _side(groups, x, y), x.shape[-1] // groups
    if side == 1:
        return _weights_by_xla(groups, kernel, x, y)
    joined = _weights_by_xla(groups // side, kernel, x, y)
    joined = joined.reshape(kernel, kernel, side, size, groups // side, side, size)
    w = jnp.einsum("hwmigmo->hwigmo", joined)
    return w.reshape(kernel, kernel, size, -1)


def _mirrored(groups: int, w: Array) -> Array:
    """[k, k, I / groups, O] -> [k, k, O / groups, I]."""
    apart = jnp.flip(w, (0, 1)).reshape(*w.shape[:3], groups, -1)
    return apart.transpose(0, 1, 4, 3, 2).reshape(*w.shape[:2], apart.shape[-1], -1)


def _conv_forward(groups, x, w):
    return _conv(groups, x, w), (x, w)


def _conv_back(groups, saved, d):
    x, w = saved
    return _conv(groups, d, _mirrored(groups, w)), _weights(groups, w.shape[0], x, d)


def _weights_forward(groups, kernel, x, y):
    return _weights(groups, kernel, x, y), (x, y)


def _weights_back(groups, _, saved, d):
    x, y = saved
    return _conv(groups, y, _mirrored(groups, d)), _conv(groups, x, d)


_conv.defvjp(_conv_forward, _conv_back)
_weights.defvjp(_weights_forward, _weights_back)


class GroupedConv(nn.Module):
    """Grouped convolution with "kernel" [k, k, group, features], float32, and no bias.

    Attributes:
      features: number of output channels.
      group: how many channels a group has.
      kernel: extent of the kernel, odd.
      kernel_init: its initializer.
    """

    features: int
    group: int = 16
    kernel: int = 3
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, I] -> [B, H, W, features]. Raises ValueError if groups do not fit."""
        return grouped_conv(x, kernel_of(self, x, self.group, self.features))
