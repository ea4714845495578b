"""R3GAN. Huang, Gokaslan, Kuleshov and Tompkin, "The GAN is dead; long live the GAN! A Modern
Baseline GAN", 2024, arXiv:2501.05441.

Residual networks of grouped convolutions without normalization, the relativistic loss of pairs and
both penalties at every step, as in the official code (brownvc/R3GAN): numbers, resampling,
initialization, schedules, a new batch for the generator, and augmentation with a probability
that grows. Departs: R2 augments the pictures by other draws than the loss; beside the
official 4 px the networks may start from 5 to 7; single precision throughout.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
from flax import linen as nn

from jaxgan import losses, optim, penalties
from jaxgan.augment import ada
from jaxgan.core import Gan, Plan, Scores, Update
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.layers.conv import Conv, Dense
from jaxgan.layers.grouped import GroupedConv
from jaxgan.layers.resample import downsample, upsample
from jaxgan.models.common import halvings, noise_gan, takes_labels


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: those of the official code for FFHQ at 64 px, batch 256; the recipes have others.

    What changes during the burn-in does so along half a cosine, from the first to the final value.
    """

    latent_size: int = 64
    width: int = 768  # channels of the smallest sizes
    full_sizes: int = 4  # how many sizes have the whole width; the next has half, and so on
    group: int = 16  # channels that a 3x3 convolution reads
    blocks: int = 2  # at each size
    gamma: float = 2.0
    final_gamma: float = 0.2
    learning_rate: float = 2e-4
    final_learning_rate: float = 5e-5
    beta2: float = 0.9
    final_beta2: float = 0.99
    ema_half_life: float = 500_000.0  # images, the final one; from 0
    augment: float = 0.3  # the final probability; from 0. 0: no augmentation
    burn_in: float = 20e6  # images
    conditional: bool = True  # on the labels, where the data have them


PIPE = ada.Pipe(color=0.5, cutout=1.0)
"""The official code's augmentation."""
_SLOPE = 0.2
_EXPANSION = 2


def _scaled(gain: float = 1.0) -> nn.initializers.Initializer:
    """Normal with a deviation of gain / sqrt(fan_in)."""
    return nn.initializers.variance_scaling(gain**2, "fan_in", "normal")


class Block(nn.Module):
    """A residual block, [B, H, W, C] to the same: the identity at first.

    1x1 to twice the channels, grouped 3x3, 1x1 back (figure 4 of the paper).

    Attributes:
      group: channels of a group.
      depth: number of blocks in the network, L: the first two convolutions start smaller by
        L^(-1/4) (Zhang et al., "Fixup Initialization", 2019, arXiv:1901.09321).
    """

    group: int
    depth: int

    @nn.compact
    def __call__(self, x):
        inner = _EXPANSION * x.shape[-1]
        start = _scaled(math.sqrt(2 / (1 + _SLOPE**2)) * self.depth**-0.25)
        y = nn.leaky_relu(Conv(inner, 1, kernel_init=start)(x), _SLOPE)
        bias = self.param("bias", nn.initializers.zeros, (inner,))
        y = GroupedConv(inner, self.group, kernel_init=start)(y) + bias.astype(x.dtype)
        y = nn.leaky_relu(y, _SLOPE)
        return x + _linear(x.shape[-1], nn.initializers.zeros)(y)


class Generator(nn.Module):
    """Latents [B, Z], and labels [B, K] or None, to images [B, size, size, channels].

    The output is not bounded in training; in use it is clipped to [-1, 1].
    """

    size: int
    channels: int
    width: int
    full_sizes: int
    group: int
    blocks: int

    @nn.compact
    def __call__(self, z, label, context):
        doublings, side = halvings(self.size)
        widths = _widths(self.width, self.full_sizes, doublings)
        if label is not None:
            embedded = Dense(z.shape[-1], use_bias=False, kernel_init=_scaled())(label)
            z = jnp.concatenate([z, embedded], -1)
        basis = self.param("basis", nn.initializers.normal(1), (side, side, self.width))
        x = Dense(self.width, use_bias=False, kernel_init=_scaled())(z)[:, None, None]
        x = basis.astype(x.dtype) * x
        for number, width in enumerate(widths):
            if x.shape[-1] != width:
                x = _linear(width)(x)
            if number:
                x = upsample(x)
            for _ in range(self.blocks):
                x = Block(self.group, self.blocks * len(widths))(x)
        image = _linear(self.channels)(x)
        return image if context.train else jnp.clip(image, -1, 1)


