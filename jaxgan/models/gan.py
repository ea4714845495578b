"""GAN. Goodfellow et al., "Generative Adversarial Networks", 2014, arXiv:1406.2661.

Not the paper's MLP (maxout units, momentum SGD), but the small one that courses teach on MNIST:
leaky ReLU, logits, Adam, the non-saturating loss.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar

import optax
from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim
from jaxgan.core import Gan, Plan, Scores, Update
from jaxgan.data import DataSpec
from jaxgan.models.common import noise_gan, torch_dense


@dataclasses.dataclass(frozen=True)
class Config:
    """The course's numbers."""

    conditional: ClassVar[bool] = False
    latent_size: int = 100
    generator_widths: tuple[int, ...] = (300,)
    discriminator_widths: tuple[int, ...] = (300, 100)
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    smoothing: float = 0.0  # one-sided: real examples have the target 1 - smoothing
    ema_half_life: float = 0.0  # images; 0: the last weights are the average


class Generator(nn.Module):
    widths: tuple[int, ...]
    image: tuple[int, ...]

    @nn.compact
    def __call__(self, z, label, context):
        for width in self.widths:
            z = nn.leaky_relu(torch_dense(width, z.shape[-1])(z), 0.2)
        return jnp.tanh(torch_dense(math.prod(self.image), z.shape[-1])(z)).reshape(-1, *self.image)


class Discriminator(nn.Module):
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, image, label, context):
        x = image.reshape(len(image), -1)
        for width in self.widths:
            x = nn.leaky_relu(torch_dense(width, x.shape[-1])(x), 0.2)
        return Scores(torch_dense(1, x.shape[-1])(x)[:, 0], features=x)


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns the MLP GAN for pictures of any size."""
    image = (data.size, data.size, data.channels)
    adam = optax.adam(config.learning_rate, config.beta1, config.beta2)

    minimax = functools.partial(losses.minimax_discriminator, smoothing=config.smoothing)
    return noise_gan(
        Generator(config.generator_widths, image),
        Discriminator(config.discriminator_widths),
        data=data,
        latent_size=config.latent_size,
        conditional=False,
        updates=(
            Update("discriminator", {"adversarial": (1.0, minimax), **losses.PROBABILITIES}),
            Update("generator", {"adversarial": (1.0, losses.nonsaturating_generator)}),
        ),
        optimizers={"generator": adam, "discriminator": adam},
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
    )
