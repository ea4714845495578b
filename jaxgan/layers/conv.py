"""Convolution and transposed convolution, 2-D and 3-D, as functions and as Flax modules; Dense.

Sizes, padding and alignment are those of PyTorch's Conv and ConvTranspose. Both are maps of
`bilinear.py`, which cannot be differentiated forward (`jax.jvp`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.layers import bilinear
from jaxgan.layers.cpu import lowering
from jaxgan.layers.cpu.lowering import Axis

Size = int | tuple[int, ...]


def conv(x: Array, w: Array, stride: Size = 1, padding: Size = 0, *, by_xla: bool = False) -> Array:
    """Convolves (cross-correlates) images or volumes, like PyTorch's Conv2d and Conv3d.

    Args:
      x: [B, H, W, I] or [B, D, H, W, I], floating point.
      w: [k, k, I, O] or [k, k, k, I, O]; cast to the dtype of `x`. A PyTorch weight
        [O, I, k, k] becomes this by `permute(2, 3, 1, 0)`.
      stride: one integer, or one a spatial dimension.
      padding: zeros added on each side; one integer, or one a spatial dimension.
      by_xla: takes XLA's convolution with its own derivatives, also the forward one.

    Returns:
      [B, h, w, O] in the dtype of `x`, sums taken in float32; h is
      (H + 2 padding - k) // stride + 1.

    Raises:
      ValueError: if shapes, stride and padding do not fit together.
    """
    rank = _checked_rank("conv", x, w, -2)
    stride, padding = _spread("stride", stride, rank, 1), _spread("padding", padding, rank, 0)
    window = tuple(map(Axis, x.shape[1:-1], w.shape[:rank], stride, padding))
    if any(a.outputs < 1 for a in window):
        raise ValueError(
            f"conv: the kernel {w.shape[:rank]} does not fit into the input {x.shape} with "
            f"padding {padding}; use a smaller kernel, a larger input or more padding"
        )
    run = lowering.conv_by_xla if by_xla else bilinear.conv
    return run(window, x, w.astype(x.dtype))


def conv_transpose(
    y: Array,
    w: Array,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    *,
    by_xla: bool = False,
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
      by_xla: as in `conv`.

    Returns:
      [B, H, W, O] in the dtype of `y`, H = (h - 1) stride - 2 padding + k + output_padding.

    Raises:
      ValueError: if shapes, stride and padding do not fit together.
    """
    rank = _checked_rank("conv_transpose", y, w, -1)
    stride, padding = _spread("stride", stride, rank, 1), _spread("padding", padding, rank, 0)
    extra = _spread("output_padding", output_padding, rank, 0)
    if any(e >= s for e, s in zip(extra, stride, strict=True)):
        raise ValueError(
            f"conv_transpose: output_padding {extra} must be less than the stride {stride}"
        )
    size = [
        (n - 1) * s - 2 * p + k + e
        for n, k, s, p, e in zip(y.shape[1:-1], w.shape, stride, padding, extra, strict=False)
    ]
    if min(size) < 1:
        raise ValueError(
            f"conv_transpose: with padding {padding} the input {y.shape} and the kernel "
            f"{w.shape[:rank]} leave an output of size {size}; use less padding"
        )
    window = tuple(map(Axis, size, w.shape[:rank], stride, padding))
    run = lowering.conv_transpose_by_xla if by_xla else bilinear.conv_transpose
    return run(window, y, w.astype(y.dtype))


def _checked_rank(name: str, x: Array, w: Array, inputs: int) -> int:
    """`inputs` is the axis of the kernel that counts its inputs."""
    rank = x.ndim - 2
    if rank not in (2, 3) or w.ndim != x.ndim:
        raise ValueError(
            f"{name}: input {x.shape} and kernel {w.shape} must have the ranks of [B, H, W, C] "
            "and [k, k, C, C], or of [B, D, H, W, C] and [k, k, k, C, C]"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{name}: the input's dtype is {x.dtype}; it must be floating point, so convert "
            "images first"
        )
    if x.shape[-1] != w.shape[inputs]:
        raise ValueError(
            f"{name}: the input {x.shape} has {x.shape[-1]} channels and the kernel {w.shape} "
            f"takes {w.shape[inputs]}; they must be equal"
        )
    return rank


