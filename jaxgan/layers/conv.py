"""Convolution and transposed convolution, 2-D and 3-D, as functions and as Flax modules.

Sizes, padding and alignment are those of PyTorch's Conv and ConvTranspose. On a CPU both run by
the three bilinear maps of `bilinear.py`, elsewhere by XLA's own convolution.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.layers import bilinear
from jaxgan.layers.bilinear import Window

Size = int | tuple[int, ...]


def conv(x: Array, w: Array, stride: Size = 1, padding: Size = 0) -> Array:
    """Convolves (cross-correlates) images or volumes, like PyTorch's Conv2d and Conv3d.

    Args:
      x: [B, H, W, I] or [B, D, H, W, I], floating point.
      w: [k, k, I, O] or [k, k, k, I, O]; cast to the dtype of `x`. A PyTorch weight
        [O, I, k, k] becomes this by `permute(2, 3, 1, 0)`.
      stride: one integer, or one a spatial dimension.
      padding: zeros added on each side; one integer, or one a spatial dimension.

    Returns:
      [B, h, w, O] in the dtype of `x`, sums taken in float32; h is
      (H + 2 padding - k) // stride + 1.

    Raises:
      ValueError: if shapes, stride and padding do not fit together.
    """
    rank = _rank(x, w, "conv")
    kernel, size = w.shape[:rank], x.shape[1:-1]
    stride, padding = _spread("stride", stride, rank, 1), _spread("padding", padding, rank, 0)
    _same_channels(x, w, -2, "conv")
    window = Window(size, kernel, stride, padding)
    if min(window.outputs) < 1:
        raise ValueError(
            f"conv: the kernel {kernel} does not fit into an input of size {size} with padding "
            f"{padding}; use a smaller kernel or more padding"
        )
    run = bilinear.bilinear_conv if _on_cpu() else bilinear.xla_conv
    return run(window, x, w.astype(x.dtype))


def conv_transpose(
    y: Array, w: Array, stride: Size = 1, padding: Size = 0, output_padding: Size = 0
) -> Array:
    """Transposed convolution, like PyTorch's ConvTranspose2d and ConvTranspose3d.

    The adjoint of `conv` with the same kernel: it turns what `conv` puts out into what `conv`
    takes. Input i adds `w[t] @ y[i]` to output `stride * i + t - padding`; no tap is mirrored.

    Args:
      y: [B, h, w, I] or [B, d, h, w, I], floating point.
      w: [k, k, O, I] or [k, k, k, O, I], the kernel of that `conv`, so features before inputs;
        cast to the dtype of `y`. A PyTorch weight [I, O, k, k] becomes this by
        `permute(2, 3, 1, 0)`.
      stride: one integer, or one a spatial dimension.
      padding: what the convolution that this transposes would add on each side.
      output_padding: rows added at the end, less than the stride.

    Returns:
      [B, H, W, O] in the dtype of `y`, H = (h - 1) stride - 2 padding + k + output_padding.

    Raises:
      ValueError: if shapes, stride and padding do not fit together.
    """
    rank = _rank(y, w, "conv_transpose")
    kernel = w.shape[:rank]
    stride, padding = _spread("stride", stride, rank, 1), _spread("padding", padding, rank, 0)
    extra = _spread("output_padding", output_padding, rank, 0)
    _same_channels(y, w, -1, "conv_transpose")
    if any(e >= s for e, s in zip(extra, stride, strict=True)):
        raise ValueError(
            f"conv_transpose: output_padding {extra} must be less than the stride {stride}"
        )
    size = tuple(
        (m - 1) * s - 2 * p + k + e
        for m, s, p, k, e in zip(y.shape[1:-1], stride, padding, kernel, extra, strict=True)
    )
    if min(size) < 1:
        raise ValueError(
            f"conv_transpose: padding {padding} leaves an output of size {size}; use less padding"
        )
    run = bilinear.bilinear_conv_transpose if _on_cpu() else bilinear.xla_conv_transpose
    return run(Window(size, kernel, stride, padding), y, w.astype(y.dtype))


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _rank(x: Array, w: Array, name: str) -> int:
    rank = x.ndim - 2
    if rank < 1 or rank > 3 or w.ndim != x.ndim:
        raise ValueError(
            f"{name}: input {x.shape} and kernel {w.shape} must have the ranks of [B, H, W, C] "
            "and [k, k, C, C], or of [B, D, H, W, C] and [k, k, k, C, C]"
        )
    return rank


def _same_channels(x: Array, w: Array, axis: int, name: str) -> None:
    if x.shape[-1] != w.shape[axis]:
        raise ValueError(
            f"{name}: the input {x.shape} has {x.shape[-1]} channels and the kernel {w.shape} "
            f"takes {w.shape[axis]}; they must be equal"
        )


def _spread(name: str, value: Size, rank: int, least: int) -> tuple[int, ...]:
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or min(values) < least:
        raise ValueError(
            f"{name} {value} must be an integer, or {rank} of them, and at least {least}"
        )
    return values


class Conv(nn.Module):
    """Convolution with parameters "kernel" [*k, in, features] and "bias" [features], float32.

    Attributes:
      features: number of output channels.
      kernel: extent of the kernel; one integer means the same in all spatial dimensions.
      stride, padding: as in `conv`.
      use_bias: whether to add a bias.
      kernel_init: initialiser of the kernel; the bias starts at zero.
      dtype: dtype of the computation and the result; None keeps the input's.
    """

    features: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, I] -> [B, h, w, features]."""
        x, kernel, bias = _parameters(self, x, (x.shape[-1], self.features))
        return _add(conv(x, kernel, self.stride, self.padding), bias)


class ConvTranspose(nn.Module):
    """Transposed convolution with "kernel" [*k, features, in] and "bias" [features], float32.

    Attributes:
      features: number of output channels.
      kernel: extent of the kernel; one integer means the same in all spatial dimensions.
      stride, padding, output_padding: as in `conv_transpose`.
      use_bias: whether to add a bias.
      kernel_init: initialiser of the kernel; the bias starts at zero.
      dtype: dtype of the computation and the result; None keeps the input's.
    """

    features: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    output_padding: Size = 0
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, y: Array) -> Array:
        """[B, h, w, I] -> [B, H, W, features]."""
        y, kernel, bias = _parameters(self, y, (self.features, y.shape[-1]))
        return _add(conv_transpose(y, kernel, self.stride, self.padding, self.output_padding), bias)


def _parameters(
    module: Conv | ConvTranspose, x: Array, channels: tuple[int, int]
) -> tuple[Array, Array, Array | None]:
    shape = _spread("kernel", module.kernel, x.ndim - 2, 1) + channels
    kernel = module.param("kernel", module.kernel_init, shape, jnp.float32)
    bias = None
    if module.use_bias:
        bias = module.param("bias", nn.initializers.zeros, (module.features,), jnp.float32)
    return (x if module.dtype is None else x.astype(module.dtype)), kernel, bias


def _add(x: Array, bias: Array | None) -> Array:
    return x if bias is None else x + bias.astype(x.dtype)
