"""ProGAN. Karras, Aila, Laine and Lehtinen, "Progressive Growing of GANs for Improved Quality,
Stability, and Variation", 2018, arXiv:1710.10196.

The networks and numbers are those of the official TensorFlow code for one GPU. Its labels are
ACGAN's: beside the latents as they are, and classified by the discriminator, each tag apart.
Its Adam also starts over where a size has faded in, and at 1024 px goes faster; here it starts over
with each size. Its minibatches come in fours between two moves of alpha, here alpha moves at every
step.
"""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgan import losses, penalties
from jaxgan.core import Gan, Plan, Scores, Stage, Update
from jaxgan.data import DataSpec
from jaxgan.layers.equalized import SQRT2, EqualizedConv, EqualizedDense, leaky_relu
from jaxgan.layers.norm import pixel_norm
from jaxgan.layers.resample import (
    nearest_upsample,
    nearest_upsample_conv,
)
from jaxgan.models.common import noise_gan, takes_labels
from jaxgan.models.growing import SMALLEST, Fade, Phase, alpha_metric, channels, judge, stages


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: table 2 and appendix A.1 of the paper; batches as the official code on one GPU."""

    latent_size: int = 512
    width: int = 512  # channels up to 32 px; half of them at 64, a quarter at 128, ...
    start_size: int = 4
    fade_images: float = 600e3
    stable_images: float = 600e3  # at each size but the last, which lasts as long as the run
    batch_sizes: tuple[int, ...] = (128, 128, 128, 64, 32, 16, 8, 4)  # at most, at 4, 8, ... px
    group: int = 4  # examples whose deviation the discriminator sees
    penalty: float = 10.0
    drift: float = 1e-3
    label_weight: float = 1.0  # of classifying, for both players
    learning_rate: float = 1e-3
    beta1: float = 0.0
    beta2: float = 0.99
    ema_decay: float = 0.999  # a step
    conditional: bool = True  # on the labels, where the data have them


class Up(nn.Module):
    """[B, H, W, C] to [B, 2 H, 2 W, features]."""

    features: int

    @nn.compact
    def __call__(self, x):
        for convolve in (nearest_upsample_conv, None):
            conv = EqualizedConv(self.features, 3, padding=1, convolve=convolve, gain=SQRT2)
            x = pixel_norm(leaky_relu(conv(x), 1.0))
        return x


class Generator(nn.Module):
    """Latents [B, Z] and labels [B, K], if there are any, to images [B, size, size, channels].

    With a fade, the layers of half the size and their image are blended in.
    """

    width: int
    size: int
    channels: int
    fade: Fade | None

    @nn.compact
    def __call__(self, z, label, context):
        x = pixel_norm(z if label is None else jnp.concatenate([z, label], -1))
        x = self._start(x)
        before, side = x, SMALLEST
        while side < self.size:
            before, side = x, 2 * side
            x = Up(channels(self.width, side), name=f"up_{side}")(x)
        image = self._image(x)
        if self.fade is None:
            return image
        return self.fade.blend(nearest_upsample(self._image(before)), image, context.step)

    def _start(self, x):
        width = channels(self.width, SMALLEST)
        dense = EqualizedDense(16 * width, gain=SQRT2 / 4, use_bias=False, name="dense_4")
        bias = self.param("bias", nn.initializers.zeros, (width,))
        x = dense(x).reshape(-1, 4, 4, width) + bias.astype(x.dtype)
        x = pixel_norm(leaky_relu(x, 1.0))
        conv = EqualizedConv(width, 3, padding=1, gain=SQRT2, name="conv_4")
        return pixel_norm(leaky_relu(conv(x), 1.0))

    def _image(self, x):
        return EqualizedConv(self.channels, 1, name=f"image_{x.shape[1]}")(x)


class Discriminator(nn.Module):
    """Images [B, size, size, channels] to one score each, and logits of the labels."""

    width: int
    size: int
    labels: int
    group: int
    fade: Fade | None

    @nn.compact
    def __call__(self, image, label, context):
        heads = judge(self, image, context.step, 1 + self.labels, taps=None)
        return Scores(heads[:, 0], label_logits=heads[:, 1:] if self.labels else None)


def make(data: DataSpec, config: Config, plan: Plan) -> tuple[Stage, ...]:
    """Returns the stages of a ProGAN for pictures whose side is a power of two, at least 8.

    Raises:
      UsageError: if the side is another, or `start_size` does not lead there.
    """
    return stages("progan", data.size, config, plan, functools.partial(_gan, data, config))


def _gan(data: DataSpec, config: Config, phase: Phase) -> Gan:
    conditional = takes_labels(data, config)
    labels = len(data.label_names) if conditional else 0
    real, fake = {}, {}
    if conditional:
        classify_real = functools.partial(losses.classify_real, kind=data.label_kind)
        classify_fake = functools.partial(losses.classify_fake, kind=data.label_kind)
        real = {"real_label": (config.label_weight, classify_real)}
        fake = {"fake_label": (config.label_weight, classify_fake)}
    adam = optax.adam(config.learning_rate, config.beta1, config.beta2)
    return noise_gan(
        Generator(config.width, phase.size, data.channels, phase.fade),
        Discriminator(config.width, phase.size, labels, config.group, phase.fade),
        data=data._replace(size=phase.size),
        latent_size=config.latent_size,
        conditional=conditional,
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (1.0, losses.wasserstein_discriminator),
                    "penalty": (config.penalty, penalties.gradient_penalty),
                    "drift": (config.drift, penalties.drift),
                    **real,
                    **fake,
                    **losses.SCORES,
                    **alpha_metric(phase),
                },
            ),
            Update("generator", {"adversarial": (1.0, losses.wasserstein_generator), **fake}),
        ),
        optimizers={"generator": adam, "discriminator": adam},
        ema=optax.constant_schedule(config.ema_decay),
    )
