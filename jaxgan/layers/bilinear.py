"""Three bilinear maps closed under differentiation: convolution, transpose, weight gradient.

With the large map `x` [B, *size, I], the small map `y` [B, *outputs, O] and the kernel `w`
[*kernel, I, O], all three are read off one trilinear form

    sum over b, i and taps t of  x[b, stride * i + t - padding] . w[t] . y[b, i]

by leaving out one of its arguments. The derivative of each is therefore the other two, to any
order, and each is computed in the way that is fastest on a CPU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
from jax import Array

from jaxgan.layers import lowering
from jaxgan.layers.lowering import Window

# The rules are crossings of curves that `benchmarks/convolutions.py` measures. A product of patch
# matrices runs at full speed for any shape, but the matrix is prod(kernel) / prod(stride) times
# as large as the map, so it wins where maps are small: up to this many positions of the small map.
_CONV_BY_PRODUCT = 16
_TRANSPOSE_BY_PRODUCT = 64
# XLA's convolution computes sixteen output channels at a time; for these few a product is better.
_FEW_CHANNELS = 4


def _conv(window: Window, x: Array, w: Array) -> Array:
    if _is_product(window) or _positions(window) <= _CONV_BY_PRODUCT:
        return lowering.conv_by_product(window, x, w)
    if w.shape[-1] <= _FEW_CHANNELS and _is_dense(window):
        return lowering.conv_turned(window, x, w)
    return lowering.conv_by_parts(window, x, w)


def _conv_transpose(window: Window, y: Array, w: Array) -> Array:
    few = w.shape[-2] <= _FEW_CHANNELS or _positions(window) <= _TRANSPOSE_BY_PRODUCT
    apart = all(a.kernel <= a.stride for a in window)  # no two taps meet: nothing to sum
    if _is_product(window) or few or apart:
        return lowering.conv_transpose_by_product(window, y, w)
    return lowering.conv_transpose_by_phases(window, y, w)


def _conv_weights(window: Window, x: Array, y: Array) -> Array:
    if _is_product(window):
        return lowering.weights_by_product(window, x, y)
    if y.shape[-1] <= _FEW_CHANNELS and _is_dense(window):
        return lowering.weights_turned(window, x, y)
    return lowering.weights_by_groups(window, x, y)


def _is_product(window: Window) -> bool:
    return lowering.covers(window) or all(a.kernel == 1 for a in window)


def _is_dense(window: Window) -> bool:
    return all(a.stride == 1 for a in window)


def _positions(window: Window) -> int:
    return math.prod(a.outputs for a in window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def conv(window: Window, x: Array, w: Array) -> Array:
    """[B, *size, I], [*kernel, I, O] -> [B, *outputs, O], two spatial dimensions."""
    return _conv(window, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def conv_transpose(window: Window, y: Array, w: Array) -> Array:
    """[B, *outputs, O], [*kernel, I, O] -> [B, *size, I], two spatial dimensions."""
    return _conv_transpose(window, y, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def conv_weights(window: Window, x: Array, y: Array) -> Array:
    """[B, *size, I], [B, *outputs, O] -> [*kernel, I, O], two spatial dimensions."""
    return _conv_weights(window, x, y)


def _saving(function: Callable[..., Array]):
    return lambda window, a, b: (function(window, a, b), (a, b))


def _conv_back(window, saved, d):
    x, w = saved
    return conv_transpose(window, d, w), conv_weights(window, x, d)


def _conv_transpose_back(window, saved, d):
    y, w = saved
    return conv(window, d, w), conv_weights(window, d, y)


def _conv_weights_back(window, saved, d):
    x, y = saved
    return conv_transpose(window, y, d), conv(window, x, d)


conv.defvjp(_saving(_conv), _conv_back)
conv_transpose.defvjp(_saving(_conv_transpose), _conv_transpose_back)
conv_weights.defvjp(_saving(_conv_weights), _conv_weights_back)
