"""SAGAN. Zhang et al., "Self-Attention Generative Adversarial Networks", 2019, arXiv:1805.08318.

Residual networks as in the official code: spectral normalization in both players, attention where
the map has 32 pixels, the hinge loss, two rates. With labels the generator's normalization depends
on them and the discriminator is a projection. At 128 px the paper's widths are 64 times 16, 16, 8,
4, 2 and 1; smaller pictures leave out the widest. The gradient does not pass through spectral
normalization's vectors (in the official code it does), and beta2 is the paper's (the official code
leaves TensorFlow's .999).

`residual=false` has the networks of a widespread PyTorch port, heykeetae/Self-Attention-GAN, as a
lab course on i-CLEVR trains them: DCGAN's, kernel 4, with spectral normalization in all layers but
the last, attention with values of the full width and without pooling, and labels as `dcgan` takes
them. The attention's convolutions are normalized here, and a further one follows it. The port
attends at 16 and 32 px in the generator, 8 and 4 in the discriminator; `hinge=false penalty=10`
is the lab's loss.
"""

from __future__ import annotations

import dataclasses
import functools

from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim, penalties
from jaxgan.core import Gan, Plan, Scores, Update
from jaxgan.data import DataSpec
from jaxgan.layers.attention import SelfAttention
from jaxgan.layers.conv import Conv, ConvTranspose
from jaxgan.layers.norm import BatchNorm, ConditionalBatchNorm
from jaxgan.layers.resample import (
    average_downsample,
    conv_average_downsample,
    nearest_upsample,
    nearest_upsample_conv,
)
from jaxgan.layers.spectral import Projection, SpectralConv, SpectralConvTranspose, SpectralDense
from jaxgan.models.common import as_plane, beside_latents, halvings, noise_gan, takes_labels
from jaxgan.models.dcgan import adams


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: the paper's, batch 256."""

    latent_size: int = 128
    width: int = 64  # channels at the image's size; not residual: at half of it
    discriminator_width: int | None = None  # none: `width`
    residual: bool = True
    attention: tuple[int, ...] = (32,)  # sides of the maps that attend, or the largest below them
    discriminator_attention: tuple[int, ...] | None = None  # none: `attention`
    hinge: bool = True  # false: the Wasserstein loss
    penalty: float = 0.0  # weight of the gradient penalty
    learning_rate: float = 1e-4
    discriminator_learning_rate: float | None = 4e-4  # none: `learning_rate`
    beta1: float = 0.0
    beta2: float = 0.9
    ema_half_life: float = 0.0  # images; 0: the last weights are the average
    conditional: bool = True  # on the labels, where the data have them


class Up(nn.Module):
    """A residual block that doubles the side."""

    features: int

    @nn.compact
    def __call__(self, x, label, context):
        def norm(x):
            return nn.relu(ConditionalBatchNorm()(x, label, train=context.train))

        y = SpectralConv(self.features, 3, convolve=nearest_upsample_conv)(
            norm(x), refresh=context.refresh
        )
        y = SpectralConv(self.features, 3, padding=1)(norm(y), refresh=context.refresh)
        # Repeating and a 1x1 convolution can be exchanged: this way it works on the small map.
        return y + nearest_upsample(SpectralConv(self.features, 1)(x, refresh=context.refresh))


class Down(nn.Module):
    """A residual block that halves the side, or leaves it; the first sees pixels."""

    features: int
    halve: bool = True
    first: bool = False

    @nn.compact
    def __call__(self, x, context):
        y = x if self.first else nn.relu(x)
        y = SpectralConv(self.features, 3, padding=1)(y, refresh=context.refresh)
        convolve = conv_average_downsample if self.halve else None
        last = SpectralConv(self.features, 3, padding=1, convolve=convolve)
        y = last(nn.relu(y), refresh=context.refresh)
        if self.halve:
            x = average_downsample(x)  # before the 1x1 convolution, with which it can be exchanged
        if x.shape[-1] != self.features or self.halve:
            x = SpectralConv(self.features, 1)(x, refresh=context.refresh)
        return x + y


class Generator(nn.Module):
    """Latents [B, Z], and labels [B, K] or None, to images [B, size, size, channels] in [-1, 1]."""

    size: int
    channels: int
    width: int
    attention: tuple[int, ...]

    @nn.compact
    def __call__(self, z, label, context):
        doublings, side = halvings(self.size)
        widths = _widths(self.width, doublings)[::-1]
        x = SpectralDense(side * side * widths[0])(z, refresh=context.refresh)
        x = x.reshape(-1, side, side, widths[0])
        for width in widths:
            if x.shape[1] in self.attention:
                x = _attend(x, context)
            x = Up(width)(x, label, context)
        x = nn.relu(BatchNorm()(x, train=context.train))
        return jnp.tanh(SpectralConv(self.channels, 3, padding=1)(x, refresh=context.refresh))


