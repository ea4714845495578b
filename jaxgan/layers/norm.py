"""Normalization."""

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
    """Divides each feature vector [..., C] by the root of its mean square plus 1e-8.

    Karras et al., "Progressive Growing of GANs", 2018, arXiv:1710.10196, section 4.2. Computed in
    float32 or better.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    scale = jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-8)
    return (wide * scale).astype(x.dtype)


def instance_norm(x: Array, epsilon: float = 1e-8) -> Array:
    """Gives each channel of each example [B, H, W, C] mean 0 and variance 1.

    Epsilon is added to the variance. Computed in float32 or better.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # Not by moments as in batch normalization: here a channel may well be constant.
    wide -= wide.mean((1, 2), keepdims=True)
    scale = jax.lax.rsqrt(jnp.square(wide).mean((1, 2), keepdims=True) + epsilon)
    return (wide * scale).astype(x.dtype)


class InstanceNorm(nn.Module):
    """Instance normalization with PyTorch's numbers (Ulyanov et al., 2016, arXiv:1607.08022):
    parameters "scale" and "bias" [C]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, H, W, C], in the dtype of x."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        return (instance_norm(x, _EPSILON) * scale + bias).astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalization with PyTorch's numbers, over the global batch (Ioffe and Szegedy, 2015,
    arXiv:1502.03167): parameters "scale" and "bias" [C], statistics "mean" and "var" [C].

    Attributes:
      scale_init: initializer of the scale, None for no scale; the bias starts at zero.
    """

    scale_init: Callable | None = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """[B, ..., C] -> [B, ..., C].

        In training the statistics are those of the global batch, so `AXIS` must be in scope.
        """
        scale: Array | float = 1.0
        if self.scale_init is not None:
            scale = self.param("scale", self.scale_init, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        return _normalize(self, x, scale, bias, train=train)


class ConditionalBatchNorm(nn.Module):
    """Batch normalization whose scale and bias depend on a label.

    Dumoulin et al., "A Learned Representation For Artistic Style", 2017, arXiv:1610.07629; de Vries
    et al., 2017, arXiv:1707.00683. With a label, the scale is 1 + label @ "scale" and the bias is
    label @ "bias", both [K, C]: a class has its row, a set of tags the sum of theirs. They start at
    zero, so that it starts as plain normalization for every label and any number of tags. As in
    SAGAN's official code they are not spectrally normalized. Without a label this is `BatchNorm`.
    """

    @nn.compact
    def __call__(self, x: Array, label: Array | None, *, train: bool) -> Array:
        """[B, ..., C] and labels [B, K], one-hot or multi-hot, -> [B, ..., C].

        In training the statistics are those of the global batch, so `AXIS` must be in scope.
        """
        if label is None:
            return BatchNorm()(x, train=train)
        scale, bias = (self._rows(name, label, x) for name in ("scale", "bias"))
        return _normalize(self, x, 1 + scale, bias, train=train)

    def _rows(self, name, label, x):
        rows = self.param(name, nn.initializers.zeros, (label.shape[-1], x.shape[-1]))
        return jnp.expand_dims(label @ rows, range(1, x.ndim - 1))


def _normalize(
    module: nn.Module, x: Array, scale: Array | float, bias: Array, *, train: bool
) -> Array:
    # One multiplication and one addition a number, so that the derivatives too take few passes over
    # memory: on a CPU those passes are what normalization costs.
    mean, variance = _statistics(module, x, train=train)
    factor = scale * jax.lax.rsqrt(variance + _EPSILON)
    return (x * factor + (bias - mean * factor)).astype(x.dtype)


def _statistics(module: nn.Module, x: Array, *, train: bool) -> tuple[Array, Array]:
    """Mean and (biased) variance of each channel, in float32; in training the running ones move.

    The running variance is the unbiased one, as in PyTorch.
    """
    features = x.shape[-1:]
    running = (
        module.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32),
        module.variable("batch_stats", "var", jnp.ones, features, jnp.float32),
    )
    if not train:
        mean, variance = (statistic.value for statistic in running)
        return mean, variance
    # Moments about the running mean, which all devices share: those about 0 would cancel where the
    # mean is many deviations. Both moments take one pass over memory and one message.
    shift = jax.lax.stop_gradient(running[0].value)
    x = x.astype(jnp.float32) - shift
    axes = tuple(range(x.ndim - 1))
    moments = jnp.stack([x.mean(axes), jnp.square(x).mean(axes)])
    if not module.is_initializing():  # where there is no axis yet
        moments = jax.lax.pmean(moments, AXIS)
    offset, square = moments
    mean = shift + offset
    variance = jnp.maximum(square - jnp.square(offset), 0)
    if not module.is_initializing():
        count = x.size // x.shape[-1] * jax.lax.psum(1, AXIS)
        unbiased = variance * (count / max(count - 1, 1))
        for statistic, value in zip(running, (mean, unbiased), strict=True):
            statistic.value = _MOMENTUM * statistic.value + (1 - _MOMENTUM) * value
    return mean, variance
