"""ADA's color transformations: one affine map of colors for each picture.

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
"""How many numbers `color_maps` takes."""

# Along the gray axis lies brightness, across it color.
_GRAY = np.zeros((4, 4), np.float32)
_GRAY[:3, :3] = 1 / 3
_ACROSS = np.eye(4, dtype=np.float32) - _GRAY - np.diag([0, 0, 0, 1]).astype(np.float32)
_TURN = np.zeros((4, 4), np.float32)  # the cross product with the gray axis
_TURN[:3, :3] = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
_OFFSET, _GAIN = np.zeros((2, 4, 4), np.float32)
_OFFSET[:3, 3] = 1
_GAIN[:3, :3] = np.eye(3)


def color_maps(uniform: Iterator[Array], p: Array | float) -> Array:
    """Draws maps of colors (red, green, blue, 1).

    They change brightness and contrast, flip luma, rotate hue and change saturation, in this order.

    Args:
      uniform: arrays [B] of numbers in [0, 1), of which `DRAWS` are taken.
      p: probability of each change, in [0, 1].

    Returns:
      [B, 4, 4].
    """

    def draw():
        return next(uniform)[:, None, None]

    def with_probability_p(change):
        return jnp.where(draw() < p, change, 0)

    angle = with_probability_p(np.pi * (2 * draw() - 1))
    # Added to the identity, so that no change is the identity to the last bit.
    changes = [
        with_probability_p(0.2 * normal(draw())) * _OFFSET,
        with_probability_p(2 ** (0.5 * normal(draw())) - 1) * _GAIN,
        with_probability_p(-2 * jnp.floor(2 * draw())) * _GRAY,
        (jnp.cos(angle) - 1) * _ACROSS + jnp.sin(angle) * _TURN,
        with_probability_p(2 ** normal(draw()) - 1) * _ACROSS,
    ]
    product = jnp.eye(4) + changes[0]
    for change in changes[1:]:
        product = jnp.matmul(jnp.eye(4) + change, product, precision=lax.Precision.HIGHEST)
    return product


def recolor(image: Array, maps: Array) -> Array:
    """Applies maps [B, 4, 4] to pictures [B, H, W, C] in [-1, 1], RGB or gray.

    A gray picture counts as three equal channels; the result is the mean of the three.

    Raises:
      UsageError: if there are neither 1 nor 3 channels.
    """
    channels = image.shape[-1]
    if channels not in (1, 3):
        raise UsageError(
            f"pictures with {channels} channels have no colors to augment, only 1 or 3 do; "
            "use --augment=diffaug"
        )
    maps = maps.astype(image.dtype)
    matrix, offset = maps[:, :3, :3], maps[:, :3, 3]
    if channels == 1:
        gain, offset = (x.sum(axes) / 3 for x, axes in ((matrix, (1, 2)), (offset, 1)))
        return gain[:, None, None, None] * image + offset[:, None, None, None]
    mixed = jnp.einsum("bij,bhwj->bhwi", matrix, image, precision=lax.Precision.HIGHEST)
    return mixed + offset[:, None, None]
