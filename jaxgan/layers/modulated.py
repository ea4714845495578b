"""Modulated convolution. Karras et al., "Analyzing and Improving the Image Quality of StyleGAN",
2020, arXiv:1912.04958, section 2.2.

A style scales the kernel's inputs for each example, and demodulation scales its outputs back to
unit norm. Instead of a kernel an example, the maps are scaled before and after one convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgan.layers.conv import add, bias_of, cast, conv
from jaxgan.layers.equalized import EqualizedDense

_EPSILON = 1e-8


def same_conv(x: Array, w: Array) -> Array:
    """[B, H, W, I] and [k, k, I, O], k odd, -> [B, H, W, O]: `conv` that keeps the size."""
    return conv(x, w, 1, w.shape[0] // 2)


def demodulation(w: Array, style: Array) -> Array:
    """What gives the kernel of each example and output unit norm (equation 3).

    Args:
      w: [k, k, I, O].
      style: [B, I].

    Returns:
      [B, O] in float32 or better.
    """
    w, style = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (w, style))
    return lax.rsqrt(jnp.square(style) @ jnp.square(w).sum((0, 1)) + _EPSILON)


def modulated_conv(
    x: Array,
    w: Array,
    style: Array,
    *,
    demodulate: bool = True,
    convolve: Callable[[Array, Array], Array] = same_conv,
) -> Array:
    """Convolves each example with the kernel times its style.

    Args:
      x: [B, H, W, I].
      w: [k, k, I, O].
      style: [B, I].
      demodulate: whether each example's kernel is divided by its norm, for each output.
      convolve: (x, w) -> y, linear in x; `resample.upsample_conv` doubles the side.

    Returns:
      [B, h, w, O] in the dtype of `x`.
    """
    y = convolve(x * style[:, None, None].astype(x.dtype), w)
    if not demodulate:
        return y
    return y * demodulation(w, style)[:, None, None].astype(y.dtype)


class ModulatedConv(nn.Module):
    """Modulated convolution with demodulation, whose style is an affine map of w.

    Parameters "kernel" [k, k, in, features], standard normal, which demodulation scales, and those
    of "affine", whose bias starts at 1. There is no bias, which comes after the noise.

    Attributes:
      features: number of output channels.
      kernel: extent of the kernel.
      convolve: as in `modulated_conv`.
      dtype: dtype of the convolution and the result; None keeps the input's.
    """

    features: int
    kernel: int = 3
    convolve: Callable[[Array, Array], Array] = same_conv
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        """Maps [B, H, W, I] and intermediate latents w [B, W] -> [B, h, w, features]."""
        style = EqualizedDense(x.shape[-1], bias_init=1.0, name="affine")(w)
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        return modulated_conv(cast(x, self.dtype), kernel, style, convolve=self.convolve)


class ToRGB(nn.Module):
    """Features to colours: a modulated 1x1 convolution without demodulation, and a bias.

    Parameters "kernel" [1, 1, in, features], standard normal and used times 1 / sqrt(in), "bias"
    [features], and those of "affine", whose bias starts at 1.

    Attributes:
      features: number of colour channels.
      use_bias: whether to add the bias.
      dtype: dtype of the convolution and the result; None keeps the input's.
    """

    features: int
    use_bias: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        """Maps [B, H, W, I] and intermediate latents w [B, W] -> [B, H, W, features]."""
        inputs = x.shape[-1]
        style = EqualizedDense(inputs, bias_init=1.0, name="affine")(w) / math.sqrt(inputs)
        shape = (1, 1, inputs, self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        y = modulated_conv(cast(x, self.dtype), kernel, style, demodulate=False)
        return add(y, bias_of(self))
