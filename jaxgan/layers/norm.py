"""Normalisation."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.core import AXIS

batch_norm = functools.partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5, axis_name=AXIS)
"""Batch normalisation with PyTorch's numbers, over the global batch (Ioffe and Szegedy, 2015,
arXiv:1502.03167). Pass `use_running_average`."""


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation whose scale and bias depend on a label.

    Dumoulin et al., "A Learned Representation For Artistic Style", 2017, arXiv:1610.07629; de Vries
    et al., 2017, arXiv:1707.00683. With a label, the scale is 1 + label @ "scale" and the bias is
    label @ "bias", both [K, C]: a class has its row, a set of tags the sum of theirs. They start at
    zero, so that every condition starts as plain normalisation, and a set of many tags with no
    larger scale than one of few. As in SAGAN's official code they are not spectrally
    normalised. Without a label this is `batch_norm` with one scale and bias.
    """

    @nn.compact
    def __call__(self, x: Array, label: Array | None, *, train: bool) -> Array:
        """[B, ..., C] and labels [B, K], one-hot or multi-hot, -> [B, ..., C].

        In training the statistics are those of the global batch, so `AXIS` must be in scope.
        """
        if label is None:
            return batch_norm(use_running_average=not train)(x)
        x = batch_norm(use_running_average=not train, use_scale=False, use_bias=False)(x)
        scale, bias = self._of(label, x, "scale"), self._of(label, x, "bias")
        return x * (1 + scale) + bias

    def _of(self, label, x, name):
        rows = self.param(name, nn.initializers.zeros, (label.shape[-1], x.shape[-1]))
        return jnp.expand_dims(label @ rows, range(1, x.ndim - 1)).astype(x.dtype)
