"""Noise as an input of each layer. Karras et al., "A Style-Based Generator Architecture for
Generative Adversarial Networks", 2019, arXiv:1812.04948, section 2.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array


def pixel_noise(rng: Array, height: int, width: int) -> Array:
    """Draws standard normal noise [B, height, width, 1] from keys [B]."""
    return jax.vmap(lambda key: jax.random.normal(key, (height, width, 1)))(rng)


class Noise(nn.Module):
    """Adds noise, one picture an example for all channels, times a learned strength.

    Attributes:
      per_channel: whether "strength", which starts at 0, is [C], as in StyleGAN, or a scalar, as
        in StyleGAN2.
    """

    per_channel: bool = False

    @nn.compact
    def __call__(self, x: Array, rng: Array) -> Array:
        """Maps [B, H, W, C] and keys [B] -> [B, H, W, C]."""
        shape = x.shape[-1:] if self.per_channel else ()
        strength = self.param("strength", nn.initializers.zeros, shape, jnp.float32)
        noise = pixel_noise(rng, *x.shape[1:3])
        return x + (noise * strength).astype(x.dtype)
