"""StarGAN. Choi et al., "StarGAN: Unified Generative Adversarial Networks for Multi-Domain
Image-to-Image Translation", 2018, arXiv:1711.09020.

One generator turns a picture into what any label says; the discriminator also names the label. As
in the official code each tag is a yes-or-no question, targets are the batch's labels in another
order, and the rate stays, where the paper's falls to 0 in the second half (the code's falls by a
thousandth). Its 200,000 iterations, which are the critic's, are 40,000 steps here. Biases start at
zero, and each update has targets of its own. Sides that cannot be halved as often as the
discriminator has layers leave out the last ones.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import optax
from flax import linen as nn
from jax import numpy as jnp

from jaxgan import losses, optim, penalties
from jaxgan.core import Array, Context, Fake, Gan, Plan, Scores, Update, View
from jaxgan.data import DataSpec, require_labels
from jaxgan.errors import UsageError
from jaxgan.layers.conv import Conv, ConvTranspose
from jaxgan.layers.minibatch import group_size
from jaxgan.layers.norm import InstanceNorm
from jaxgan.models.common import apply


@dataclasses.dataclass(frozen=True)
class Config:
    """Defaults: the official code's."""

    conditional: ClassVar[bool] = True
    width: int = 64  # channels at the picture's size; doubled at each halving
    blocks: int = 6  # residual ones, at a quarter of the size
    discriminator_width: int = 64  # channels at half the size
    discriminator_layers: int = 6  # at most; each halves the size
    group: int = 16  # pictures among which labels are swapped, the batch of the official code
    n_critic: int = 5
    penalty: float = 10.0
    label_weight: float = 1.0  # of classifying, for both players
    reconstruction: float = 10.0
    learning_rate: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    ema_half_life: float = 0.0  # images; 0: the last weights are the average


_as_torch = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_conv = functools.partial(Conv, kernel_init=_as_torch)
_plain_conv = functools.partial(_conv, use_bias=False)


class Residual(nn.Module):
    """Two normalized convolutions beside a skip, [B, H, W, C] -> [B, H, W, C]."""

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        y = nn.relu(InstanceNorm()(_plain_conv(width, 3, padding=1)(x)))
        return x + InstanceNorm()(_plain_conv(width, 3, padding=1)(y))


class Generator(nn.Module):
    """Pictures [B, size, size, channels] and labels [B, K], which become planes beside the colors,
    to pictures in [-1, 1]."""

    width: int
    blocks: int

    @nn.compact
    def __call__(self, image, label, context):
        planes = jnp.broadcast_to(label[:, None, None], (*image.shape[:3], label.shape[-1]))
        x = jnp.concatenate([image, planes.astype(image.dtype)], -1)
        x = nn.relu(InstanceNorm()(_plain_conv(self.width, 7, padding=3)(x)))
        for times in (2, 4):
            conv = _plain_conv(times * self.width, 4, stride=2, padding=1)
            x = nn.relu(InstanceNorm()(conv(x)))
        for _ in range(self.blocks):
            x = Residual()(x)
        for times in (2, 1):
            conv = ConvTranspose(
                times * self.width, 4, stride=2, padding=1, use_bias=False, kernel_init=_as_torch
            )
            x = nn.relu(InstanceNorm()(conv(x)))
        return jnp.tanh(_plain_conv(image.shape[-1], 7, padding=3)(x))


class Discriminator(nn.Module):
    """Pictures [B, size, size, channels] to a score for each patch [B, h, w], and logits of the K
    labels."""

    width: int
    layers: int
    labels: int

    @nn.compact
    def __call__(self, image, label, context):
        x = image
        for number in range(self.layers):
            x = _conv(self.width * 2**number, 4, stride=2, padding=1)(x)
            x = nn.leaky_relu(x, 0.01)
        source = _plain_conv(1, 3, padding=1)(x)[..., 0]
        logits = _plain_conv(self.labels, x.shape[1])(x)[:, 0, 0]
        return Scores(source, label_logits=logits, features=x.reshape(len(x), -1))


