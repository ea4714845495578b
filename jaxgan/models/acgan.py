"""ACGAN. Odena, Olah and Shlens, "Conditional Image Synthesis with Auxiliary Classifier GANs",
2016, arXiv:1610.09585.

The defaults are the paper's networks for CIFAR-10; `generator_widths=768,384,256,192` are those for
ImageNet. As many doublings are taken as leave the generator a start of 4 pixels or more, so that 28
px begins at 7. Left out is the noise on the activations. Each tag is a yes-or-no question.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import optax
from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim
from jaxgan.core import Gan, Plan, Scores, Update
from jaxgan.data import DataSpec, require_labels
from jaxgan.errors import UsageError
from jaxgan.layers.conv import Conv, ConvTranspose, Dense
from jaxgan.layers.norm import BatchNorm
from jaxgan.models.common import dropout, fold, noise_gan


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: tables 1 and 2 of the paper's appendix."""

    conditional: ClassVar[bool] = True
    latent_size: int = 100
    generator_widths: tuple[int, ...] = (384, 192, 96)
    discriminator_widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    dropout: float = 0.5  # in the discriminator
    label_weight: float = 1.0  # of classifying, for both players
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    ema_half_life: float = 0.0  # images; 0: the last weights are the average


_normal = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """Latents [B, Z] and labels [B, K] to images [B, size, size, channels] in [-1, 1]."""

    widths: tuple[int, ...]
    size: int
    channels: int

    @nn.compact
    def __call__(self, z, label, context):
        side = self.size >> len(self.widths)
        x = Dense(side * side * self.widths[0], kernel_init=_normal)(
            jnp.concatenate([z, label], -1)
        )
        x = nn.relu(x).reshape(-1, side, side, self.widths[0])
        for width in self.widths[1:]:
            x = nn.relu(BatchNorm()(self._double(width)(x), train=context.train))
        return jnp.tanh(self._double(self.channels)(x))

    def _double(self, features):
        return ConvTranspose(
            features, 5, stride=2, padding=2, output_padding=1, kernel_init=_normal
        )


class Discriminator(nn.Module):
    """Images [B, size, size, channels] to one score, and logits of the K labels, each."""

    widths: tuple[int, ...]
    labels: int
    dropout: float

    @nn.compact
    def __call__(self, image, label, context):
        x = image
        for number, width in enumerate(self.widths):
            x = Conv(width, 3, stride=2 - number % 2, padding=1, kernel_init=_normal)(x)
            x = BatchNorm()(x, train=context.train) if number else x
            x = nn.leaky_relu(x, 0.2)
            if context.train:
                x = dropout(x, fold(context.rng, number), self.dropout)
        x = x.reshape(len(x), -1)
        heads = Dense(1 + self.labels, kernel_init=_normal)(x)
        return Scores(heads[:, 0], label_logits=heads[:, 1:], features=x)


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns an ACGAN for pictures whose side is even and at least 8.

    Raises:
      DataError: if the data have no labels.
      UsageError: if the side cannot be halved.
    """
    require_labels(data, model="acgan")
    if data.size % 2 or data.size < 8:
        raise UsageError(
            f"acgan cannot work at {data.size} px: the side must be even and at least 8; try "
            f"--image_size={max(8, data.size + data.size % 2)}"
        )
    doublings = max(
        n
        for n in range(1, 1 + len(config.generator_widths))
        if data.size % 2**n == 0 and data.size >> n >= 4
    )
    adam = optax.adam(config.learning_rate, config.beta1, config.beta2)
    classify_real = functools.partial(losses.classify_real, kind=data.label_kind)
    classify_fake = functools.partial(losses.classify_fake, kind=data.label_kind)
    return noise_gan(
        Generator(config.generator_widths[:doublings], data.size, data.channels),
        Discriminator(config.discriminator_widths, len(data.label_names), config.dropout),
        data=data,
        latent_size=config.latent_size,
        conditional=True,
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (1.0, losses.minimax_discriminator),
                    "real_label": (config.label_weight, classify_real),
                    "fake_label": (config.label_weight, classify_fake),
                    **losses.PROBABILITIES,
                },
            ),
            Update(
                "generator",
                {
                    "adversarial": (1.0, losses.nonsaturating_generator),
                    "fake_label": (config.label_weight, classify_fake),
                },
            ),
        ),
        optimizers={"generator": adam, "discriminator": adam},
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
    )
