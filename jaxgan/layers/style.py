"""What StyleGAN and StyleGAN2 are made of: mapping networks from latents z to intermediate latents
w, their average, truncation and mixing; noise, adaptive normalization and modulated convolution.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
arXiv:1812.04948 (noise: section 2); "Analyzing and Improving the Image Quality of StyleGAN", 2020,
arXiv:1912.04958 (modulation: section 2.2); and, for `Mapping`, "Training Generative Adversarial
Networks with Limited Data", 2020, arXiv:2006.06676.

The collection "w_avg" holds the moving average of w and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgan.core import batch_mean
from jaxgan.layers.conv import add, bias_of, conv, kernel_of
from jaxgan.layers.equalized import SQRT2, EqualizedDense, leaky_relu
from jaxgan.layers.norm import instance_norm, pixel_norm

COLLECTION = "w_avg"


def truncate(w: Array, average: Array, psi: Array | float, cutoff: int | None = None) -> Array:
    """Moves w toward its average: the truncation trick.

    Args:
      w: [B, F], or [B, layers, F].
      average: [F], of the collection "w_avg".
      psi: 1 leaves w as it is, 0 gives the average.
      cutoff: how many layers, the coarse ones first, are truncated; None means all. Only for w
        [B, layers, F].

    Returns:
      w's shape.
    """
    truncated = average + psi * (w - average)
    if cutoff is None:
        return truncated
    return jnp.where(jnp.arange(w.shape[-2])[:, None] < cutoff, truncated, w)


def mix(w: Array, other: Array, crossover: Array | int) -> Array:
    """Replaces the layers from the crossover on by those of `other`: style mixing.

    Args:
      w, other: [B, layers, F].
      crossover: [B], or one for all: how many layers of w, the coarse ones first, are kept.

    Returns:
      w's shape.
    """
    layer = jnp.arange(w.shape[-2])[:, None]
    return jnp.where(layer < jnp.reshape(crossover, (-1, 1, 1)), w, other)


def crossovers(rng: Array, layers: int, probability: float) -> Array:
    """Draws crossovers [B] for `mix`, in [1, layers - 1]; `layers` where nothing is mixed.

    Args:
      rng: keys [B].
      layers: how many w has.
      probability: of mixing.
    """

    def draw(key):
        whether, where = jax.random.split(key)
        mixed = jax.random.uniform(whether) < probability
        return jnp.where(mixed, jax.random.randint(where, (), 1, layers), layers)

    return jax.vmap(draw)(rng)


class Mapping(nn.Module):
    """StyleGAN2's mapping network; a label's embedding is normalized and appended.

    Attributes:
      features: size of w, and of the layers.
      layers: how many layers.
      lr_multiplier: of the layers.
      decay: of the moving average of w, for each refresh.
    """

    features: int = 512
    layers: int = 8
    lr_multiplier: float = 0.01
    decay: float = 0.995

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, *, refresh: bool = False) -> Array:
        """Maps latents [B, Z] and labels [B, K], or None, -> w [B, features].

        A `refresh` moves the average, which must then be mutable, by the mean over the global
        batch, so `AXIS` must be in scope.
        """
        x = pixel_norm(z)
        if label is not None:
            embedded = EqualizedDense(self.features, name="embed")(label.astype(x.dtype))
            x = jnp.concatenate([x, pixel_norm(embedded)], -1)
        return _mapped(self, x, refresh, dense_gain=1.0, relu_gain=SQRT2)


class StyleGANMapping(Mapping):
    """StyleGAN's mapping network; a label's embedding, by a normal matrix, is normalized with z.

    Attributes: those of `Mapping`.
    """

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, *, refresh: bool = False) -> Array:
        """As that of `Mapping`."""
        x = z
        if label is not None:
            shape = (label.shape[-1], z.shape[-1])
            embed = self.param("embed", nn.initializers.normal(1.0), shape, jnp.float32)
            x = jnp.concatenate([x, (label @ embed).astype(x.dtype)], -1)
        return _mapped(self, pixel_norm(x), refresh, dense_gain=SQRT2, relu_gain=1.0)


def _mapped(
    module: Mapping, x: Array, refresh: bool, *, dense_gain: float, relu_gain: float
) -> Array:
    """The layers, and what a refresh does to the average."""
    for number in range(module.layers):
        name = f"dense_{number}"
        dense = EqualizedDense(module.features, dense_gain, module.lr_multiplier, name=name)
        x = leaky_relu(dense(x), relu_gain)
    average = module.variable(COLLECTION, "w", jnp.zeros, x.shape[-1:], jnp.float32)
    if refresh and not module.is_initializing():
        mean = batch_mean(lax.stop_gradient(x).astype(jnp.float32))
        average.value = module.decay * average.value + (1 - module.decay) * mean
    return x


def pixel_noise(rng: Array, height: int, width: int) -> Array:
    """Draws standard normal noise [B, height, width, 1] from keys [B]."""
    return jax.vmap(lambda key: jax.random.normal(key, (height, width, 1)))(rng)


class Noise(nn.Module):
    """Adds noise times a learned strength; the channels of an example share one noise picture.

    Attributes:
      per_channel: whether "strength", which starts at 0, is [C], as in StyleGAN, or a scalar, as
        in StyleGAN2.
    """

    per_channel: bool = False

    @nn.compact
    def __call__(self, x: Array, rng: Array) -> Array:
        """Maps [B, H, W, C] and keys [B] -> [B, H, W, C]."""
        shape = x.shape[-1:] if self.per_channel else ()
        strength = self.param("strength", nn.initializers.zeros, shape, jnp.float32)
        noise = pixel_noise(rng, *x.shape[1:3])
        return x + (noise * strength).astype(x.dtype)


class AdaptiveInstanceNorm(nn.Module):
    """Normalizes each example's channels, then scales by 1 + s0 and shifts by s1.

    Huang and Belongie, 2017, arXiv:1703.06868, as in StyleGAN's equation 1. The style (s0, s1) is
    an affine map of w: the parameters of "affine".
    """

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        """Maps [B, H, W, C] and intermediate latents w [B, W] -> [B, H, W, C]."""
        style = EqualizedDense(2 * x.shape[-1], name="affine")(w)[:, None, None].astype(x.dtype)
        scale, shift = jnp.split(style, 2, -1)
        return instance_norm(x) * (scale + 1) + shift


# Modulated convolution: for each example a style scales the inputs of the kernel, and demodulation
# scales its outputs back to unit norm. Scaling the maps before and after a convolution with one
# shared kernel gives the same as a kernel for each example.


def same_conv(x: Array, w: Array) -> Array:
    """[B, H, W, I] and [k, k, I, O], k odd, -> [B, H, W, O]: `conv` that keeps the size."""
    return conv(x, w, 1, w.shape[0] // 2)


def demodulation(w: Array, style: Array) -> Array:
    """Computes the factor that gives each example's kernel unit norm for each output (equation 3).

    Args:
      w: [k, k, I, O].
      style: [B, I].

    Returns:
      [B, O] in float32 or better.
    """
    w, style = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (w, style))
    return lax.rsqrt(jnp.square(style) @ jnp.square(w).sum((0, 1)) + 1e-8)


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

    Parameters "kernel" [k, k, in, features] and those of "affine", whose bias starts at 1. There is
    no bias: it is added after the noise.

    Attributes:
      features: number of output channels.
      kernel: extent of the kernel.
      convolve: as in `modulated_conv`.
      kernel_init: initializer of the kernel, which demodulation scales.
    """

    features: int
    kernel: int = 3
    convolve: Callable[[Array, Array], Array] = same_conv
    kernel_init: Callable = nn.initializers.normal(1.0)

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        """Maps [B, H, W, I] and intermediate latents w [B, W] -> [B, h, w, features]."""
        style, kernel = _style_and_kernel(self, x, w)
        return modulated_conv(x, kernel, style, convolve=self.convolve)


class ToRGB(nn.Module):
    """Maps features to colors: a modulated 1x1 convolution without demodulation, and a bias.

    Parameters "kernel" [1, 1, in, features], used times 1 / sqrt(in), "bias" [features], and those
    of "affine", whose bias starts at 1.

    Attributes:
      features: number of color channels.
      use_bias: whether to add the bias.
      kernel: extent of the kernel.
      kernel_init: initializer of the kernel.
    """

    features: int
    use_bias: bool = True
    kernel: int = 1
    kernel_init: Callable = nn.initializers.normal(1.0)

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        """Maps [B, H, W, I] and intermediate latents w [B, W] -> [B, H, W, features]."""
        style, kernel = _style_and_kernel(self, x, w)
        y = modulated_conv(x, kernel, style / math.sqrt(x.shape[-1]), demodulate=False)
        return add(y, bias_of(self))


def _style_and_kernel(module: ModulatedConv | ToRGB, x: Array, w: Array) -> tuple[Array, Array]:
    """Declares both, for maps like x."""
    style = EqualizedDense(x.shape[-1], bias_init=nn.initializers.ones, name="affine")(w)
    return style, kernel_of(module, x, x.shape[-1], module.features)
