"""StyleGAN2. Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020,
arXiv:1912.04958.

A generator with skip connections, a residual discriminator, lazy regularization. What the defaults
leave open is chosen for the size and the batch as the configuration `auto` of the official PyTorch
code, that of "Training Generative Adversarial Networks with Limited Data", 2020, arXiv:2006.06676.
The paper's own configuration F is the recipe `ffhq1024_stylegan2`.

Where this differs from the official code: the crossover of mixed styles is drawn for each example
and not for a batch; the average of w moves in the generator's own updates only; one of every two
neighbors takes part in the path length, and not the first half of the batch; a gradient that is
not finite undoes the update in place of being clipped; a player without a lazy term has plain Adam;
`conv_clamp`, which bounds the activations in half precision, is absent.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim, penalties
from jaxgan.core import Array, Context, Gan, Plan, Scores, Style, Update, Variables, View, moves
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.layers.equalized import EqualizedConv, EqualizedDense, leaky_relu
from jaxgan.layers.minibatch import minibatch_stddev
from jaxgan.layers.norm import pixel_norm
from jaxgan.layers.resample import conv_downsample, upsample, upsample_conv
from jaxgan.layers.style import (
    COLLECTION,
    Mapping,
    ModulatedConv,
    Noise,
    ToRGB,
    crossovers,
    mix,
    same_conv,
)
from jaxgan.models.common import fold, noise_gan, normal_latents, power_of_two, takes_labels


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: those of `auto`; none stands for what it has for the size and the batch."""

    latent_size: int = 512
    mapping_width: int = 512  # of w
    mapping_layers: int = 2
    channel_base: int | None = None  # channels times side; none: 16384, from 512 px on 32768
    max_width: int = 512  # channels at most
    group: int | None = None  # of the minibatch deviation; none: 4, or what the batch has below it
    mixing: float = 0.9  # probability
    learning_rate: float | None = None  # none: .0025, from 1024 px on .002
    discriminator_learning_rate: float | None = None  # none: `learning_rate`
    beta1: float = 0.0
    beta2: float = 0.99
    gamma: float | None = None  # of R1; none: .0002 * side^2 / batch
    r1_every: int = 16  # iterations
    path_weight: float = 2.0  # 0: no path length
    path_every: int = 4  # iterations
    path_decay: float = 0.01
    path_shrink: int = 2  # one example of so many has its path measured
    ema_half_life: float | None = None  # images; none: 10,000 * batch / 32
    ema_ramp_up: float = 0.05  # the half-life's share of the images so far, at most; 0: no limit
    conditional: bool = True  # on the labels, where the data have them


def resolved(config: Config, size: int, batch_size: int) -> Config:
    """Returns the Config with numbers in place of none, as `auto` has them on one GPU."""
    rate = config.learning_rate or (0.002 if size >= 1024 else 0.0025)
    auto: dict[str, Any] = {
        "channel_base": 32768 if size >= 512 else 16384,
        "group": max(g for g in range(1, 5) if batch_size % g == 0),
        "learning_rate": rate,
        "discriminator_learning_rate": rate,
        "gamma": 0.0002 * size**2 / batch_size,
        "ema_half_life": 10_000 * batch_size / 32,
    }
    auto = {name: value for name, value in auto.items() if getattr(config, name) is None}
    return dataclasses.replace(config, **auto)


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU; may double the side first."""

    features: int
    up: bool = False

    @nn.compact
    def __call__(self, x, w, rng):
        convolve = upsample_conv if self.up else same_conv
        x = Noise()(ModulatedConv(self.features, convolve=convolve)(x, w), rng)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return leaky_relu(x + bias.astype(x.dtype))


class Synthesis(nn.Module):
    """w [B, layers, F] and keys of the noise [B] to images [B, size, size, channels].

    `widths` are the channels from 4 px on; a side has two layers, of which its colors and the next
    side's first share the last one.
    """

    widths: tuple[int, ...]
    channels: int

    @nn.compact
    def __call__(self, w, rng):
        start = self.param("start", nn.initializers.normal(1.0), (4, 4, self.widths[0]))
        x = jnp.broadcast_to(start.astype(w.dtype), (len(w), *start.shape))
        x = StyledConv(self.widths[0])(x, w[:, 0], fold(rng, 0))
        image = ToRGB(self.channels)(x, w[:, 1])
        for number, width in enumerate(self.widths[1:], 1):
            layer = 2 * number - 1
            x = StyledConv(width, up=True)(x, w[:, layer], fold(rng, layer))
            x = StyledConv(width)(x, w[:, layer + 1], fold(rng, layer + 1))
            image = upsample(image) + ToRGB(self.channels)(x, w[:, layer + 2])
        return image


class Generator(nn.Module):
    """Latents [B, Z], and labels [B, K] or None, to images [B, size, size, channels].

    They are linear, and in use clipped to [-1, 1].
    """

    widths: tuple[int, ...]
    channels: int
    latent_size: int
    mapping_width: int
    mapping_layers: int
    mixing: float

    def setup(self) -> None:
        self.mapping = Mapping(self.mapping_width, self.mapping_layers)
        self.synthesis = Synthesis(self.widths, self.channels)

    def __call__(self, z, label, context):
        image = self.synthesis(self.mixed(z, label, context), context.rng)
        return image if context.train else jnp.clip(image, -1, 1)

    def w(self, z: Array, label: Array | None, *, refresh: bool = False) -> Array:
        """The same for all layers, [B, layers, F]."""
        w = self.mapping(z, label, refresh=refresh)
        return jnp.broadcast_to(w[:, None], (len(w), 2 * len(self.widths), w.shape[-1]))

    def mixed(self, z: Array, label: Array | None, context: Context) -> Array:
        """In training the finer layers of some examples have the w of another latent."""
        w = self.w(z, label, refresh=context.refresh)
        if not context.train or not self.mixing:
            return w
        # Numbers that no layer's noise has.
        latent, where = (fold(context.rng, 2 * len(self.widths) + i) for i in range(2))
        other = self.w(normal_latents(latent, self.latent_size).astype(z.dtype), label)
        return mix(w, other, crossovers(where, w.shape[1], self.mixing))

    def synthesize(self, w: Array, rng: Array) -> Array:
        return self.synthesis(w, rng)


class LabelMapping(nn.Module):
    """Labels [B, K] to what the discriminator's features should agree with, [B, features]."""

    features: int
    layers: int = 8

    @nn.compact
    def __call__(self, label):
        x = pixel_norm(EqualizedDense(self.features)(label))
        for _ in range(self.layers):
            x = leaky_relu(EqualizedDense(self.features, lr_multiplier=0.01)(x))
        return x


