"""What GANs that map noise to images have in common."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgan.core import Array, Context, Fake, Gan, Update
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError


def normal_latents(rng: Array, size: int) -> Array:
    """Draws standard normal latents [B, size] from keys [B]."""
    return jax.vmap(lambda key: jax.random.normal(key, (size,)))(rng)


def noise_gan(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    data: DataSpec,
    latent_size: int,
    updates: tuple[Update, ...],
    optimizers: Mapping[str, optax.GradientTransformation],
    ema: optax.Schedule,
) -> Gan:
    """Builds a Gan from two modules.

    Args:
      generator: (latent [B, Z], train) -> [B, size, size, channels] in [-1, 1].
      discriminator: (image [B, size, size, channels], train) -> Scores.
      data: size and channels.
      latent_size: Z.
      updates: as in `Gan`.
      optimizers: as in `Gan`.
      ema: as in `Gan`.
    """
    shape = (2, data.size, data.size, data.channels)

    def latent(rng):
        return normal_latents(rng, latent_size)

    def init(rng):
        g_rng, d_rng = jax.random.split(rng)
        return {
            "generator": dict(generator.init(g_rng, jnp.zeros((2, latent_size)), train=True)),
            "discriminator": dict(discriminator.init(d_rng, jnp.zeros(shape), train=True)),
        }

    def generate(variables, batch, context: Context):
        z = batch["latent"] if "latent" in batch else latent(context.rng)
        made, stats = _apply(generator, variables, z, train=context.train)
        return Fake(made), stats

    def score(variables, image, label, context: Context):
        return _apply(discriminator, variables, image, train=context.train)

    return Gan(init, generate, score, updates, optimizers, latent=latent, ema=ema)


def _apply(module, variables, x, *, train):
    """Returns the output and the collections other than `params`, refreshed in training."""
    collections = [name for name in variables if name != "params"]
    if train:
        return module.apply(variables, x, train=True, mutable=collections)
    return module.apply(variables, x, train=False), {n: variables[n] for n in collections}


def halvings(who: str, size: int) -> tuple[int, int]:
    """Returns how often `size` can be halved, and the side of 4 to 7 px that remains.

    Raises:
      UsageError: if no such side remains.
    """
    count, side = 0, size
    while side > 7 and side % 2 == 0:
        count, side = count + 1, side // 2
    if not 4 <= side <= 7 or count == 0:
        sizes = sorted(s * 2**n for s in (4, 5, 6, 7) for n in range(1, 9))
        near = sorted(sizes, key=lambda s: abs(s - size))[:2]
        raise UsageError(
            f"{who} cannot work at {size} px: a side must be 4, 5, 6 or 7 doubled a few "
            f"times; try --image_size={' or '.join(map(str, sorted(near)))}"
        )
    return count, side
