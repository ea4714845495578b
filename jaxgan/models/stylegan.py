"""StyleGAN. Karras, Laine and Aila, "A Style-Based Generator Architecture for Generative
Adversarial Networks", 2019, arXiv:1812.04948.

It grows as ProGAN does; networks and numbers are those of the official TensorFlow code for one GPU.
Where this differs: the crossover of mixed styles is drawn for each example and not for a batch; the
average of w moves in the generator's own updates only; Adam starts anew with each size, in the
official code also where one has faded in; truncation is asked for when sampling.
"""

from __future__ import annotations

import dataclasses
import functools

import optax
from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim, penalties
from jaxgan.core import Gan, Plan, Scores, Stage, Style, Update
from jaxgan.data import DataSpec
from jaxgan.layers.adaptive import AdaptiveInstanceNorm
from jaxgan.layers.equalized import SQRT2, EqualizedConv, EqualizedDense, leaky_relu
from jaxgan.layers.mapping import COLLECTION, StyleGANMapping, crossovers, mix
from jaxgan.layers.minibatch import minibatch_stddev
from jaxgan.layers.noise import Noise
from jaxgan.layers.resample import (
    average_downsample,
    blur,
    conv_average_downsample,
    nearest_upsample,
    nearest_upsample_conv,
)
from jaxgan.models.common import fold, noise_gan, normal_latents, takes_labels
from jaxgan.models.growing import SMALLEST, Fade, Part, stages, watched

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
    conditional: bool = True  # on the labels of data that have some


def _features(width: int, side: int) -> int:
    return max(1, width * 32 // max(32, side))


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
        x = Start(_features(self.width, SMALLEST), name="start_4")(w[:, :2], rng)
        before, side, number = x, SMALLEST, 2
        while side < self.size:
            before, side = x, 2 * side
            up = Up(_features(self.width, side), number, name=f"up_{side}")
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

    def setup(self):
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
        return self.synthesise(w, context)

    def w(self, z, label, *, refresh=False):
        """The same for all layers, [B, layers, F]."""
        w = self.mapping(z, label, refresh=refresh)
        layers = 2 * (self.size // 2).bit_length() - 2
        return jnp.broadcast_to(w[:, None], (len(w), layers, w.shape[-1]))

    def synthesise(self, w, context):
        return self.synthesis(w, context.rng, context.step)


class Down(nn.Module):
    """[B, H, W, C] to [B, H / 2, W / 2, features]."""

    features: int

    @nn.compact
    def __call__(self, x):
        x = leaky_relu(EqualizedConv(x.shape[-1], 3, padding=1, gain=SQRT2)(x), 1.0)
        conv = EqualizedConv(self.features, 3, convolve=conv_average_downsample, gain=SQRT2)
        return leaky_relu(conv(blur(x, _TAPS)), 1.0)


class Discriminator(nn.Module):
    """Images [B, size, size, channels] to one score each: with labels [B, K], those of its own."""

    width: int
    size: int
    group: int
    fade: Fade | None

    @nn.compact
    def __call__(self, image, label, context):
        x, side = self._read(image), self.size
        while side > SMALLEST:
            side //= 2
            x = Down(_features(self.width, side), name=f"down_{2 * side}")(x)
            if 2 * side == self.size and self.fade is not None:
                x = self.fade.blend(self._read(average_downsample(image)), x, context.step)
        # Parameters may be made with any batch.
        x = minibatch_stddev(x, group=None if self.is_initializing() else self.group)
        width = _features(self.width, SMALLEST)
        x = leaky_relu(EqualizedConv(width, 3, padding=1, gain=SQRT2, name="conv_4")(x), 1.0)
        x = EqualizedDense(width, gain=SQRT2, name="dense_4")(x.reshape(len(x), -1))
        heads = EqualizedDense(1 if label is None else label.shape[-1], name="heads")
        scores = heads(leaky_relu(x, 1.0))
        return Scores(scores[:, 0] if label is None else (scores * label).sum(-1))

    def _read(self, image):
        side = image.shape[1]
        conv = EqualizedConv(_features(self.width, side), 1, gain=SQRT2, name=f"image_{side}")
        return leaky_relu(conv(image), 1.0)


def make(data: DataSpec, config: Config, plan: Plan) -> tuple[Stage, ...]:
    """Returns the stages of a StyleGAN for pictures whose side is a power of two, at least 8.

    Raises:
      UsageError: if the side is another, or `start_size` does not lead there.
    """
    return stages("stylegan", data.size, config, plan, functools.partial(_gan, data, config))


def _gan(data: DataSpec, config: Config, part: Part) -> Gan:
    conditional = takes_labels(data, config)
    generator = Generator(config, part.size, data.channels, part.fade)
    rate = config.learning_rate or {128: 1.5e-3, 256: 2e-3}.get(
        part.size, 1e-3 if part.size < 128 else 3e-3
    )
    adam = optax.adam(rate, config.beta1, config.beta2)
    gan = noise_gan(
        generator,
        Discriminator(config.width, part.size, config.group, part.fade),
        data=data._replace(size=part.size),
        latent_size=config.latent_size,
        conditional=conditional,
        updates=(
            Update(
                "discriminator",
                {
                    "loss": (1.0, losses.minimax_discriminator),
                    "r1": (config.gamma, penalties.r1),
                    **losses.PROBABILITIES,
                    **watched(part),
                },
            ),
            Update("generator", {"loss": (1.0, losses.nonsaturating_generator)}),
        ),
        optimizers={"generator": adam, "discriminator": adam},
        ema=optim.ema_decay(config.ema_half_life, part.batch_size, ramp_up=0),
    )
    style = Style(
        w=lambda variables, z, label: generator.apply(
            variables, z, label if conditional else None, method="w"
        ),
        average=lambda variables: variables[COLLECTION]["mapping"]["w"],
        synthesise=lambda variables, w, context: generator.apply(
            variables, w, context, method="synthesise"
        ),
    )
    return gan._replace(style=style)
