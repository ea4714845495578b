"""StyleGAN. Karras, Laine and Aila, "A Style-Based Generator Architecture for Generative
Adversarial Networks", 2019, arXiv:1812.04948.

It grows as ProGAN does; networks and numbers are those of the official TensorFlow code for one GPU.
Where this differs: the crossover of mixed styles is drawn for each example and not for a batch; the
average of w moves in the generator's own updates only; Adam starts over with each size, in the
official code also where one has faded in; truncation is asked for when sampling.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import optax
from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim, penalties
from jaxgan.core import Array, Context, Gan, Plan, Scores, Stage, Style, Update
from jaxgan.data import DataSpec
from jaxgan.layers.equalized import SQRT2, EqualizedConv, leaky_relu
from jaxgan.layers.resample import (
    blur,
    nearest_upsample,
    nearest_upsample_conv,
)
from jaxgan.layers.style import (
    COLLECTION,
    AdaptiveInstanceNorm,
    Noise,
    StyleGANMapping,
    crossovers,
    mix,
)
from jaxgan.models.common import fold, noise_gan, normal_latents, takes_labels
from jaxgan.models.growing import SMALLEST, Fade, Phase, alpha_metric, channels, judge, stages

_TAPS = (1, 2, 1)


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: appendix C of the paper; batches and rates as the official code on one GPU."""

    latent_size: int = 512
    mapping_width: int = 512  # of w
    mapping_layers: int = 8
    width: int = 512  # channels up to 32 px; half of them at 64, a quarter at 128, ...
    mixing: float = 0.9  # probability
    start_size: int = 8
    fade_images: float = 600e3
    stable_images: float = 600e3  # at each size but the last, which lasts as long as the run
    batch_sizes: tuple[int, ...] = (128, 128, 128, 64, 32, 16, 8, 4)  # at most, at 4, 8, ... px
    group: int = 4  # examples whose deviation the discriminator sees
    gamma: float = 10.0  # of R1, in every step
    learning_rate: float | None = None  # none: .001, at 128 px .0015, at 256 .002, beyond .003
    beta1: float = 0.0
    beta2: float = 0.99
    ema_half_life: float = 10e3  # images
    conditional: bool = True  # on the labels, where the data have them


class Styled(nn.Module):
    """What follows a convolution: noise, bias, leaky ReLU, and the style of w [B, F]."""

    @nn.compact
    def __call__(self, x, w, rng):
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        x = leaky_relu(Noise(per_channel=True)(x, rng) + bias.astype(x.dtype), 1.0)
        return AdaptiveInstanceNorm()(x, w)


class Start(nn.Module):
    """w [B, 2, F] and keys [B, 2] to [B, 4, 4, features]."""

    features: int

    @nn.compact
    def __call__(self, w, rng):
        start = self.param("start", nn.initializers.ones, (4, 4, self.features))
        x = jnp.broadcast_to(start.astype(w.dtype), (len(w), *start.shape))
        x = Styled()(x, w[:, 0], fold(rng, 0))
        x = EqualizedConv(self.features, 3, padding=1, gain=SQRT2, use_bias=False)(x)
        return Styled()(x, w[:, 1], fold(rng, 1))


class Up(nn.Module):
    """[B, H, W, C] with w [B, 2, F] to [B, 2 H, 2 W, features]; `number` is the first w's."""

    features: int
    number: int

    @nn.compact
    def __call__(self, x, w, rng):
        for layer, convolve in enumerate((nearest_upsample_conv, None)):
            conv = EqualizedConv(
                self.features, 3, padding=1, convolve=convolve, gain=SQRT2, use_bias=False
            )
            x = conv(x) if layer else blur(conv(x), _TAPS)
            x = Styled()(x, w[:, layer], fold(rng, self.number + layer))
        return x


