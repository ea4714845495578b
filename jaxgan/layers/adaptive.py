"""Adaptive instance normalisation. Huang and Belongie, 2017, arXiv:1703.06868, as in Karras et al.,
"A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, arXiv:1812.04948,
equation 1.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.layers.equalized import EqualizedDense
from jaxgan.layers.norm import instance_norm


class AdaptiveInstanceNorm(nn.Module):
    """Normalises each example's channels, then scales by 1 + s0 and shifts by s1.

    The style (s0, s1) is an affine map of w: the parameters of "affine".
    """

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        """Maps [B, H, W, C] and intermediate latents w [B, W] -> [B, H, W, C]."""
        style = EqualizedDense(2 * x.shape[-1], name="affine")(w)[:, None, None].astype(x.dtype)
        scale, shift = jnp.split(style, 2, -1)
        return instance_norm(x) * (scale + 1) + shift
