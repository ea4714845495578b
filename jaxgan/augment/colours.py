"""ADA's colour transformations: one affine map of colours for each picture.

Karras et al., 2020, arXiv:2006.06676, appendix B; the ranges are those of the official code.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgan.augment.wrapper import normal
from jaxgan.core import Array
from jaxgan.errors import UsageError

DRAWS = 10
"""How many numbers `colour_maps` takes."""

# The grey axis: what lies along it is brightness, what lies across it colour.
_GREY = np.zeros((4, 4), np.float32)
_GREY[:3, :3] = 1 / 3
_ACROSS = np.eye(4, dtype=np.float32) - _GREY - np.diag([0, 0, 0, 1]).astype(np.float32)
_TURN = np.zeros((4, 4), np.float32)  # the cross product with the grey axis
_TURN[:3, :3] = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
_OFFSET, _GAIN = np.zeros((2, 4, 4), np.float32)
_OFFSET[:3, 3] = 1
_GAIN[:3, :3] = np.eye(3)


def colour_maps(uniform: Iterator[Array], p: Array | float) -> Array:
    """Draws maps [B, 4, 4] of colours (red, green, blue, 1).

    Brightness, contrast, luma flip, hue rotation and saturation, in this order.

    Args:
      uniform: numbers in [0, 1), each [B], of which it takes `DRAWS`.
      p: probability of each, in [0, 1].
    """

    def drawn():
        return next(uniform)[:, None, None]

    def if_drawn(change):
        return jnp.where(drawn() < p, change, 0)

    angle = if_drawn(np.pi * (2 * drawn() - 1))
    # Each is the identity and a change, so that without a change it is the identity exactly.
    changes = [
        if_drawn(0.2 * normal(drawn())) * _OFFSET,
        if_drawn(2 ** (0.5 * normal(drawn())) - 1) * _GAIN,
        if_drawn(-2 * jnp.floor(2 * drawn())) * _GREY,
        (jnp.cos(angle) - 1) * _ACROSS + jnp.sin(angle) * _TURN,
        if_drawn(2 ** normal(drawn()) - 1) * _ACROSS,
    ]
    product = jnp.eye(4) + changes[0]
    for change in changes[1:]:
        product = jnp.matmul(jnp.eye(4) + change, product, precision=lax.Precision.HIGHEST)
    return product


def recolour(image: Array, maps: Array) -> Array:
    """Applies maps [B, 4, 4] to pictures [B, H, W, C] in [-1, 1], RGB or grey.

    A grey picture is treated as three equal channels, of which the mean is kept.

    Raises:
      UsageError: for another number of channels.
    """
    channels = image.shape[-1]
    if channels not in (1, 3):
        raise UsageError(
            f"pictures with {channels} channels have no colours to augment, only 1 or 3 do; "
            "use --augment=diffaug"
        )
    maps = maps.astype(image.dtype)
    matrix, offset = maps[:, :3, :3], maps[:, :3, 3]
    if channels == 1:
        gain, offset = (x.sum(axes) / 3 for x, axes in ((matrix, (1, 2)), (offset, 1)))
        return gain[:, None, None, None] * image + offset[:, None, None, None]
    mixed = jnp.einsum("bij,bhwj->bhwi", matrix, image, precision=lax.Precision.HIGHEST)
    return mixed + offset[:, None, None]
