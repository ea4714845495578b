"""WGAN. Arjovsky, Chintala and Bottou, "Wasserstein GAN", 2017, arXiv:1701.07875.

The networks are DCGAN's without a sigmoid; the critic keeps its batch normalization. The official
code trains the critic 100 times in the first 25 iterations and in every 500th; here it is always
`n_critic` times, as in the paper's algorithm 1.
"""

from __future__ import annotations

import dataclasses

import jax
import optax
from jax import numpy as jnp

from jaxgan import losses, optim
from jaxgan.core import Gan, Plan, Update
from jaxgan.data import DataSpec
from jaxgan.models.common import noise_gan, takes_labels
from jaxgan.models.dcgan import networks


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: algorithm 1 of the paper; the networks as in its official code."""

    latent_size: int = 100
    width: int = 64
    kernel: int = 4
    linear_stem: bool = False
    bias: bool = False
    n_critic: int = 5
    clip: float = 0.01
    learning_rate: float = 5e-5
    ema_half_life: float = 0.0  # images; 0: the last weights are the average
    conditional: bool = True  # on the labels, where the data have them
    discriminator_width: int | None = None  # none: `width`
    slope: float = 0.2  # of the critic's leaky ReLU


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns a WGAN whose critic's parameters stay in [-clip, clip].

    Raises:
      UsageError: if the side of the pictures is not 4 to 7 doubled a few times.
    """
    rmsprop = optim.rmsprop(config.learning_rate)
    gan = noise_gan(
        *networks(data, config),
        data=data,
        latent_size=config.latent_size,
        conditional=takes_labels(data, config),
        updates=(
            Update(
                "discriminator",
                {"adversarial": (1.0, losses.wasserstein_discriminator), **losses.SCORES},
                repeat=config.n_critic,
            ),
            Update("generator", {"adversarial": (1.0, losses.wasserstein_generator)}),
        ),
        optimizers={
            "generator": rmsprop,
            "discriminator": optax.chain(rmsprop, optim.clip_weights(config.clip)),
        },
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
    )

    def init(rng):
        variables = gan.init(rng)
        critic = variables["discriminator"]
        clipped = jax.tree.map(lambda w: jnp.clip(w, -config.clip, config.clip), critic["params"])
        return {**variables, "discriminator": {**critic, "params": clipped}}

    return gan._replace(init=init)
