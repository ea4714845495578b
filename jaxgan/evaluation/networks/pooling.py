"""Maxima over windows of 3x3, by shifted slices.

XLA's own have a gradient that takes a CPU three times as long (0.42 s against 0.13 s for
[64, 32, 32, 64] at stride 2 on two cores), half of a small ResNet's step.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jax import Array


def max_pool(x: Array, stride: int, padding: int = 0) -> Array:
    """[B, H, W, C] -> [B, h, w, C], h = (H + 2 padding - 3) // stride + 1; padding never wins."""
    for axis in (1, 2):
        around = [(padding, padding) if i == axis else (0, 0) for i in range(x.ndim)]
        x = jnp.pad(x, around, constant_values=-jnp.inf)
        span = stride * ((x.shape[axis] - 3) // stride) + 1
        before = (slice(None),) * axis
        x = functools.reduce(
            jnp.maximum, (x[*before, slice(i, i + span, stride)] for i in range(3))
        )
    return x
