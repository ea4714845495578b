"""Equalised learning rate. Karras et al., "Progressive Growing of GANs for Improved Quality,
Stability, and Variation", 2018, arXiv:1710.10196, section 4.1.

Kernels are standard normal at rest and scaled as He's initialisation when used, so that an
optimiser which normalises its steps, as Adam does, moves all layers at the same relative speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.layers.conv import Size, add, cast, conv

SQRT2 = math.sqrt(2)


def leaky_relu(x: Array, gain: float = SQRT2) -> Array:
    """Leaky ReLU of slope .2, times a gain; StyleGAN2's keeps the second moment by the square root
    of 2, where ProGAN and StyleGAN have that in the gain of the layer before and 1 here."""
    return nn.leaky_relu(x, 0.2) * gain


class EqualizedDense(nn.Module):
    """Dense layer with "kernel" [in, features] and "bias" [features], float32.

    Attributes:
      features: number of outputs.
      gain: of the kernel: it is used times gain / sqrt(in) * lr_multiplier.
      lr_multiplier: slows learning; the kernel starts with deviation 1 / lr_multiplier, and the
        bias is used times it.
      use_bias: whether to add a bias.
      bias_init: with what the bias starts.
      dtype: dtype of the computation and the result; None keeps the input's.
    """

    features: int
    gain: float = 1.0
    lr_multiplier: float = 1.0
    use_bias: bool = True
    bias_init: float = 0.0
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., I] -> [..., features]."""
        shape = (x.shape[-1], self.features)
        kernel, bias = _kernel_and_bias(self, shape, self.bias_init)
        x = cast(x, self.dtype)
        return add(x @ kernel.astype(x.dtype), bias)


class EqualizedConv(nn.Module):
    """Convolution with "kernel" [k, k, in, features] and "bias" [features], float32.

    Attributes:
      features: number of output channels.
      kernel: extent of the kernel.
      stride, padding: as in `conv.conv`.
      convolve: (x, w) -> y, used instead of `conv.conv` with stride and padding; for example one of
        those in `resample.py`.
      gain, lr_multiplier, use_bias, dtype: as in `EqualizedDense`; what enters a sum of the
        convolution counts as its inputs.
    """

    features: int
    kernel: int
    stride: Size = 1
    padding: Size = 0
    convolve: Callable[[Array, Array], Array] | None = None
    gain: float = 1.0
    lr_multiplier: float = 1.0
    use_bias: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, I] -> [B, h, w, features]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel, bias = _kernel_and_bias(self, shape, 0.0)
        x = cast(x, self.dtype)
        if self.convolve is None:
            y = conv(x, kernel, self.stride, self.padding)
        else:
            y = self.convolve(x, kernel)
        return add(y, bias)


def _kernel_and_bias(module, shape, bias_init) -> tuple[Array, Array | None]:
    """Declares both and returns them as they are used."""
    rate = module.lr_multiplier
    kernel = module.param("kernel", nn.initializers.normal(1 / rate), shape, jnp.float32)
    kernel = kernel * (module.gain / math.sqrt(math.prod(shape[:-1])) * rate)
    if not module.use_bias:
        return kernel, None
    constant = nn.initializers.constant(bias_init)
    return kernel, module.param("bias", constant, shape[-1:], jnp.float32) * rate
