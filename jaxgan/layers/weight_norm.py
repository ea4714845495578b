"""Weight normalization. Salimans and Kingma, "Weight Normalization", 2016, arXiv:1602.07868."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.core import batch_mean

COLLECTION = "first_batch"
_EPSILON = 1e-6  # of squares, as in the code of Salimans et al., 2016


class WeightNormDense(nn.Module):
    """A dense layer whose weights towards each output have unit length: "kernel" [in, features]
    divided by its columns' norms, "scale" and "bias" [features] after it.

    With `standardize` each output is brought to mean 0 and deviation 1 by what it was on the first
    batch with `refresh`, the paper's initialization from data (section 3). The collection
    "first_batch" holds that "mean" and "deviation" [features]; they stay, and are constants to the
    gradient. The paper stores them in bias and scale, which is the same function while the scale is
    not trained. Before that batch, and at initialization, outputs are as they come.

    Attributes:
      features: number of outputs.
      train_scale: whether there is a "scale"; 1 without.
      standardize: whether outputs are brought to the first batch's deviations.
      kernel_init: initializer of "kernel"; its size counts only beside the rate.
    """

    features: int
    train_scale: bool = True
    standardize: bool = False
    kernel_init: Callable = nn.initializers.normal(0.1)

    @nn.compact
    def __call__(self, x: Array, *, refresh: bool = False) -> Array:
        """[B, I] -> [B, features] in the dtype of x.

        Where the first batch may be, `AXIS` must be in scope.
        """
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        kernel = kernel * jax.lax.rsqrt(jnp.square(kernel).sum(0) + _EPSILON)
        y = jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
        if self.standardize:
            mean, deviation = self._first_batch(jax.lax.stop_gradient(y), refresh)
            y = (y - mean) / deviation
        if self.train_scale:
            y = y * self.param("scale", nn.initializers.ones, (self.features,), jnp.float32)
        return (y + bias).astype(x.dtype)

    def _first_batch(self, y, refresh):
        mean, deviation = (
            self.variable(COLLECTION, name, jnp.zeros, (self.features,), jnp.float32)
            for name in ("mean", "deviation")
        )
        met = (deviation.value > 0).all()
        if refresh and not self.is_initializing():
            center = batch_mean(y)
            spread = jnp.sqrt(batch_mean(jnp.square(y - center)) + _EPSILON)
            mean.value = jnp.where(met, mean.value, center)
            deviation.value = jnp.where(met, deviation.value, spread)
            return mean.value, deviation.value
        return mean.value, jnp.where(met, deviation.value, 1)
