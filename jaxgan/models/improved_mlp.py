"""The improved GAN that learns a classifier from few labels. Salimans et al., "Improved Techniques
for Training GANs", 2016, arXiv:1606.03498, section 5.1, with the numbers of the paper's code for
MNIST (openai/improved-gan, train_mnist_feature_matching.py).

The discriminator is the classifier: K logits, whose logsumexp is the logit of being real. Labeled
pictures teach it the classes, unlabeled and generated ones what is real; the generator matches the
mean of its last hidden layer. Give `--labeled=100` for so many labels; without, it has all.

Departs from the code: outputs are standardized by the first batch and not by 500 pictures; the
generator's uniform latents are the library's normal ones through their distribution function;
batch normalization adds 1e-5 to the variance, not 1e-6; the average of D's weights starts from
weights, not from zero; labeled and unlabeled pictures of a step meet the same noise.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import ClassVar

import jax
import optax
from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim
from jaxgan.core import Gan, Plan, Scores, Update
from jaxgan.data import DataSpec, require_labels
from jaxgan.layers.conv import Dense
from jaxgan.layers.norm import BatchNorm
from jaxgan.layers.weight_norm import WeightNormDense
from jaxgan.models.common import noise_gan, normal_latents


@dataclasses.dataclass(frozen=True)
class Config:
    """The code's numbers."""

    conditional: ClassVar[bool] = False
    few_labels: ClassVar[bool] = True
    latent_size: int = 100
    generator_widths: tuple[int, ...] = (500, 500)
    discriminator_widths: tuple[int, ...] = (1000, 500, 250, 250, 250)
    image_noise: float = 0.3  # deviation, of pictures in [0, 1]
    noise: float = 0.5  # deviation, after every hidden layer
    unlabeled: float = 1.0  # weight of the loss on unlabeled and generated pictures
    learning_rate: float = 3e-3
    beta1: float = 0.5
    beta2: float = 0.999
    average_half_life: float = 693_000  # images: the code's rate of 1e-4 for each 100 of them
    ema_half_life: float = 0.0  # images; 0: the generator's last weights are the average


class Generator(nn.Module):
    """Latents [B, Z] to images [B, *image] in [-1, 1]."""

    widths: tuple[int, ...]
    image: tuple[int, ...]

    @nn.compact
    def __call__(self, z, label, context):
        x = jax.scipy.stats.norm.cdf(z.astype(jnp.float32)).astype(z.dtype)
        for width in self.widths:
            x = Dense(width, use_bias=False, kernel_init=nn.initializers.xavier_uniform())(x)
            x = nn.softplus(BatchNorm(scale_init=None)(x, train=context.train))
        last = WeightNormDense(math.prod(self.image), kernel_init=nn.initializers.xavier_uniform())
        return 2 * nn.sigmoid(last(x)).reshape(-1, *self.image) - 1


class Discriminator(nn.Module):
    """Images [B, H, W, C] to logits of the K classes; the features are the last hidden layer."""

    widths: tuple[int, ...]
    labels: int
    image_noise: float
    noise: float

    @nn.compact
    def __call__(self, image, label, context):
        x = (image.reshape(len(image), -1) + 1) / 2
        noises = self._noises(context, x)
        for width in self.widths:
            layer = WeightNormDense(width, train_scale=False, standardize=True)
            x = nn.relu(layer(x + next(noises), refresh=context.refresh))
        last = WeightNormDense(self.labels, standardize=True)
        logits = last(x + next(noises), refresh=context.refresh)
        return Scores(jax.nn.logsumexp(logits, -1), label_logits=logits, features=x)

    def _noises(self, context, x):
        """Yields what is added to the input of each layer, all from one draw, which is faster."""
        sizes = (x.shape[-1], *self.widths)
        deviations = (self.image_noise, *(self.noise for _ in self.widths))
        if not context.train:
            yield from (0.0 for _ in sizes)
            return
        drawn = normal_latents(context.rng, sum(sizes)).astype(x.dtype)
        ends = itertools.accumulate(sizes)
        for size, deviation, end in zip(sizes, deviations, ends, strict=True):
            yield deviation * drawn[:, end - size : end]


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns the GAN for small pictures with classes.

    Raises:
      DataError: if the data have no labels, or tags.
    """
    require_labels(data, "class", model="improved_mlp")
    image = (data.size, data.size, data.channels)
    # The code's epsilon lies inside of the root: it slows steps along gradients below 1e-4.
    adam = optax.adam(config.learning_rate, config.beta1, config.beta2, eps=0.0, eps_root=1e-8)
    classify = functools.partial(losses.classify_real, kind="class")
    gan = noise_gan(
        Generator(config.generator_widths, image),
        Discriminator(
            config.discriminator_widths, len(data.label_names), config.image_noise, config.noise
        ),
        data=data,
        latent_size=config.latent_size,
        conditional=False,
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (config.unlabeled / 2, losses.minimax_discriminator),
                    "real_label": (1.0, classify),
                    **losses.PROBABILITIES,
                },
            ),
            Update("generator", {"adversarial": (1.0, losses.feature_matching)}, fresh=True),
        ),
        optimizers={"generator": adam, "discriminator": adam},
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
    )
    return optim.with_averaged_discriminator(gan, config.average_half_life, plan.batch_size)
