"""Equalized learning rate. Karras et al., "Progressive Growing of GANs for Improved Quality,
Stability, and Variation", 2018, arXiv:1710.10196, section 4.1.

Kernels are stored as standard normals and scaled as in He's initialization when used, so that an
optimizer which normalizes its steps, as Adam does, moves all layers at the same relative speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flax import linen as nn
from jax import Array

from jaxgan.layers.conv import Size, conv_layer, dense_layer

SQRT2 = math.sqrt(2)


def leaky_relu(x: Array, gain: float = SQRT2) -> Array:
    """Leaky ReLU of slope .2, times a gain; StyleGAN2's keeps the second moment by the square root
    of 2, where ProGAN and StyleGAN have that in the gain of the layer before and 1 here."""
    return nn.leaky_relu(x, 0.2) * gain


def _scaling(module: nn.Module) -> Callable[[Array], Array]:
    def scaled(kernel: Array) -> Array:
        inputs = math.prod(kernel.shape[:-1])
        return kernel * (module.gain / math.sqrt(inputs) * module.lr_multiplier)

    return scaled


class EqualizedDense(nn.Module):
    """Dense layer with "kernel" [in, features] and "bias" [features], float32.

    Attributes:
      features: number of outputs.
      gain: of the kernel: it is used times gain / sqrt(in) * lr_multiplier.
      lr_multiplier: slows learning; the kernel starts with deviation 1 / lr_multiplier, and the
        bias is used times it.
      use_bias: whether to add a bias.
      bias_init: initializer of the bias.
    """

    features: int
    gain: float = 1.0
    lr_multiplier: float = 1.0
    use_bias: bool = True
    bias_init: Callable = nn.initializers.zeros
    kernel_init = property(lambda self: nn.initializers.normal(1 / self.lr_multiplier))

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., I] -> [..., features]."""
        return dense_layer(self, x, _scaling(self), self.lr_multiplier)


class EqualizedConv(nn.Module):
    """Convolution with "kernel" [*k, in, features] and "bias" [features], float32.

    Attributes:
      features, kernel, stride, padding, convolve, use_bias: as in `conv.Conv`.
      gain, lr_multiplier: as in `EqualizedDense`; what enters a sum of the convolution counts as
        its inputs.
    """

    features: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    convolve: Callable[[Array, Array], Array] | None = None
    gain: float = 1.0
    lr_multiplier: float = 1.0
    use_bias: bool = True
    kernel_init = EqualizedDense.kernel_init

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, I] or [B, D, H, W, I] -> [B, h, w, features] or [B, d, h, w, features]."""
        return conv_layer(self, x, _scaling(self), self.lr_multiplier)
