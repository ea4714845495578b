"""Mapping networks from latents z to intermediate latents w, their average, truncation, mixing.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
arXiv:1812.04948, and, for `Mapping`, "Training Generative Adversarial Networks with Limited Data",
2020, arXiv:2006.06676. The moving average of w is the collection "w_avg", of which nothing else is
a part.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.core import batch_mean
from jaxgan.layers.equalized import SQRT2, EqualizedDense, leaky_relu
from jaxgan.layers.norm import pixel_norm

COLLECTION = "w_avg"


def truncate(w: Array, average: Array, psi: Array | float, cutoff: int | None = None) -> Array:
    """Draws w towards its average: the truncation trick.

    Args:
      w: [B, F], or [B, layers, F].
      average: [F], of the collection "w_avg".
      psi: 1 leaves w as it is, 0 gives the average.
      cutoff: how many layers, the coarse ones first, are truncated; None is all. It needs layers.

    Returns:
      w's shape.
    """
    drawn = average + psi * (w - average)
    if cutoff is None:
        return drawn
    return jnp.where(jnp.arange(w.shape[-2])[:, None] < cutoff, drawn, w)


def mix(w: Array, other: Array, crossover: Array | int) -> Array:
    """Takes the layers from the crossover on from others: style mixing.

    Args:
      w, other: [B, layers, F].
      crossover: [B], or one for all: how many layers, the coarse ones first, stay w's.

    Returns:
      w's shape.
    """
    layer = jnp.arange(w.shape[-2])[:, None]
    return jnp.where(layer < jnp.reshape(crossover, (-1, 1, 1)), w, other)


def crossovers(rng: Array, layers: int, probability: float) -> Array:
    """Draws for each key [B] where to mix, [B] from 1 to layers - 1, or layers: not at all.

    Args:
      rng: keys.
      layers: of w.
      probability: of mixing.
    """

    def draw(key):
        whether, where = jax.random.split(key)
        mixed = jax.random.uniform(whether) < probability
        return jnp.where(mixed, jax.random.randint(where, (), 1, layers), layers)

    return jax.vmap(draw)(rng)


class Mapping(nn.Module):
    """StyleGAN2's mapping network; a label's embedding is normalised and appended.

    Attributes:
      features: size of w, and of the layers.
      layers: how many.
      lr_multiplier: of the layers.
      decay: of the moving average of w, for each refresh.
    """

    features: int = 512
    layers: int = 8
    lr_multiplier: float = 0.01
    decay: float = 0.995

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, *, refresh: bool = False) -> Array:
        """Maps latents [B, Z] and labels [B, K], or None, -> w [B, features].

        A `refresh` moves the average, which must then be mutable, by the mean over the global
        batch, so `AXIS` must be in scope.
        """
        x = pixel_norm(z)
        if label is not None:
            embedded = EqualizedDense(self.features, name="embed")(label.astype(x.dtype))
            x = jnp.concatenate([x, pixel_norm(embedded)], -1)
        for number in range(self.layers):
            dense = EqualizedDense(
                self.features, lr_multiplier=self.lr_multiplier, name=f"dense_{number}"
            )
            x = leaky_relu(dense(x))
        return _averaged(self, x, refresh)


class StyleGANMapping(nn.Module):
    """StyleGAN's mapping network; a label's embedding, by a normal matrix, is normalised with z.

    Attributes: those of `Mapping`.
    """

    features: int = 512
    layers: int = 8
    lr_multiplier: float = 0.01
    decay: float = 0.995

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, *, refresh: bool = False) -> Array:
        """As that of `Mapping`."""
        x = z
        if label is not None:
            shape = (label.shape[-1], z.shape[-1])
            embed = self.param("embed", nn.initializers.normal(1.0), shape, jnp.float32)
            x = jnp.concatenate([x, (label @ embed).astype(x.dtype)], -1)
        x = pixel_norm(x)
        for number in range(self.layers):
            dense = EqualizedDense(self.features, SQRT2, self.lr_multiplier, name=f"dense_{number}")
            x = leaky_relu(dense(x), 1.0)
        return _averaged(self, x, refresh)


def _averaged(module: nn.Module, w: Array, refresh: bool) -> Array:
    average = module.variable(COLLECTION, "w", jnp.zeros, w.shape[-1:], jnp.float32)
    if refresh and not module.is_initializing():
        mean = batch_mean(jax.lax.stop_gradient(w).astype(jnp.float32))
        average.value = module.decay * average.value + (1 - module.decay) * mean
    return w
