"""Convolution and transposed convolution, 2-D and 3-D, as functions and as Flax modules.

Sizes, padding and alignment are those of PyTorch's Conv and ConvTranspose. On a CPU both run by
the bilinear maps of `bilinear.py`, which cannot be differentiated forward (`jax.jvp`); elsewhere
by XLA's own convolution.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.layers import bilinear, lowering, volume
from jaxgan.layers.lowering import Axis

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
    rank = _checked_rank(x, w, "conv")
    _same_channels(x, w, -2, "conv")
    stride, padding = _spread("stride", stride, rank, 1), _spread("padding", padding, rank, 0)
    window = tuple(map(Axis, x.shape[1:-1], w.shape[:rank], stride, padding))
    if any(a.outputs < 1 for a in window):
        raise ValueError(
            f"conv: the kernel {w.shape[:rank]} does not fit into the input {x.shape} with "
            f"padding {padding}; use a smaller kernel, a larger input or more padding"
        )
    if not _on_cpu():
        return lowering.conv_by_xla(window, x, w.astype(x.dtype))
    return _in_float32(bilinear.conv if rank == 2 else volume.conv, window, x, w)


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
    rank = _checked_rank(y, w, "conv_transpose")
    _same_channels(y, w, -1, "conv_transpose")
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
    if not _on_cpu():
        return lowering.conv_transpose_by_xla(window, y, w.astype(y.dtype))
    return _in_float32(
        bilinear.conv_transpose if rank == 2 else volume.conv_transpose, window, y, w
    )


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _in_float32(run: Callable, window: lowering.Window, x: Array, w: Array) -> Array:
    """Float32 or better inside; the kernel is rounded to the input's dtype, and so is the result.

    Accelerators sum half-precision products in float32 by themselves.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return run(window, x.astype(dtype), w.astype(x.dtype).astype(dtype)).astype(x.dtype)


def _checked_rank(x: Array, w: Array, name: str) -> int:
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
        kernel, bias = kernel_and_bias(self, x.ndim - 2, (x.shape[-1], self.features))
        x = cast(x, self.dtype)
        return add(conv(x, kernel, self.stride, self.padding), bias)


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
        kernel, bias = kernel_and_bias(self, y.ndim - 2, (self.features, y.shape[-1]))
        y = cast(y, self.dtype)
        return add(conv_transpose(y, kernel, self.stride, self.padding, self.output_padding), bias)


def kernel_and_bias(
    module: nn.Module, rank: int, channels: tuple[int, int]
) -> tuple[Array, Array | None]:
    """Declares "kernel" [*k, *channels] and "bias" in a module with the attributes of `Conv`."""
    shape = _spread("kernel", module.kernel, rank, 1) + channels
    kernel = module.param("kernel", module.kernel_init, shape, jnp.float32)
    return kernel, bias_of(module)


def bias_of(module: nn.Module) -> Array | None:
    """Declares "bias" [features], starting at zero, or nothing if `use_bias` is False."""
    if not module.use_bias:
        return None
    return module.param("bias", nn.initializers.zeros, (module.features,), jnp.float32)


def cast(x: Array, dtype: jnp.dtype | None) -> Array:
    """Casts to the dtype; None keeps the input's."""
    return x if dtype is None else x.astype(dtype)


def add(x: Array, bias: Array | None) -> Array:
    """Adds the bias, if there is one, in the dtype of x."""
    return x if bias is None else x + bias.astype(x.dtype)
