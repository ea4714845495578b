"""ADA. Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020,
arXiv:2006.06676.

The paper's "bgc": pixel blitting, geometric and color transformations, each with probability p,
which follows how far the discriminator overfits. Cutout is there, too, and off, as in the paper's
choice; image-space filters and noise are left out. The official code lets p exceed 1, so that it
falls late when D stops overfitting; here p stays in [0, 1].

The controller reads the sign of a score as "real" or "generated". A Wasserstein critic's zero is
arbitrary, so its signs mean nothing: ADA is of no use there.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgan.augment import colors, geometry
from jaxgan.augment.wrapper import before_scoring, draws
from jaxgan.core import AXIS, Array, Gan, View, batch_mean

TARGET = 0.6
"""What r_t, the mean sign of the scores of real pictures, is led to (section 3.2)."""
INTERVAL = 4
"""Batches between two adjustments."""
ADJUSTMENT = 500_000
"""How many images it takes p to go from 0 to 1."""


class Pipe(NamedTuple):
    """Factors of the probability, one for each group of transformations; 0 leaves the group out."""

    blit: float = 1.0
    geometric: float = 1.0
    color: float = 1.0
    cutout: float = 0.0


BGC = Pipe()


def augment(image: Array, rng: Array, p: Array | float, pipe: Pipe = BGC) -> Array:
    """Returns the pictures, each changed at random and apart from the others; at p = 0 as they are.

    Args:
      image: [B, H, W, C] in [-1, 1], RGB or gray; the result may leave this range.
      rng: keys [B].
      p: probability of each transformation, in [0, 1].
      pipe: which ones.
    """
    uniform = iter(draws(rng, geometry.DRAWS + colors.DRAWS + 3))
    if pipe.blit or pipe.geometric:
        height, width = image.shape[1:3]
        maps = geometry.affine_maps(
            uniform, p, height, width, blit=pipe.blit, geometric=pipe.geometric
        )
        image = geometry.warp(image, maps)
    if pipe.color:
        image = colors.recolor(image, colors.color_maps(uniform, pipe.color * p))
    if pipe.cutout:
        image = _cutout(image, uniform, pipe.cutout * p)
    return image


def _cutout(image, uniform, p):
    """Sets a square of half the side, somewhere, to 0."""
    happens = next(uniform) < p
    rows, columns = (
        jnp.abs((jnp.arange(size) + 0.5) / size - next(uniform)[:, None]) < 0.25
        for size in image.shape[1:3]
    )
    hole = rows[:, :, None] & columns[:, None] & happens[:, None, None]
    return jnp.where(hole[..., None], 0, image)


def wrap(gan: Gan) -> Gan:
    """Returns a Gan whose discriminator sees pictures augmented with an adaptive probability.

    The memory "augment" has "p", and "signs" and "batches", the sum and the number of the mean
    signs since the last adjustment.
    """

    def transform(image, rng, context):
        return augment(image, rng, context.memory["augment"]["p"])

    gan = before_scoring(gan, transform, adapt)
    start = {"p": jnp.zeros(()), "signs": jnp.zeros(()), "batches": jnp.zeros((), jnp.int32)}
    return gan._replace(memory={**gan.memory, "augment": start})


def adapt(view: View) -> tuple[Array, dict]:
    """The controller as a term: the next p, and the memory that holds it (section 3.2).

    After every `INTERVAL` batches p goes up if the mean sign of the scores of real pictures exceeds
    `TARGET`, else down, by the number of images since the last time over `ADJUSTMENT`.
    """
    old, source = view.memory["augment"], view.on_real.source
    signs = old["signs"] + batch_mean(jnp.sign(source).reshape(len(source), -1).mean(1))
    batches = old["batches"] + 1
    due = batches == INTERVAL
    images = INTERVAL * len(source) * jax.lax.psum(1, AXIS)
    moved = old["p"] + jnp.sign(signs / INTERVAL - TARGET) * (images / ADJUSTMENT)
    p = jnp.where(due, jnp.clip(moved, 0, 1), old["p"])
    kept = {"signs": jnp.where(due, 0, signs), "batches": jnp.where(due, 0, batches)}
    return p, {"augment": {"p": p, **kept}}


def scheduled(gan: Gan, p: optax.Schedule, pipe: Pipe = BGC) -> Gan:
    """Returns a Gan whose discriminator sees pictures augmented with a probability p(step)."""

    def transform(image, rng, context):
        return augment(image, rng, p(context.step), pipe)

    return before_scoring(gan, transform, lambda view: jnp.asarray(p(view.step), jnp.float32))