class Synthesis(nn.Module):
    """w [B, layers, F] to images [B, size, size, channels], at a step of the training.

    With a fade, the layers of half the size and their image are blended in.
    """

    width: int
    size: int
    channels: int
    fade: Fade | None

    @nn.compact
    def __call__(self, w, rng, step):
        x = Start(channels(self.width, SMALLEST), name="start_4")(w[:, :2], rng)
        before, side, number = x, SMALLEST, 2
        while side < self.size:
            before, side = x, 2 * side
            up = Up(channels(self.width, side), number, name=f"up_{side}")
            x = up(x, w[:, number : number + 2], rng)
            number += 2
        image = self._image(x)
        if self.fade is None:
            return image
        return self.fade.blend(nearest_upsample(self._image(before)), image, step)

    def _image(self, x):
        return EqualizedConv(self.channels, 1, name=f"image_{x.shape[1]}")(x)


class Generator(nn.Module):
    """Latents [B, Z], and labels [B, K] or None, to images [B, size, size, channels]."""

    config: Config
    size: int
    channels: int
    fade: Fade | None

    def setup(self) -> None:
        self.mapping = StyleGANMapping(self.config.mapping_width, self.config.mapping_layers)
        self.synthesis = Synthesis(self.config.width, self.size, self.channels, self.fade)

    def __call__(self, z, label, context):
        w = self.w(z, label, refresh=context.refresh)
        if context.train and self.config.mixing:
            # Numbers that no layer's noise has.
            latent, where = (fold(context.rng, w.shape[1] + i) for i in range(2))
            other = normal_latents(latent, self.config.latent_size).astype(z.dtype)
            other = self.w(other, label)
            w = mix(w, other, crossovers(where, w.shape[1], self.config.mixing))
        return self.synthesize(w, context)

    def w(self, z: Array, label: Array | None, *, refresh: bool = False) -> Array:
        """The same for all layers, [B, layers, F]."""
        w = self.mapping(z, label, refresh=refresh)
        layers = 2 * (self.size // 2).bit_length() - 2
        return jnp.broadcast_to(w[:, None], (len(w), layers, w.shape[-1]))

    def synthesize(self, w: Array, context: Context) -> Array:
        return self.synthesis(w, context.rng, context.step)


class Discriminator(nn.Module):
    """Images [B, size, size, channels] to one score each, with labels [B, K] that of its label."""

    width: int
    size: int
    group: int
    fade: Fade | None

    @nn.compact
    def __call__(self, image, label, context):
        outputs = 1 if label is None else label.shape[-1]
        scores = judge(self, image, context.step, outputs, taps=_TAPS)
        return Scores(scores[:, 0] if label is None else (scores * label).sum(-1))


def make(data: DataSpec, config: Config, plan: Plan) -> tuple[Stage, ...]:
    """Returns the stages of a StyleGAN for pictures whose side is a power of two, at least 8.

    Raises:
      UsageError: if the side is another, or `start_size` does not lead there.
    """
    return stages("stylegan", data.size, config, plan, functools.partial(_gan, data, config))


def _gan(data: DataSpec, config: Config, phase: Phase) -> Gan:
    conditional = takes_labels(data, config)
    generator = Generator(config, phase.size, data.channels, phase.fade)
    rate = config.learning_rate or {128: 1.5e-3, 256: 2e-3}.get(
        phase.size, 1e-3 if phase.size < 128 else 3e-3
    )
    adam = optax.adam(rate, config.beta1, config.beta2)
    gan = noise_gan(
        generator,
        Discriminator(config.width, phase.size, config.group, phase.fade),
        data=data._replace(size=phase.size),
        latent_size=config.latent_size,
        conditional=conditional,
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (1.0, losses.minimax_discriminator),
                    "r1": (config.gamma, penalties.r1),
                    **losses.PROBABILITIES,
                    **alpha_metric(phase),
                },
            ),
            Update("generator", {"adversarial": (1.0, losses.nonsaturating_generator)}),
        ),
        optimizers={"generator": adam, "discriminator": adam},
        ema=optim.ema_decay(config.ema_half_life, phase.batch_size, ramp_up=0),
    )
    apply: Any = generator.apply
    style = Style(
        w=lambda variables, z, label: apply(
            variables, z, label if conditional else None, method="w"
        ),
        average=lambda variables: variables[COLLECTION]["mapping"]["w"],
        synthesize=lambda variables, w, context: apply(variables, w, context, method="synthesize"),
    )
    return gan._replace(style=style)