def reconstruction(view: View) -> Array:
    """|x - G(G(x, c'), c)| for pictures x of labels c, the mean over pixels: eq. 4 of the paper."""
    back = view.generate({**view.batch, "image": view.fake.image}, view.rng).image
    return jnp.abs(view.batch["image"] - back).mean()


def shuffled(label: Array, rng: Array, group: int) -> Array:
    """Permutes labels [B, K] within contiguous groups, at random by keys [B].

    Raises:
      UsageError: if the batch cannot be divided into the groups.
    """
    group = group_size(len(label), group, "target labels")
    order = jax.vmap(jax.random.uniform)(rng).reshape(-1, group).argsort(-1)
    groups = label.reshape(-1, group, label.shape[-1])
    return jnp.take_along_axis(groups, order[..., None], 1).reshape(label.shape)


def _halvings(size: int, most: int) -> int:
    """How often a side can be halved without a rest, `most` times at most."""
    return next(n for n in range(most, -1, -1) if size % 2**n == 0)


def make(data: DataSpec, config: Config, plan: Plan) -> Gan:
    """Returns a StarGAN for pictures with labels whose side is a multiple of 4, and at least 8.

    Raises:
      DataError: if the data have no labels.
      UsageError: if the side is another, or the batch is not whole groups.
    """
    require_labels(data, model="stargan")
    if data.size % 4 or data.size < 8:
        near = max(8, 4 * round(data.size / 4))
        raise UsageError(
            f"stargan cannot work at {data.size} px: the side must be a multiple of 4, and at "
            f"least 8; try --image_size={near}"
        )
    if plan.batch_size % config.group:
        whole = max(1, round(plan.batch_size / config.group)) * config.group
        raise UsageError(
            f"a batch of {plan.batch_size} is not whole groups of {config.group}, among which "
            f"labels are swapped; try --batch_size={whole}, or another --set group"
        )
    generator = Generator(config.width, config.blocks)
    discriminator = Discriminator(
        config.discriminator_width,
        _halvings(data.size, config.discriminator_layers),
        len(data.label_names),
    )

    def init(rng):
        g_rng, d_rng = jax.random.split(rng)
        image = jnp.zeros((1, data.size, data.size, data.channels))
        label = jnp.zeros((1, len(data.label_names)))
        return {
            "generator": dict(generator.init(g_rng, image, label, None)),
            "discriminator": dict(discriminator.init(d_rng, image, label, None)),
        }

    def generate(variables, batch, context: Context):
        image, stats = apply(generator, variables, batch["image"], batch["label"], context)
        return Fake(image, batch["label"]), stats

    def score(variables, image, label, context: Context):
        return apply(discriminator, variables, image, label, context)

    adam = optax.adam(config.learning_rate, config.beta1, config.beta2)
    classify_real = functools.partial(losses.classify_real, kind=data.label_kind)
    classify_fake = functools.partial(losses.classify_fake, kind=data.label_kind)
    return Gan(
        init,
        generate,
        score,
        updates=(
            Update(
                "discriminator",
                {
                    "adversarial": (1.0, losses.wasserstein_discriminator),
                    "penalty": (config.penalty, penalties.gradient_penalty),
                    "real_label": (config.label_weight, classify_real),
                    **losses.SCORES,
                },
                repeat=config.n_critic,
            ),
            Update(
                "generator",
                {
                    "adversarial": (1.0, losses.wasserstein_generator),
                    "fake_label": (config.label_weight, classify_fake),
                    "reconstruction": (config.reconstruction, reconstruction),
                },
            ),
        ),
        optimizers={"generator": adam, "discriminator": adam},
        targets=functools.partial(shuffled, group=config.group),
        ema=optim.ema_decay(config.ema_half_life, plan.batch_size),
        conditional=True,
    )
