"""CGAN. Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014, arXiv:1411.1784.

Not the paper's maxout networks, but those that courses teach on MNIST: the label's embedding beside
the latent and beside the flat image, leaky ReLU, dropout.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import optax
from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim
from jaxgan.core import Gan, Plan, Scores, Update
from jaxgan.data import DataSpec, require_labels
from jaxgan.layers.conv import Dense
from jaxgan.models.common import dropout, fold, noise_gan, torch_dense


@dataclasses.dataclass(frozen=True)
class Config:
    """The course's numbers."""

    conditional: ClassVar[bool] = True
    latent_size: int = 100
    generator_widths: tuple[int, ...] = (256, 512, 1024)
    discriminator_widths: tuple[int, ...] = (1024, 512, 256)
    dropout: float = 0.3  # in the discriminator
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    ema_half_life: float = 0.0  # images; 0: the last weights are the average


def _with_label(x, label):
    """[B, F] and [B, K] to [B, F + K]: an embedding of each class, or the sum of the tags'."""
    count = label.shape[-1]
    embedding = Dense(count, use_bias=False, kernel_init=nn.initializers.normal(1.0))
    return jnp.concatenate([x, embedding(label)], -1)


class Generator(nn.Module):
    """Latents [B, Z] and labels [B, K] to images in [-1, 1]."""

    widths: tuple[int, ...]
    image: tuple[int, ...]

    @nn.compact
    def __call__(self, z, label, context):
        x = _with_label(z, label)
        for width in self.widths:
            x = nn.leaky_relu(torch_dense(width, x.shape[-1])(x), 0.2)
        return jnp.tanh(torch_dense(math.prod(self.image), x.shape[-1])(x)).reshape(-1, *self.image)


class Discriminator(nn.Module):
    """Images and labels [B, K] to one score each."""

    widths: tuple[int, ...]
    dropout: float

    @nn.compact
    def __call__(self, image, label, context):
        x = _with_label(image.reshape(len(image), -1), label)
        for number, width in enumerate(self.widths):
            x = nn.leaky_relu(torch_dense(width, x.shape[-1])(x), 0.2)
            if context.train:
                x = dropout(x, fold(context.rng, number), self.dropout)
        return Scores(torch_dense(1, x.shape[-1])(x)[:, 0], features=x)


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns the conditional MLP GAN for pictures of any size.

    Raises:
      DataError: if the data have no labels.
    """
    require_labels(data, model="cgan")
    adam = optax.adam(config.learning_rate, config.beta1, config.beta2)
    return noise_gan(
        Generator(config.generator_widths, (data.size, data.size, data.channels)),
        Discriminator(config.discriminator_widths, config.dropout),
        data=data,
        latent_size=config.latent_size,
        conditional=True,
        updates=(
            Update(
                "discriminator",
                {"adversarial": (1.0, losses.minimax_discriminator), **losses.PROBABILITIES},
            ),
            Update("generator", {"adversarial": (1.0, losses.nonsaturating_generator)}),
        ),
        optimizers={"generator": adam, "discriminator": adam},
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
    )