class Discriminator(nn.Module):
    """Images [B, size, size, channels], and labels [B, K] or None, to one score each."""

    width: int
    full_sizes: int
    group: int
    blocks: int

    @nn.compact
    def __call__(self, image, label, context):
        halved, side = halvings(image.shape[1])
        widths = _widths(self.width, self.full_sizes, halved)[::-1]
        x = _linear(widths[0])(image)
        for number, width in enumerate(widths):
            if number:
                x = downsample(x)
            if x.shape[-1] != width:
                x = _linear(width)(x)
            for _ in range(self.blocks):
                x = Block(self.group, self.blocks * len(widths))(x)
        # A depthwise convolution that leaves one number a channel.
        start = nn.initializers.normal(1 / side)
        basis = self.param("basis", start, (side, side, self.width))
        features = (x * basis.astype(x.dtype)).sum((1, 2))
        outputs = 1 if label is None else self.width
        y = Dense(outputs, use_bias=False, kernel_init=_scaled())(features)
        if label is not None:
            start = _scaled(1 / math.sqrt(self.width))
            y = y * Dense(self.width, use_bias=False, kernel_init=start)(label)
        return Scores(y.sum(-1), features=features)


_LINEAR = _scaled()


def _linear(features, start=_LINEAR):
    return Conv(features, 1, use_bias=False, kernel_init=start)


def _widths(width, full_sizes, doublings):
    """Of the smallest map first: constant for some sizes, then halved each time."""
    return [width // 2 ** max(0, number - full_sizes + 1) for number in range(doublings + 1)]


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns an R3GAN for pictures whose side is 4 to 7 doubled a few times.

    Raises:
      UsageError: for another side, or a width that is not divided into groups.
    """
    doublings, _ = halvings(data.size)
    widths = _widths(config.width, config.full_sizes, doublings)
    if widths[-1] == 0 or any(_EXPANSION * width % config.group for width in widths):
        least = (
            config.group
            // math.gcd(config.group, _EXPANSION)
            * 2 ** max(0, doublings + 1 - config.full_sizes)
        )
        raise UsageError(
            f"width {config.width} gives {widths[-1]} channels at {data.size} px, and twice as "
            f"many cannot be divided into groups of {config.group}; try a multiple of {least} "
            f"(--set width={least}), or --set group=..."
        )

    def burn_in(first, final):
        return optim.cosine(first, final, config.burn_in / plan.batch_size)

    gamma = burn_in(config.gamma, config.final_gamma)
    half_life = burn_in(0.0, config.ema_half_life)

    def optimizer():
        return optim.scheduled_adam(
            burn_in(config.learning_rate, config.final_learning_rate),
            burn_in(config.beta2, config.final_beta2),
        )

    fields = ("width", "full_sizes", "group", "blocks")
    networks = {name: getattr(config, name) for name in fields}
    gan = noise_gan(
        Generator(data.size, data.channels, **networks),
        Discriminator(**networks),
        data=data,
        latent_size=config.latent_size,
        conditional=takes_labels(data, config),
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (1.0, losses.relativistic_discriminator),
                    # With gamma, which is not constant.
                    "r1": (1.0, lambda view: gamma(view.step) * penalties.r1(view)),
                    "r2": (1.0, lambda view: gamma(view.step) * penalties.r2(view)),
                    **losses.SCORES,
                },
            ),
            Update("generator", {"adversarial": (1.0, losses.relativistic_generator)}, fresh=True),
        ),
        optimizers={"generator": optimizer(), "discriminator": optimizer()},
        ema=lambda step: 0.5 ** (plan.batch_size / jnp.maximum(half_life(step), 1e-8)),
    )
    return ada.scheduled(gan, burn_in(0.0, config.augment), PIPE) if config.augment else gan
