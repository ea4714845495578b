"""Normalisation."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.core import AXIS

_MOMENTUM = 0.9
_EPSILON = 1e-5


def pixel_norm(x: Array) -> Array:
    """Divides each feature vector [..., C] by the root of its mean square, 1e-8 added under it.

    Karras et al., "Progressive Growing of GANs", 2018, arXiv:1710.10196, section 4.2. Computed in
    float32 or better.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    scale = jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-8)
    return (wide * scale).astype(x.dtype)


def instance_norm(x: Array) -> Array:
    """Gives each channel of each example [B, H, W, C] mean 0 and variance 1, 1e-8 added to it.

    Computed in float32 or better.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # Not by moments as in batch normalisation: here a channel may well be constant.
    wide -= wide.mean((1, 2), keepdims=True)
    scale = jax.lax.rsqrt(jnp.square(wide).mean((1, 2), keepdims=True) + 1e-8)
    return (wide * scale).astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's numbers, over the global batch (Ioffe and Szegedy, 2015,
    arXiv:1502.03167): parameters "scale" and "bias" [C], statistics "mean" and "var" [C].

    Attributes:
      scale_init: initialiser of the scale; the bias starts at zero.
    """

    scale_init: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """[B, ..., C] -> [B, ..., C].

        In training the statistics are those of the global batch, so `AXIS` must be in scope.
        """
        scale = self.param("scale", self.scale_init, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        return _normalise(self, x, scale, bias, train=train)


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation whose scale and bias depend on a label.

    Dumoulin et al., "A Learned Representation For Artistic Style", 2017, arXiv:1610.07629; de Vries
    et al., 2017, arXiv:1707.00683. With a label, the scale is 1 + label @ "scale" and the bias is
    label @ "bias", both [K, C]: a class has its row, a set of tags the sum of theirs. They start at
    zero, so that every condition starts as plain normalisation, and a set of many tags with no
    larger scale than one of few. As in SAGAN's official code they are not spectrally
    normalised. Without a label this is `BatchNorm`.
    """

    @nn.compact
    def __call__(self, x: Array, label: Array | None, *, train: bool) -> Array:
        """[B, ..., C] and labels [B, K], one-hot or multi-hot, -> [B, ..., C].

        In training the statistics are those of the global batch, so `AXIS` must be in scope.
        """
        if label is None:
            return BatchNorm()(x, train=train)
        scale, bias = self._of(label, x, "scale"), self._of(label, x, "bias")
        return _normalise(self, x, 1 + scale, bias, train=train)

    def _of(self, label, x, name):
        rows = self.param(name, nn.initializers.zeros, (label.shape[-1], x.shape[-1]))
        return jnp.expand_dims(label @ rows, range(1, x.ndim - 1))


def _normalise(module: nn.Module, x: Array, scale: Array, bias: Array, *, train: bool) -> Array:
    """One multiplication and one addition a number, of which the derivatives, too, take few passes
    over memory: on a CPU those passes are what normalisation costs."""
    mean, variance = _statistics(module, x, train=train)
    factor = scale * jax.lax.rsqrt(variance + _EPSILON)
    return (x * factor + (bias - mean * factor)).astype(x.dtype)


def _statistics(module: nn.Module, x: Array, *, train: bool) -> tuple[Array, Array]:
    """Mean and (biased) variance of each channel, in float32; in training the running ones move."""
    features = x.shape[-1:]
    running = (
        module.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32),
        module.variable("batch_stats", "var", jnp.ones, features, jnp.float32),
    )
    if not train:
        return tuple(statistic.value for statistic in running)
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    moments = jnp.stack([x.mean(axes), jnp.square(x).mean(axes)])
    if not module.is_initializing():  # where there is no axis yet
        moments = jax.lax.pmean(moments, AXIS)
    mean, square = moments
    variance = jnp.maximum(square - jnp.square(mean), 0)
    if not module.is_initializing():
        for statistic, value in zip(running, (mean, variance), strict=True):
            statistic.value = _MOMENTUM * statistic.value + (1 - _MOMENTUM) * value
    return mean, variance
