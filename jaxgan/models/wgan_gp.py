"""WGAN-GP. Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, arXiv:1704.00028.

The networks are DCGAN's with kernel 5 and a linear stem, without normalization in the critic,
because the penalty is one for each example. The official code at 64 px has a residual network by
default. Its DCGAN differs from this one: weights are uniform with a deviation of .02, where these
are normal; its generator's first batch norm has one statistic a channel, where this one has one for
each feature of the linear stem; and its critic has layer norm.
"""

from __future__ import annotations

import dataclasses
import functools

from jaxgan import losses, optim, penalties
from jaxgan.core import Gan, Plan, Update
from jaxgan.data import DataSpec
from jaxgan.models.common import noise_gan, takes_labels
from jaxgan.models.dcgan import adams, networks


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: algorithm 1 of the paper, batch 64; the widths of its official code."""

    latent_size: int = 128
    width: int = 64
    kernel: int = 5
    linear_stem: bool = True
    bias: bool = True
    n_critic: int = 5
    penalty: float = 10.0
    one_sided: bool = False  # punish slopes above 1 only
    learning_rate: float = 1e-4
    beta1: float = 0.0
    beta2: float = 0.9
    ema_half_life: float = 0.0  # images; 0: the last weights are the average
    conditional: bool = True  # on the labels, where the data have them
    discriminator_width: int | None = None  # none: `width`
    discriminator_learning_rate: float | None = None  # none: `learning_rate`
    slope: float = 0.2  # of the critic's leaky ReLU


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns a WGAN-GP for pictures whose side is 4 to 7 doubled a few times, else UsageError."""
    penalty = functools.partial(penalties.gradient_penalty, one_sided=config.one_sided)
    return noise_gan(
        *networks(data, config, norm=False),
        data=data,
        latent_size=config.latent_size,
        conditional=takes_labels(data, config),
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (1.0, losses.wasserstein_discriminator),
                    "penalty": (config.penalty, penalty),
                    **losses.SCORES,
                },
                repeat=config.n_critic,
            ),
            Update("generator", {"adversarial": (1.0, losses.wasserstein_generator)}),
        ),
        optimizers=adams(config),
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
    )
