"""Dense layers that compute in the dtype of what they are given."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jax import Array


class Dense(nn.Module):
    """x @ "kernel" + "bias", as flax's own, but the result has x's dtype whatever the weights'.

    Attributes:
      features: number of outputs.
      use_bias: whether to add a bias.
      kernel_init: initialiser of "kernel" [in, features], float32.
      bias_init: initialiser of "bias" [features], float32.
    """

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., I] -> [..., features]."""
        shape = (x.shape[-1], self.features)
        y = x @ self.param("kernel", self.kernel_init, shape, jnp.float32).astype(x.dtype)
        if not self.use_bias:
            return y
        return y + self.param("bias", self.bias_init, shape[-1:], jnp.float32).astype(x.dtype)
