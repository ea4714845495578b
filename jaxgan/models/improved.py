"""The improved GAN. Salimans et al., "Improved Techniques for Training GANs", 2016,
arXiv:1606.03498: a discriminator of K + 1 classes, feature matching, minibatch discrimination.

The networks are those of a course on MNIST, which at 28 px start from 2 pixels and are cropped from
30. A softmax over K classes and "generated" is a softmax over the K and, apart from it, a logit of
being real, logsumexp(the K) - the last (section 5): its cross-entropy is the sum of both, which are
the terms here. The course scales the loss on generated examples by .9 and calls that label
smoothing (`smoothing=0 fake_weight=0.9`); it moves the generator against running statistics where
this uses the batch's, and its feature matching has no gradient where this has one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import optax
from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim
from jaxgan.core import Gan, Plan, Scores, Update
from jaxgan.data import DataSpec, require_labels
from jaxgan.errors import UsageError
from jaxgan.layers.conv import Conv, ConvTranspose
from jaxgan.layers.minibatch import MinibatchDiscrimination
from jaxgan.layers.norm import BatchNorm
from jaxgan.models.common import noise_gan, torch_dense


@dataclasses.dataclass(frozen=True)
class Config:
    """The course's numbers; the latent's size and the rate are ours."""

    conditional: ClassVar[bool] = True
    few_labels: ClassVar[bool] = True
    latent_size: int = 100
    width: int = 64  # channels of the generator's last layers
    discriminator_width: int = 32
    fake_logit: bool = True  # is an output; false: fixed at 0, as in the paper's code
    kernels: int = 100  # B of minibatch discrimination
    dims: int = 4  # C of minibatch discrimination
    group: int = 16  # examples that minibatch discrimination compares
    matching: float = 1.0  # weight of feature matching
    smoothing: float = 0.1  # one-sided: real examples have the target 1 - smoothing
    fake_weight: float = 1.0  # of the discriminator's loss on generated examples
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    ema_half_life: float = 0.0  # images; 0: the last weights are the average
    average_half_life: float = 0.0  # images, of the discriminator's average; 0: none


class Generator(nn.Module):
    """Latents [B, Z] and labels [B, K] to images [B, size, size, channels] in [-1, 1]."""

    size: int
    channels: int
    width: int

    @nn.compact
    def __call__(self, z, label, context):
        # From side s, kernel 5 makes s + 4, and each doubling of n then 2 n + 2.
        doublings = int(math.log2(self.size / 7))
        side = -(-(self.size + 2) // 2**doublings) - 6
        width = self.width
        x = jnp.concatenate([z, label], -1)
        x = nn.relu(torch_dense(4 * width * side * side, x.shape[-1])(x))
        x = x.reshape(-1, side, side, 4 * width)
        widths = [2 * width] * doublings + [width]
        for number, features in enumerate(widths):
            kernel, stride = (4, 2) if number else (5, 1)
            x = ConvTranspose(features, kernel, stride)(x)
            x = nn.relu(BatchNorm()(x, train=context.train))
        image = jnp.tanh(Conv(self.channels, 1)(x))
        margin = (image.shape[1] - self.size) // 2
        return image[:, margin : margin + self.size, margin : margin + self.size]


class Discriminator(nn.Module):
    """Images [B, size, size, channels] to logits of the K classes and of being real."""

    width: int
    labels: int
    fake_logit: bool
    kernels: int
    dims: int
    group: int

    @nn.compact
    def __call__(self, image, label, context):
        x = nn.leaky_relu(Conv(self.width, 2)(image), 0.2)
        x = BatchNorm()(Conv(2, 2, stride=2)(x), train=context.train)
        features = nn.leaky_relu(x, 0.2).reshape(len(x), -1)
        x = MinibatchDiscrimination(self.kernels, self.dims, self.group)(features)
        logits = torch_dense(self.labels + self.fake_logit, x.shape[-1])(x)
        classes = logits[:, : self.labels]
        fake = logits[:, -1] if self.fake_logit else 0.0
        source = jax.nn.logsumexp(classes, -1) - fake
        return Scores(source, label_logits=classes, features=features)


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns an improved GAN for pictures of 14 px or more with classes.

    Raises:
      DataError: if the data have no labels, or tags.
      UsageError: if the pictures are smaller, or the batch is not whole groups.
    """
    require_labels(data, "class", model="improved")
    if data.size < 14:
        raise UsageError(f"improved cannot work at {data.size} px; try --image_size=14 or more")
    if plan.batch_size % config.group:
        whole = max(1, round(plan.batch_size / config.group)) * config.group
        raise UsageError(
            f"a batch of {plan.batch_size} is not whole groups of {config.group}, which minibatch "
            f"discrimination compares; try --batch_size={whole}"
        )
    adam = optax.adam(config.learning_rate, config.beta1, config.beta2)

    minimax = functools.partial(
        losses.minimax_discriminator,
        smoothing=config.smoothing,
        fake_weight=config.fake_weight,
    )
    classify_real = functools.partial(losses.classify_real, kind="class")
    classify_fake = functools.partial(losses.classify_fake, kind="class")
    gan = noise_gan(
        Generator(data.size, data.channels, config.width),
        Discriminator(
            config.discriminator_width,
            len(data.label_names),
            config.fake_logit,
            config.kernels,
            config.dims,
            config.group,
        ),
        data=data,
        latent_size=config.latent_size,
        conditional=True,
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (1.0, minimax),
                    "real_label": (1 - config.smoothing, classify_real),
                    **losses.PROBABILITIES,
                },
            ),
            Update(
                "generator",
                {
                    "adversarial": (1.0, losses.nonsaturating_generator),
                    "fake_label": (1.0, classify_fake),
                    "matching": (config.matching, losses.feature_matching),
                },
            ),
        ),
        optimizers={"generator": adam, "discriminator": adam},
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
    )
    return optim.with_averaged_discriminator(gan, config.average_half_life, plan.batch_size)
