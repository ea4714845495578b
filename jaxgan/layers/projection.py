"""Projection discriminator. Miyato and Koyama, "cGANs with Projection Discriminator", 2018,
arXiv:1802.05637.
"""

from __future__ import annotations

from flax import linen as nn
from jax import Array

from jaxgan.layers.spectral import SpectralDense


class Projection(nn.Module):
    """How well features agree with a label: what the label adds to the score (equation 3).

    The label's embedding "embed" is spectrally normalised, as in SAGAN; a set of tags has the sum
    of its tags' embeddings.
    """

    @nn.compact
    def __call__(self, features: Array, label: Array, *, refresh: bool) -> Array:
        """Features [B, F] and labels [B, K], one-hot or multi-hot, -> [B]."""
        embed = SpectralDense(features.shape[-1], use_bias=False, name="embed")
        return (features * embed(label.astype(features.dtype), refresh=refresh)).sum(-1)
