"""What GANs that grow have in common: their schedule, fading, and pictures of another size.

Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
arXiv:1710.10196, section 2 and appendix A.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxgan.core import Array, Gan, Objective, Plan, Stage
from jaxgan.errors import UsageError
from jaxgan.layers.resample import average_downsample, nearest_upsample
from jaxgan.models.common import power_of_two

SMALLEST = 4


class Fade(NamedTuple):
    """How a stage's new layers fade in, linearly in the images that the stage has seen."""

    first: int  # finished steps when it begins
    batch_size: int
    images: float  # until they count alone; 0: from the start

    def alpha(self, step: Array) -> Array:
        """Returns what the new layers count for after `step` steps, in [0, 1]."""
        if not self.images:
            return jnp.ones(())
        return jnp.clip((step - self.first) * (self.batch_size / self.images), 0, 1)

    def blend(self, old: Array, new: Array, step: Array) -> Array:
        """Returns what the old layers and the new ones make together."""
        return old + (new - old) * self.alpha(step).astype(new.dtype)


class Part(NamedTuple):
    """When and how pictures of one size are trained on."""

    size: int
    batch_size: int
    first: int  # finished steps when it begins
    fade: Fade | None  # None for the first part


def schedule(
    who: str,
    size: int,
    start_size: int,
    batch_size: int,
    batch_sizes: Sequence[int],
    fade_images: float,
    stable_images: float,
) -> tuple[Part, ...]:
    """Returns the parts of a training that doubles the size until it is that of the pictures.

    Args:
      who: the model, for errors.
      size: of the pictures.
      start_size: where the training begins.
      batch_size: at most that many pictures at a time.
      batch_sizes: and at most these at 4, 8, 16, ... px; the last one at all larger sizes, too.
      fade_images: how many real ones each size but the first is faded in over.
      stable_images: and how many follow before the next one.

    Raises:
      UsageError: if a size is not a power of two or the start is beyond the end.
    """
    _check_sizes(who, size, start_size)
    parts, first, side = [], 0, start_size
    while side <= size:
        number = int(math.log2(side // SMALLEST))
        batch = min(batch_size, batch_sizes[min(number, len(batch_sizes) - 1)])
        fade = Fade(first, batch, fade_images) if parts else None
        parts.append(Part(side, batch, first, fade))
        first += math.ceil((stable_images + (fade_images if fade else 0)) / batch)
        side *= 2
    return tuple(parts)


def stages(
    who: str, size: int, config, plan: Plan, gan: Callable[[Part], Gan]
) -> tuple[Stage, ...]:
    """Returns the stages of the schedule in a model's Config, each with the Gan of its part.

    Raises:
      UsageError: as `schedule`.
    """
    parts = schedule(
        who,
        size,
        config.start_size,
        plan.batch_size,
        config.batch_sizes,
        config.fade_images,
        config.stable_images,
    )
    return tuple(
        Stage(shown_at(gan(part), size, part), part.size, part.batch_size, part.first)
        for part in parts
    )


def watched(part: Part) -> Objective:
    """Returns the metric "alpha" of a part that fades in."""
    fade = part.fade
    return {} if fade is None else {"alpha": (0.0, lambda view: fade.alpha(view.step))}


def _check_sizes(who, size, start_size):
    power_of_two(who, size)
    if not SMALLEST <= start_size <= size or start_size & (start_size - 1):
        raise UsageError(
            f"{who} cannot start at {start_size} px: start_size must be a power of two, from 4 to "
            f"the pictures' {size}; try --set start_size=4"
        )


def shown_at(gan: Gan, size: int, part: Part) -> Gan:
    """Fits a part's Gan to data that stay at their final size.

    In training real pictures are shrunk by averaging and, while the part fades in, blended with
    what the part before would have seen of them. In use generated ones are repeated up to the final
    size and clipped to [-1, 1], and the discriminator shrinks what it judges.
    """

    def prepare(batch, context):
        image = _shrunk(batch["image"], part.size)
        if part.fade is not None:
            coarse = nearest_upsample(average_downsample(image))
            image = part.fade.blend(coarse, image, context.step)
        return {**batch, "image": image}

    def generate(variables, batch, context):
        fake, stats = gan.generate(variables, batch, context)
        return (fake if context.train else fake._replace(image=_in_use(fake.image, size))), stats

    def score(variables, image, label, context):
        return gan.score(variables, _shrunk(image, part.size), label, context)

    def synthesise(variables, w, context):
        return _in_use(gan.style.synthesise(variables, w, context), size)

    style = None if gan.style is None else gan.style._replace(synthesise=synthesise)
    return gan._replace(prepare=prepare, generate=generate, score=score, style=style)


def _shrunk(image, size):
    while image.shape[1] > size:
        image = average_downsample(image)
    return image


def _in_use(image, size):
    while image.shape[1] < size:
        image = nearest_upsample(image)
    return jnp.clip(image, -1, 1)
