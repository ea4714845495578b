"""Normalisation."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.core import AXIS


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's numbers, over the global batch (Ioffe and Szegedy, 2015,
    arXiv:1502.03167): [..., C] with parameters "scale" and "bias" [C].

    It is one multiplication and one addition a number, of which the derivatives, too, take few
    passes over memory: on a CPU those passes are what normalisation costs.

    Attributes:
      use_running_average: normalise by the running statistics, and leave them as they are.
      momentum: of the running mean and variance.
      epsilon: added to the variance.
      scale_init, bias_init: initialisers.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Callable = nn.initializers.ones
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = x.shape[-1:]
        scale = self.param("scale", self.scale_init, features, jnp.float32)
        bias = self.param("bias", self.bias_init, features, jnp.float32)
        running = {
            "mean": self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32),
            "var": self.variable("batch_stats", "var", jnp.ones, features, jnp.float32),
        }
        if self.use_running_average:
            mean, variance = running["mean"].value, running["var"].value
        else:
            mean, variance = _moments(x, synchronised=not self.is_initializing())
            if not self.is_initializing():
                for name, value in (("mean", mean), ("var", variance)):
                    old = running[name].value
                    running[name].value = self.momentum * old + (1 - self.momentum) * value
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        return (x * factor + (bias - mean * factor)).astype(x.dtype)


def _moments(x: Array, *, synchronised: bool) -> tuple[Array, Array]:
    """Mean and (biased) variance of each channel, in float32, over all devices."""
    x = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    moments = jnp.stack([x.mean(axes), jnp.square(x).mean(axes)])
    mean, square = jax.lax.pmean(moments, AXIS) if synchronised else moments
    return mean, jnp.maximum(square - jnp.square(mean), 0)
