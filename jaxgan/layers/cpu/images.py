"""Convolution, transposed convolution and weight gradient of images on a CPU, by size.

Each is computed in the way of `lowering.py` that is fastest there.
"""

from __future__ import annotations

import math

from jax import Array

from jaxgan.layers.cpu import lowering
from jaxgan.layers.cpu.lowering import Window

# The rules are crossings of curves that `benchmarks/convolutions.py` measures. A product of patch
# matrices runs at full speed for any shape, but the matrix is prod(kernel) / prod(stride) times
# as large as the map, so it wins where maps are small: up to this many positions of the small map.
_CONV_BY_PRODUCT = 16
_TRANSPOSE_BY_PRODUCT = 64
# XLA's convolution computes sixteen output channels at a time; for these few a product is better.
_FEW_CHANNELS = 4


def conv(window: Window, x: Array, w: Array) -> Array:
    """[B, H, W, I], [k, k, I, O] -> [B, h, w, O]."""
    if _is_product(window) or _positions(window) <= _CONV_BY_PRODUCT:
        return lowering.conv_by_product(window, x, w)
    if w.shape[-1] <= _FEW_CHANNELS and _is_dense(window):
        return lowering.conv_turned(window, x, w)
    return lowering.conv_by_parts(window, x, w)


def conv_transpose(window: Window, y: Array, w: Array) -> Array:
    """[B, h, w, O], [k, k, I, O] -> [B, H, W, I]."""
    few = w.shape[-2] <= _FEW_CHANNELS or _positions(window) <= _TRANSPOSE_BY_PRODUCT
    apart = all(a.kernel <= a.stride for a in window)  # no two taps meet: nothing to sum
    if _is_product(window) or few or apart:
        return lowering.conv_transpose_by_product(window, y, w)
    return lowering.conv_transpose_by_phases(window, y, w)


def conv_weights(window: Window, x: Array, y: Array) -> Array:
    """[B, H, W, I], [B, h, w, O] -> [k, k, I, O]."""
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
