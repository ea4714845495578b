"""DCGAN. Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks", 2015, arXiv:1511.06434.

The defaults are those of PyTorch's official example (kernel 4, normal latents, batch 64); the paper
starts twice as wide, with kernel 5 and uniform latents. `kernel=5 linear_stem=true bias=true` are
the networks of a widespread course on anime faces, and of WGAN-GP at 64 px; with
`linear_stem=false` they are its "modified" ones. Real and generated images are normalized as two
batches. Labels enter as in a lab course on i-CLEVR: embedded, beside the latents and as a plane.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import optax
from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim
from jaxgan.core import Gan, Plan, Scores, Update
from jaxgan.data import DataSpec
from jaxgan.layers.conv import Conv, ConvTranspose, Dense
from jaxgan.layers.norm import BatchNorm
from jaxgan.models.common import as_plane, beside_latents, halvings, noise_gan, takes_labels


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: pytorch/examples, dcgan/main.py."""

    latent_size: int = 100
    width: int = 64  # channels at half the image's size; doubled at each further halving
    kernel: int = 4
    linear_stem: bool = False  # a linear layer from the latent, not a transposed convolution
    bias: bool = False  # in the discriminator and the generator's last layer
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    smoothing: float = 0.0  # one-sided: real examples have the target 1 - smoothing
    discriminator_weight: float = 1.0  # of its loss; .5 is the mean over real and generated
    ema_half_life: float = 0.0  # images; 0: the last weights are the average
    conditional: bool = True  # on the labels, where the data have them
    discriminator_width: int | None = None  # none: `width`
    discriminator_learning_rate: float | None = None  # none: `learning_rate`
    slope: float = 0.2  # of the discriminator's leaky ReLU


_normal = nn.initializers.normal(0.02)


def _batch_norm(x, context):
    norm = BatchNorm(lambda rng, shape, dtype=jnp.float32: 1 + _normal(rng, shape, dtype))
    return norm(x, train=context.train)


class Generator(nn.Module):
    """Latents [B, Z] to images [B, size, size, channels] in [-1, 1].

    Labels [B, K] are embedded (linear, ReLU) and concatenated to the latents.
    """

    size: int
    channels: int
    width: int
    kernel: int
    linear_stem: bool
    bias: bool

    @nn.compact
    def __call__(self, z, label, context):
        doublings, side = halvings(self.size)
        z = beside_latents(z, label)
        widths = [self.width * 2**i for i in reversed(range(doublings))]
        if self.linear_stem:
            stem = Dense(side * side * widths[0], use_bias=False, kernel_init=_normal)(z)
        else:
            stem = ConvTranspose(widths[0], side, use_bias=False, kernel_init=_normal)(
                z[:, None, None]
            )
        x = nn.relu(_batch_norm(stem, context)).reshape(-1, side, side, widths[0])
        for width in widths[1:]:
            x = nn.relu(_batch_norm(self._double(width, bias=False)(x), context))
        return jnp.tanh(self._double(self.channels, bias=self.bias)(x))

    def _double(self, features, *, bias):
        return ConvTranspose(
            features,
            self.kernel,
            stride=2,
            padding=(self.kernel - 1) // 2,
            output_padding=self.kernel % 2,
            use_bias=bias,
            kernel_init=_normal,
        )


class Discriminator(nn.Module):
    """Images [B, size, size, channels] to one score each.

    Labels [B, K] are embedded (linear, ReLU) as one more plane of the image.
    """

    width: int
    kernel: int
    bias: bool
    slope: float
    norm: bool

    @nn.compact
    def __call__(self, image, label, context):
        halved, side = halvings(image.shape[1])
        x = as_plane(image, label)
        for i in range(halved):
            x = Conv(
                self.width * 2**i,
                self.kernel,
                stride=2,
                padding=(self.kernel - 1) // 2,
                use_bias=self.bias,
                kernel_init=_normal,
            )(x)
            x = _batch_norm(x, context) if self.norm and i > 0 else x
            x = nn.leaky_relu(x, self.slope)
        score = Conv(1, side, use_bias=self.bias, kernel_init=_normal)(x)
        return Scores(score.reshape(-1), features=x.reshape(len(x), -1))


def networks(data: DataSpec, config: Any, *, norm: bool = True) -> tuple[Generator, Discriminator]:
    """Returns both networks for a config with the fields of `Config` that concern them.

    Raises:
      UsageError: if the side of the pictures is not 4 to 7 doubled a few times.
    """
    halvings(data.size)
    width, kernel, bias = config.width, config.kernel, config.bias
    return (
        Generator(data.size, data.channels, width, kernel, config.linear_stem, bias),
        Discriminator(config.discriminator_width or width, kernel, bias, config.slope, norm),
    )


def adams(config: Any) -> dict[str, optax.GradientTransformation]:
    """Returns an Adam for each player, for a config with the fields of `Config` that concern it."""
    rates = {
        "generator": config.learning_rate,
        "discriminator": config.discriminator_learning_rate or config.learning_rate,
    }
    return {player: optax.adam(rate, config.beta1, config.beta2) for player, rate in rates.items()}


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns a DCGAN for pictures whose side is 4 to 7 doubled a few times, else UsageError."""

    minimax = functools.partial(losses.minimax_discriminator, smoothing=config.smoothing)
    return noise_gan(
        *networks(data, config),
        data=data,
        latent_size=config.latent_size,
        conditional=takes_labels(data, config),
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (config.discriminator_weight, minimax),
                    **losses.PROBABILITIES,
                },
            ),
            Update("generator", {"adversarial": (1.0, losses.nonsaturating_generator)}),
        ),
        optimizers=adams(config),
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
    )
