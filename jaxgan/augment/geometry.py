"""ADA's blitting and geometric transformations: one affine map for each picture.

Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020,
arXiv:2006.06676, appendix B. As in the official code the maps are composed first and the pictures
sampled once, which leaves flips, quarter turns and whole pixels exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.augment.wrapper import normal
from jaxgan.core import Array

DRAWS = 18
"""How many numbers `affine_maps` takes."""


def affine_maps(
    uniform: Iterator[Array],
    p: Array | float,
    height: int,
    width: int,
    *,
    blit: float,
    geometric: float,
) -> Array:
    """Draws maps from positions (x, y, 1) of the result to those of the picture.

    Positions are in pixels from the middle.

    Args:
      uniform: arrays [B] of numbers in [0, 1), of which `DRAWS` are taken.
      p: probability of each transformation, in [0, 1].
      height: of the pictures.
      width: of the pictures.
      blit: multiplies p for flips, quarter turns and translation by whole pixels.
      geometric: multiplies p for scaling, rotation, anisotropic scaling and translation.

    Returns:
      [B, 3, 3].
    """

    def with_probability(share, value, neutral):
        return jnp.where(next(uniform) < share, value, neutral)

    def symmetric():
        return 2 * next(uniform) - 1

    def turn(share):
        angle = with_probability(share, jnp.pi * symmetric(), 0)
        return _rotation(jnp.cos(angle), jnp.sin(angle))

    share = blit * p
    flip = with_probability(share, jnp.where(next(uniform) < 0.5, -1.0, 1.0), 1)
    quarters = with_probability(share, jnp.floor(4 * next(uniform)), 0).astype(jnp.int32)
    # From a table: the cosine of a quarter turn would not be 0.
    cosine, sine = (jnp.array(table)[quarters] for table in ([1.0, 0, -1, 0], [0.0, 1, 0, -1]))
    pixels = [jnp.round(0.125 * side * symmetric()) for side in (width, height)]
    moved = with_probability(share, jnp.stack(pixels), 0)
    maps = [_scaling(flip, jnp.ones_like(flip)), _rotation(cosine, sine), _translation(*moved)]

    share = geometric * p
    either = 1 - jnp.sqrt(1 - share)  # of two rotations, so that one of them happens with p
    smaller = with_probability(share, 2 ** (-0.2 * normal(next(uniform))), 1)
    first = turn(either)
    narrower = with_probability(share, 2 ** (-0.2 * normal(next(uniform))), 1)
    second = turn(either)
    distances = [0.125 * side * normal(next(uniform)) for side in (width, height)]
    moved = with_probability(share, jnp.stack(distances), 0)
    maps += [
        _scaling(smaller, smaller),
        first,
        _scaling(narrower, 1 / narrower),
        second,
        _translation(*moved),
    ]
    product = maps[0]
    for factor in maps[1:]:
        product = jnp.matmul(product, factor, precision=lax.Precision.HIGHEST)
    return product


def _matrix(a, b, x, c, d, y):
    zero, one = jnp.zeros_like(a), jnp.ones_like(a)
    return jnp.stack([a, b, x, c, d, y, zero, zero, one], -1).reshape(-1, 3, 3)


def _scaling(x, y):
    zero = jnp.zeros_like(x)
    return _matrix(x, zero, zero, zero, y, zero)


def _rotation(cosine, sine):
    zero = jnp.zeros_like(cosine)
    return _matrix(cosine, -sine, zero, sine, cosine, zero)


def _translation(x, y):
    zero, one = jnp.zeros_like(x), jnp.ones_like(x)
    return _matrix(one, zero, x, zero, one, y)


def warp(image: Array, maps: Array) -> Array:
    """Samples pictures [B, H, W, C] where maps [B, 3, 3] of `affine_maps` point.

    Bilinear; beyond the middle of the outermost pixels the picture is reflected, without end. The
    official code also doubles the side before and halves it after, with wavelet filters against
    aliasing; that is left out.
    """
    height, width = image.shape[1:3]
    x = jnp.arange(width) - (width - 1) / 2
    y = (jnp.arange(height) - (height - 1) / 2)[:, None]
    seen_x, seen_y = (
        maps[:, row, :1, None] * x + maps[:, row, 1:2, None] * y + maps[:, row, 2:, None]
        for row in range(2)
    )
    return sample(image, seen_y + (height - 1) / 2, seen_x + (width - 1) / 2)


def sample(image: Array, y: Array, x: Array) -> Array:
    """Reads pictures [B, H, W, C] between their pixels, at rows y and columns x [B, h, w]."""
    batch, height, width, channels = image.shape
    y, x = _reflected(y, height), _reflected(x, width)
    top, left = (jnp.clip(jnp.floor(c), 0, n - 2) for c, n in ((y, height), (x, width)))
    flat = image.reshape(batch, height * width, channels)
    corner = (top * width + left).astype(jnp.int32)

    # On a CPU a gather is fast, and so is its derivative, a scatter.
    def at(offset):
        return jax.vmap(lambda flat, index: flat.at[index].get(mode="promise_in_bounds"))(
            flat, corner + offset
        )

    down, right = ((c - first)[..., None].astype(image.dtype) for c, first in ((y, top), (x, left)))
    upper = (1 - right) * at(0) + right * at(1)
    lower = (1 - right) * at(width) + right * at(width + 1)
    return (1 - down) * upper + down * lower


def _reflected(position: Array, size: int) -> Array:
    period = 2 * (size - 1)
    position = jnp.abs(position) % period
    return jnp.minimum(position, period - position)
