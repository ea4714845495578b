"""What GANs that grow have in common: their schedule, fading, and pictures of another size.

Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
arXiv:1710.10196, section 2 and appendix A.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from jaxgan.core import Array, Gan, Objective, Plan, Stage
from jaxgan.errors import UsageError
from jaxgan.layers.equalized import SQRT2, EqualizedConv, EqualizedDense, leaky_relu
from jaxgan.layers.minibatch import minibatch_stddev
from jaxgan.layers.resample import (
    average_downsample,
    blur,
    conv_average_downsample,
    nearest_upsample,
)
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


class Phase(NamedTuple):
    """When and how pictures of one size are trained on."""

    size: int
    batch_size: int
    first: int  # finished steps when it begins
    fade: Fade | None  # None for the first phase


def schedule(
    model: str,
    size: int,
    start_size: int,
    batch_size: int,
    batch_sizes: Sequence[int],
    fade_images: float,
    stable_images: float,
) -> tuple[Phase, ...]:
    """Returns the phases of a training that doubles the size until it is that of the pictures.

    Args:
      model: its name, for errors.
      size: of the pictures.
      start_size: where the training begins.
      batch_size: at most that many pictures at a time.
      batch_sizes: and at most these at 4, 8, 16, ... px; the last one at all larger sizes, too.
      fade_images: how many real ones each size but the first is faded in over.
      stable_images: and how many follow before the next one.

    Raises:
      UsageError: if a size is not a power of two or the start is beyond the end.
    """
    _check_sizes(model, size, start_size)
    phases: list[Phase] = []
    first, side = 0, start_size
    while side <= size:
        number = int(math.log2(side // SMALLEST))
        batch = min(batch_size, batch_sizes[min(number, len(batch_sizes) - 1)])
        fade = Fade(first, batch, fade_images) if phases else None
        phases.append(Phase(side, batch, first, fade))
        first += math.ceil((stable_images + (fade_images if fade else 0)) / batch)
        side *= 2
    return tuple(phases)


def stages(
    model: str, size: int, config: Any, plan: Plan, gan: Callable[[Phase], Gan]
) -> tuple[Stage, ...]:
    """Returns the stages of the schedule in a model's Config, each with the Gan of its phase.

    Raises:
      UsageError: as `schedule`.
    """
    phases = schedule(
        model,
        size,
        config.start_size,
        plan.batch_size,
        config.batch_sizes,
        config.fade_images,
        config.stable_images,
    )
    return tuple(
        Stage(_at_full_size(gan(phase), size, phase), phase.size, phase.batch_size, phase.first)
        for phase in phases
    )


def alpha_metric(phase: Phase) -> Objective:
    """Returns the metric "alpha" of a phase that fades in."""
    fade = phase.fade
    return {} if fade is None else {"alpha": (0.0, lambda view: fade.alpha(view.step))}


def _check_sizes(model, size, start_size):
    power_of_two(model, size)
    if not SMALLEST <= start_size <= size or start_size & (start_size - 1):
        raise UsageError(
            f"{model} cannot start at {start_size} px: start_size must be a power of two, from 4 "
            f"to the pictures' {size}; try --set start_size=4"
        )


def _at_full_size(gan: Gan, size: int, phase: Phase) -> Gan:
    """Fits a phase's Gan to data that stay at their final size.

    In training real pictures are shrunk by averaging and, while the phase fades in, blended with
    what the phase before would have seen of them. In use generated ones are repeated up to the
    final size and clipped to [-1, 1], and the discriminator shrinks what it judges.
    """

    def prepare(batch, context):
        image = _shrink(batch["image"], phase.size)
        if phase.fade is not None:
            coarse = nearest_upsample(average_downsample(image))
            image = phase.fade.blend(coarse, image, context.step)
        return {**batch, "image": image}

    def generate(variables, batch, context):
        fake, stats = gan.generate(variables, batch, context)
        return (fake if context.train else fake._replace(image=_enlarge(fake.image, size))), stats

    def score(variables, image, label, context):
        return gan.score(variables, _shrink(image, phase.size), label, context)

    def synthesize(variables, w, context):
        return _enlarge(gan.style.synthesize(variables, w, context), size)

    style = None if gan.style is None else gan.style._replace(synthesize=synthesize)
    return gan._replace(prepare=prepare, generate=generate, score=score, style=style)


def _shrink(image, size):
    while image.shape[1] > size:
        image = average_downsample(image)
    return image


def _enlarge(image, size):
    while image.shape[1] < size:
        image = nearest_upsample(image)
    return jnp.clip(image, -1, 1)


def channels(width: int, side: int) -> int:
    """Returns `width` up to 32 px, half of it at 64, a quarter at 128, ..."""
    return max(1, width * 32 // max(32, side))


class Down(nn.Module):
    """[B, H, W, C] to [B, H / 2, W / 2, features].

    Attributes:
      features: channels of the result.
      taps: of the filter that blurs before the side is halved; none: no filter.
    """

    features: int
    taps: tuple[int, ...] | None

    @nn.compact
    def __call__(self, x):
        x = leaky_relu(EqualizedConv(x.shape[-1], 3, padding=1, gain=SQRT2)(x), 1.0)
        x = x if self.taps is None else blur(x, self.taps)
        conv = EqualizedConv(self.features, 3, convolve=conv_average_downsample, gain=SQRT2)
        return leaky_relu(conv(x), 1.0)


def judge(
    discriminator: nn.Module, image: Array, step: Array, outputs: int, taps: tuple[int, ...] | None
) -> Array:
    """Returns numbers [B, outputs] for images [B, size, size, C]; its layers belong to the module.

    Args:
      discriminator: with the attributes `width`, `size`, `group` and `fade`.
      image: what it sees.
      step: finished steps, for the fade.
      outputs: how many numbers.
      taps: as in `Down`.
    """
    width, fade = discriminator.width, discriminator.fade

    def read(image):
        side = image.shape[1]
        conv = EqualizedConv(channels(width, side), 1, gain=SQRT2, name=f"image_{side}")
        return leaky_relu(conv(image), 1.0)

    x, side = read(image), discriminator.size
    while side > SMALLEST:
        side //= 2
        x = Down(channels(width, side), taps, name=f"down_{2 * side}")(x)
        if 2 * side == discriminator.size and fade is not None:
            x = fade.blend(read(average_downsample(image)), x, step)
    # Parameters may be made with any batch.
    group = None if discriminator.is_initializing() else discriminator.group
    x = minibatch_stddev(x, group=group)
    features = channels(width, SMALLEST)
    x = leaky_relu(EqualizedConv(features, 3, padding=1, gain=SQRT2, name="conv_4")(x), 1.0)
    x = EqualizedDense(features, gain=SQRT2, name="dense_4")(x.reshape(len(x), -1))
    return EqualizedDense(outputs, name="heads")(leaky_relu(x, 1.0))