class Discriminator(nn.Module):
    """Images [B, size, size, channels], and labels [B, K] or None, to one score each."""

    widths: tuple[int, ...]
    group: int

    @nn.compact
    def __call__(self, image, label, context):
        x = leaky_relu(EqualizedConv(self.widths[-1], 1)(image))
        for width in self.widths[-2::-1]:
            y = leaky_relu(EqualizedConv(x.shape[-1], 3, padding=1)(x))
            y = leaky_relu(EqualizedConv(width, 3, convolve=conv_downsample)(y))
            x = EqualizedConv(width, 1, convolve=conv_downsample, use_bias=False)(x)
            x = (x + y) * math.sqrt(0.5)
        # Parameters may be made with any batch.
        x = minibatch_stddev(x, group=None if self.is_initializing() else self.group)
        x = leaky_relu(EqualizedConv(self.widths[0], 3, padding=1)(x))
        features = leaky_relu(EqualizedDense(self.widths[0])(x.reshape(len(x), -1)))
        if label is None:
            return Scores(EqualizedDense(1)(features)[:, 0], features=features)
        out = EqualizedDense(self.widths[0])(features)
        agreement = (out * LabelMapping(self.widths[0])(label)).sum(-1)
        return Scores(agreement / math.sqrt(self.widths[0]), features=features)


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns a StyleGAN2 for pictures whose side is a power of two, 8 to 1024, else UsageError."""
    power_of_two("stylegan2", data.size)
    config = resolved(config, data.size, plan.batch_size)
    sides = [2**n for n in range(2, data.size.bit_length())]
    widths = tuple(max(1, min(config.channel_base // side, config.max_width)) for side in sides)
    conditional = takes_labels(data, config)
    generator = Generator(
        widths,
        data.channels,
        config.latent_size,
        config.mapping_width,
        config.mapping_layers,
        config.mixing,
    )

    def path_length(view):
        lengths = _path_lengths(generator, view, conditional, config.path_shrink)
        penalty, mean = penalties.path_length(
            lengths, view.memory["path_mean"], decay=config.path_decay
        )
        return penalty, {"path_mean": mean}

    updates = (
        Update("generator", {"adversarial": (1.0, losses.nonsaturating_generator)}),
        # Lazy: on every k-th iteration with k times the weight.
        Update(
            "generator",
            {
                "path_length": (config.path_weight * config.path_every, path_length),
                "path_mean": (0.0, lambda view: view.memory["path_mean"]),
            },
            every=config.path_every,
        ),
        Update(
            "discriminator",
            {"adversarial": (1.0, losses.minimax_discriminator), **losses.PROBABILITIES},
        ),
        Update(
            "discriminator",
            {"r1": (config.gamma * config.r1_every, penalties.r1)},
            every=config.r1_every,
        ),
    )
    betas = (config.beta1, config.beta2)
    gan = noise_gan(
        generator,
        Discriminator(widths, config.group),
        data=data,
        latent_size=config.latent_size,
        conditional=conditional,
        updates=tuple(filter(moves, updates)),
        optimizers={
            "generator": optim.lazy_adam(
                config.learning_rate, *betas, config.path_every if config.path_weight else None
            ),
            "discriminator": optim.lazy_adam(
                config.discriminator_learning_rate,
                *betas,
                config.r1_every if config.gamma else None,
            ),
        },
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size, config.ema_ramp_up),
    )
    return gan._replace(memory={"path_mean": 0.0}, style=_style(generator, conditional))


def _path_lengths(generator: Generator, view: View, conditional: bool, shrink: int) -> Array:
    """Of one example in `shrink` neighbors, so that any number of devices takes the same ones."""
    batch = len(view.rng)
    if batch % shrink:
        raise UsageError(
            f"path length: a batch of {batch} on a device cannot be divided into groups of "
            f"{shrink}; use a multiple of {shrink} a device, or --set path_shrink=1"
        )
    variables = view.variables["generator"]
    latents, noise, directions = (fold(view.rng[::shrink], number) for number in range(3))
    z = normal_latents(latents, generator.latent_size)
    label = view.batch["label"][::shrink] if conditional else None
    context = Context(view.step, noise, view.memory, train=True)
    w: Any = generator.apply(variables, z, label, context, method="mixed")

    def synthesize(w):
        return view.style.synthesize(variables, w, context)

    return penalties.path_lengths(synthesize, w, directions)


def _style(generator: Generator, conditional: bool) -> Style:
    def w(variables: Variables, z: Array, label: Array | None) -> Any:
        return generator.apply(variables, z, label if conditional else None, method="w")

    def average(variables: Variables) -> Array:
        return variables[COLLECTION]["mapping"]["w"]

    def synthesize(variables: Variables, w: Array, context: Context) -> Any:
        return generator.apply(variables, w, context.rng, method="synthesize")

    return Style(w, average, synthesize)
