"""Puts an augmentation between the pictures and the discriminator of any Gan."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.core import Array, Context, Gan, Term, Update
from jaxgan.errors import UsageError

METRIC = "augment_p"
"""The metric of how much a discriminator's pictures are augmented."""
_SALT = 0xA06  # so that what the network draws from the same keys, such as dropout, is independent


def before_scoring(
    gan: Gan, transform: Callable[[Array, Array, Context], Array], amount: Term
) -> Gan:
    """Returns a Gan whose discriminator sees augmented pictures, real and fake, while it trains.

    The transformation is a part of the score: the generator's gradient passes through it, and a
    penalty takes the slope at the picture before it, as in NVIDIA's code. A penalty scores all its
    pictures with the keys of the real ones. So if the transformation is affine in the pixels, a
    transformed mixture is the mixture of two pictures that were transformed alike.

    Args:
      gan: any Gan for images.
      transform: (image [B, H, W, C] in [-1, 1], keys [B], context) -> image.
      amount: a term for the metric "discriminator/augment_p".

    Raises:
      UsageError: if the Gan augments already.
    """
    if any(METRIC in update.objective for update in gan.updates):
        raise UsageError(
            "this model augments its pictures already; use --augment=none, or turn its own "
            "augmentation off (--set augment=0)"
        )

    def score(variables, image, label, context):
        if context.train:
            if image.ndim != 4:
                raise UsageError(f"only images can be augmented, and these are {image.shape}")
            keys = jax.vmap(jax.random.fold_in, (0, None))(context.rng, _SALT)
            image = transform(image, keys, context)
        return gan.score(variables, image, label, context)

    return gan._replace(score=score, updates=_measured(gan.updates, amount))


def _measured(updates: tuple[Update, ...], term: Term) -> tuple[Update, ...]:
    """Adds a term without weight to the discriminator's update that is played most often."""
    numbers = [n for n, update in enumerate(updates) if update.player == "discriminator"]
    number = min(numbers, key=lambda n: updates[n].every)
    objective = {**updates[number].objective, METRIC: (0.0, term)}
    return (
        *updates[:number],
        updates[number]._replace(objective=objective),
        *updates[number + 1 :],
    )


def draws(rng: Array, count: int) -> Array:
    """Returns `count` uniform numbers in [0, 1) for each of the keys [B], as [count, B].

    All at once, because on a CPU each draw takes long to compile.
    """
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(rng).T


def normal(uniform: Array) -> Array:
    """Maps uniform numbers in [0, 1) to standard normal ones."""
    return math.sqrt(2) * lax.erf_inv(jnp.maximum(2 * uniform - 1, -1 + 1e-7))