class Discriminator(nn.Module):
    """Images [B, size, size, channels], and labels [B, K] or None, to one score each."""

    width: int
    attention: tuple[int, ...]

    @nn.compact
    def __call__(self, image, label, context):
        halved, _ = halvings(image.shape[1])
        x, widths = image, _widths(self.width, halved)
        for number, width in enumerate(widths):
            x = Down(width, first=number == 0)(x, context)
            if x.shape[1] in self.attention:
                x = _attend(x, context)
        x = nn.relu(Down(widths[-1], halve=False)(x, context))
        features = x.sum((1, 2))
        source = SpectralDense(1)(features, refresh=context.refresh)[:, 0]
        if label is not None:
            source += Projection()(features, label, refresh=context.refresh)
        return Scores(source, features=features)


class PortGenerator(nn.Module):
    """As `Generator`, for `residual=false`."""

    size: int
    channels: int
    width: int
    attention: tuple[int, ...]

    @nn.compact
    def __call__(self, z, label, context):
        doublings, side = halvings(self.size)
        x = beside_latents(z, label)[:, None, None]
        for number, width in enumerate(_widths(self.width, doublings)[::-1]):
            kernel, stride, padding = (4, 2, 1) if number else (side, 1, 0)
            x = SpectralConvTranspose(width, kernel, stride, padding)(x, refresh=context.refresh)
            x = nn.relu(BatchNorm()(x, train=context.train))
            if x.shape[1] in self.attention:
                x = _attend(x, context, narrow=False)
        return jnp.tanh(ConvTranspose(self.channels, 4, 2, 1)(x))


class PortDiscriminator(nn.Module):
    """As `Discriminator`, for `residual=false`."""

    width: int
    attention: tuple[int, ...]

    @nn.compact
    def __call__(self, image, label, context):
        halved, side = halvings(image.shape[1])
        x = as_plane(image, label)
        for width in _widths(self.width, halved):
            x = SpectralConv(width, 4, 2, 1)(x, refresh=context.refresh)
            x = nn.leaky_relu(x, 0.1)
            if x.shape[1] in self.attention:
                x = _attend(x, context, narrow=False)
        return Scores(Conv(1, side)(x).reshape(-1), features=x.reshape(len(x), -1))


def _attend(x, context, *, narrow=True):
    """`narrow`: the paper's values of half the width, keys and values pooled."""
    side, channels = x.shape[-2:]
    attention = SelfAttention(
        min(8, channels), 2 if narrow else 1, narrow and side % 2 == 0, name=f"attention_{side}"
    )
    return attention(x, refresh=context.refresh)


def _widths(width, count):
    """1, 2, 4, 8, 16, 16, ... times the width."""
    return [width * min(2**i, 16) for i in range(count)]


def _attended(maps, sides):
    """For each side the largest map that is not larger, or the smallest of all."""
    return tuple(sorted({max((m for m in maps if m <= s), default=maps[0]) for s in sides}))


def _gain(view, *, player, side):
    return view.variables[player]["params"][f"attention_{side}"]["gain"]


def _gains(player, sides):
    """Measures whether attention does anything: its gains start at 0."""
    return {
        f"attention_gain_{side}": (0.0, functools.partial(_gain, player=player, side=side))
        for side in sides
    }


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns a SAGAN for pictures whose side is 4 to 7 doubled a few times, else UsageError."""
    doublings, side = halvings(data.size)
    maps = [side * 2**i for i in range(doublings)]
    g_sides = d_sides = _attended(maps, config.attention)
    if config.discriminator_attention is not None:
        d_sides = _attended(maps, config.discriminator_attention)
    generator, discriminator = PortGenerator, PortDiscriminator
    if config.residual:
        generator, discriminator = Generator, Discriminator
    adversarial = losses.wasserstein_discriminator
    if config.hinge:
        adversarial = losses.hinge_discriminator
    # With weight 0 it would be measured, which costs as much as with any other weight.
    penalty = {"penalty": (config.penalty, penalties.gradient_penalty)} if config.penalty else {}
    return noise_gan(
        generator(data.size, data.channels, config.width, g_sides),
        discriminator(config.discriminator_width or config.width, d_sides),
        data=data,
        latent_size=config.latent_size,
        conditional=takes_labels(data, config),
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (1.0, adversarial),
                    **penalty,
                    **losses.SCORES,
                    **_gains("discriminator", d_sides),
                },
            ),
            Update(
                "generator",
                {
                    "adversarial": (1.0, losses.wasserstein_generator),
                    **_gains("generator", g_sides),
                },
            ),
        ),
        optimizers=adams(config),
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
    )