def _spread(name: str, value: Size, rank: int, least: int) -> tuple[int, ...]:
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or min(values) < least:
        raise ValueError(
            f"{name} {value} must be an integer, or {rank} of them, and at least {least}"
        )
    return values


class Dense(nn.Module):
    """x @ "kernel" + "bias", like Flax's Dense, except that the result keeps the dtype of x.

    Attributes:
      features: number of outputs.
      use_bias: whether to add a bias.
      kernel_init: initializer of "kernel" [in, features], float32.
      bias_init: initializer of "bias" [features], float32.
    """

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., I] -> [..., features]."""
        return dense_layer(self, x)


class Conv(nn.Module):
    """Convolution with parameters "kernel" [*k, in, features] and "bias" [features], float32.

    Attributes:
      features: number of output channels.
      kernel: extent of the kernel; one integer means the same in all spatial dimensions.
      stride, padding: as in `conv`.
      convolve: (x, w) -> y, used instead of `conv` with stride and padding; for example one of
        those in `resample.py`.
      use_bias: whether to add a bias.
      kernel_init: initializer of the kernel; the bias starts at zero.
    """

    features: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    convolve: Callable[[Array, Array], Array] | None = None
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, I] or [B, D, H, W, I] -> [B, h, w, features] or [B, d, h, w, features]."""
        return conv_layer(self, x)


class ConvTranspose(nn.Module):
    """Transposed convolution with "kernel" [*k, features, in] and "bias" [features], float32.

    Attributes:
      features, kernel, use_bias, kernel_init: as in `Conv`.
      stride, padding, output_padding: as in `conv_transpose`.
    """

    features: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    output_padding: Size = 0
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)

    @nn.compact
    def __call__(self, y: Array) -> Array:
        """[B, h, w, I] or [B, d, h, w, I] -> [B, H, W, features] or [B, D, H, W, features]."""
        return conv_transpose_layer(self, y)


# What a module with the attributes of those above computes. `used` turns a kernel as it is stored
# into one as it is used: spectral normalization divides it, an equalized learning rate multiplies
# it. The order of declarations is part of how parameters start: each moves the random stream.


def _as_stored(kernel: Array) -> Array:
    return kernel


def dense_layer(
    module: nn.Module, x: Array, used: Callable = _as_stored, bias_gain: float = 1.0
) -> Array:
    """Computes what a module with the attributes of `Dense` puts out."""
    shape = (x.shape[-1], module.features)
    kernel = used(module.param("kernel", module.kernel_init, shape, jnp.float32))
    bias = bias_of(module, module.bias_init)
    return add(x @ kernel.astype(x.dtype), bias, bias_gain)


def conv_layer(
    module: nn.Module, x: Array, used: Callable = _as_stored, bias_gain: float = 1.0
) -> Array:
    """Computes what a module with the attributes of `Conv` puts out."""
    kernel, bias = kernel_of(module, x, x.shape[-1], module.features), bias_of(module)
    convolve = functools.partial(conv, stride=module.stride, padding=module.padding)
    return add((module.convolve or convolve)(x, used(kernel)), bias, bias_gain)


def conv_transpose_layer(module: nn.Module, y: Array, used: Callable = _as_stored) -> Array:
    """Computes what a module with the attributes of `ConvTranspose` puts out."""
    kernel, bias = kernel_of(module, y, module.features, y.shape[-1]), bias_of(module)
    y = conv_transpose(y, used(kernel), module.stride, module.padding, module.output_padding)
    return add(y, bias)


def kernel_of(module: nn.Module, x: Array, *channels: int) -> Array:
    """Declares "kernel" [*kernel, *channels], float32, for maps like x."""
    shape = _spread("kernel", module.kernel, x.ndim - 2, 1) + channels
    return module.param("kernel", module.kernel_init, shape, jnp.float32)


def bias_of(module: nn.Module, init: Callable = nn.initializers.zeros) -> Array | None:
    """Declares "bias" [features], float32, or nothing if `use_bias` is False."""
    if not module.use_bias:
        return None
    return module.param("bias", init, (module.features,), jnp.float32)


def add(x: Array, bias: Array | None, gain: float = 1.0) -> Array:
    """Adds the bias, if there is one, times the gain, in the dtype of x."""
    return x if bias is None else x + (bias * gain).astype(x.dtype)
