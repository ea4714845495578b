"""DiffAugment. Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020,
arXiv:2006.10738.

Every picture is changed in every way, with the ranges of the official code. `strength`, which the
official code lacks, scales all ranges; 0 changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.augment.wrapper import before_scoring, draws
from jaxgan.core import Array, Gan


def color(image: Array, rng: Array, strength: float) -> Array:
    """Shifts brightness by up to .5, then scales saturation by 0 to 2 and contrast by .5 to 1.5.

    Saturation is the distance from the pixel's mean, contrast that from the picture's mean.
    """
    brightness, saturation, contrast = (strength * (draws(rng, 3) - 0.5))[..., None, None, None]
    # Written as changes that are added, so that strength 0 changes no bit.
    image = image + brightness
    image = image + 2 * saturation * (image - image.mean(-1, keepdims=True))
    return image + contrast * (image - image.mean((1, 2, 3), keepdims=True))


def translation(image: Array, rng: Array, strength: float) -> Array:
    """Moves by whole pixels, up to an eighth of the side, rounded; uncovered pixels are 0."""
    shape = image.shape[1:]
    limits = [_rounded(side / 8) for side in shape[:2]]
    most = jnp.array(limits)
    by = jnp.floor(draws(rng, 2).T * (2 * most + 1)) - most
    by = jnp.trunc(strength * by).astype(jnp.int32)
    around = [(limit, limit) for limit in limits] + [(0, 0)]

    def move(image, by):
        return lax.dynamic_slice(jnp.pad(image, around), (*(most + by), 0), shape)

    return jax.vmap(move)(image, by)


def cutout(image: Array, rng: Array, strength: float) -> Array:
    """Sets a square of half the side, rounded, to 0; part of it may lie outside the picture."""

    def inside(size, uniform):
        half = _rounded(size / 2)
        middle = jnp.floor(uniform * (size + 1 - half % 2))[:, None]
        length = jnp.trunc(strength * half)
        ahead = jnp.arange(size) - (middle - length // 2)
        return (ahead >= 0) & (ahead < length)

    rows, columns = map(inside, image.shape[1:3], draws(rng, 2))
    return jnp.where((rows[:, :, None] & columns[:, None])[..., None], 0, image)


def _rounded(pixels):
    return int(pixels + 0.5)


Transform = Callable[[Array, Array, float], Array]
POLICY: tuple[Transform, ...] = (color, translation, cutout)
"""All three, the paper's choice for most data."""


def augment(
    image: Array, rng: Array, policy: tuple[Transform, ...] = POLICY, strength: float = 1.0
) -> Array:
    """Changes each picture by its own random numbers.

    Args:
      image: [B, H, W, C] in [-1, 1].
      rng: keys [B].
      policy: transformations, in the order in which they are applied.
      strength: of all transformations, in [0, 1].

    Returns:
      [B, H, W, C]; numbers may leave [-1, 1].
    """
    for number, transform in enumerate(policy):
        keys = jax.vmap(jax.random.fold_in, (0, None))(rng, number)
        image = transform(image, keys, strength)
    return image


def wrap(gan: Gan) -> Gan:
    """Returns a Gan whose discriminator sees pictures changed by all of `POLICY`."""

    def transform(image, rng, context):
        return augment(image, rng)

    return before_scoring(gan, transform, lambda view: jnp.ones(()))
