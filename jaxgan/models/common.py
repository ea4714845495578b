"""What GANs that map noise to images have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgan.core import Array, Context, Fake, Gan, PyTree, Update, Variables
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.layers.conv import Dense


def normal_latents(rng: Array, size: int) -> Array:
    """Draws standard normal latents [B, size] from keys [B]."""
    return jax.vmap(lambda key: jax.random.normal(key, (size,)))(rng)


def takes_labels(data: DataSpec, config: Any) -> bool:
    """Whether a model whose config has `conditional` is so on these data: if they have labels."""
    return config.conditional and data.label_kind is not None


def noise_gan(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    data: DataSpec,
    latent_size: int,
    conditional: bool,
    updates: tuple[Update, ...],
    optimizers: Mapping[str, optax.GradientTransformation],
    ema: optax.Schedule,
) -> Gan:
    """Builds a Gan from two modules.

    Args:
      generator: (latent [B, Z], label, context) -> [B, size, size, channels] in [-1, 1].
      discriminator: (image [B, size, size, channels], label, context) -> Scores.
      data: size, channels and labels.
      latent_size: Z.
      conditional: whether the modules get the labels [B, K], or None.
      updates: as in `Gan`.
      optimizers: as in `Gan`.
      ema: as in `Gan`.
    """

    def latent(rng):
        return normal_latents(rng, latent_size)

    def init(rng):
        g_rng, d_rng, keys = jax.random.split(rng, 3)
        context = Context(jnp.zeros((), jnp.int32), jax.random.split(keys, 2), {}, train=True)
        image = jnp.zeros((2, data.size, data.size, data.channels))
        label = jnp.zeros((2, len(data.label_names))) if conditional else None
        return {
            "generator": dict(generator.init(g_rng, latent(context.rng), label, context)),
            "discriminator": dict(discriminator.init(d_rng, image, label, context)),
        }

    def generate(variables, batch, context: Context):
        z = batch["latent"] if "latent" in batch else latent(context.rng)
        label = batch["label"] if conditional else None
        image, stats = apply(generator, variables, z, label, context)
        return Fake(image, label), stats

    def score(variables, image, label, context: Context):
        label = label if conditional else None
        return apply(discriminator, variables, image, label, context)

    return Gan(
        init,
        generate,
        score,
        updates,
        optimizers,
        latent=latent,
        ema=ema,
        conditional=conditional,
    )


def apply(
    module: nn.Module, variables: Variables, x: Array, label: Array | None, context: Context
) -> tuple[Any, PyTree]:
    """Returns what a module (x, label, context) puts out, and the collections other than `params`,
    refreshed in training."""
    collections = [name for name in variables if name != "params"]
    if context.train:
        return module.apply(variables, x, label, context, mutable=collections)
    return module.apply(variables, x, label, context), {n: variables[n] for n in collections}


def halvings(size: int) -> tuple[int, int]:
    """Returns how often a side of `size` px can be halved, and the 4 to 7 px that remain.

    Raises:
      UsageError: if something else remains.
    """
    count, side = 0, size
    while side > 7 and side % 2 == 0:
        count, side = count + 1, side // 2
    if not 4 <= side <= 7 or count == 0:
        sizes = sorted(s * 2**n for s in (4, 5, 6, 7) for n in range(1, 9))
        near = sorted(sizes, key=lambda s: abs(s - size))[:2]
        raise UsageError(
            f"this model cannot work at {size} px: the side must be 4, 5, 6 or 7 doubled a few "
            f"times; try --image_size={' or '.join(map(str, sorted(near)))}"
        )
    return count, side


def power_of_two(model: str, size: int, least: int = 8, most: int = 1024) -> None:
    """Raises UsageError unless the side is a power of two in [least, most]."""
    if size & (size - 1) == 0 and least <= size <= most:
        return
    powers = [2**n for n in range(1, 16) if least <= 2**n <= most]
    near = sorted(sorted(powers, key=lambda s: abs(s - size))[:2])
    raise UsageError(
        f"{model} cannot work at {size} px: the side must be a power of two from {least} to "
        f"{most}; try --image_size={' or '.join(map(str, near))}"
    )


def torch_dense(features: int, fan_in: int) -> Dense:
    """A dense layer initialized as PyTorch's Linear: uniform in +-1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    return Dense(
        features,
        kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
        bias_init=lambda rng, shape, dtype: (
            nn.initializers.uniform(2 * bound)(rng, shape, dtype) - bound
        ),
    )


_EMBEDDING = 100  # features of a label beside the latents


def beside_latents(z: Array, label: Array | None) -> Array:
    """Concatenates an embedding (linear, ReLU) of labels [B, K], if there are any, to z [B, Z]."""
    if label is None:
        return z
    return jnp.concatenate([z, nn.relu(torch_dense(_EMBEDDING, label.shape[-1])(label))], -1)


def as_plane(image: Array, label: Array | None) -> Array:
    """Appends an embedding (linear, ReLU) of labels [B, K], if there are any, to an image
    [B, H, W, C] as one more channel."""
    if label is None:
        return image
    plane = nn.relu(torch_dense(image.shape[1] * image.shape[2], label.shape[-1])(label))
    return jnp.concatenate([image, plane.reshape(*image.shape[:3], 1)], -1)


def dropout(x: Array, rng: Array, rate: float) -> Array:
    """Sets a share of x [B, ...] to 0 and scales the rest up (Srivastava et al., 2014).

    Args:
      x: features.
      rng: keys [B], so that every example has another mask.
      rate: the share, in [0, 1).
    """
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(rng)
    return jnp.where(kept, x / (1 - rate), 0)


def fold(rng: Array, number: int) -> Array:
    """Returns keys [B] for another use of the keys [B]."""
    return jax.vmap(jax.random.fold_in, (0, None))(rng, number)
