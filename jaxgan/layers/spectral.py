"""Spectral normalisation. Miyato et al., "Spectral Normalization for Generative Adversarial
Networks", 2018, arXiv:1802.05957.

A kernel, seen as a matrix W [inputs, features], is divided by an estimate v W u of its largest
singular value. The vectors u and v are the collection "spectral", and nothing else is. A call with
`refresh` moves them by one power iteration; every other call, at evaluation too, takes them as
they stand. They are constants to the gradient, as in the paper; SAGAN's TensorFlow code lets the
gradient flow through them. A label embedding is a `SpectralDense` without bias, on labels [B, K]
one-hot or multi-hot: a lookup cannot take a set of tags.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgan.layers.conv import Size, add, bias_of, cast, conv, conv_transpose, kernel_and_bias

COLLECTION = "spectral"

# So many that the first estimate is of use to a call that comes before any refresh.
_ITERATIONS_AT_INIT = 15
_EPSILON = 1e-12


def power_iteration(matrix: Array, u: Array) -> tuple[Array, Array]:
    """Moves u [features] towards the top singular vector of [inputs, features]; returns u and v."""
    v = _unit(matrix @ u)
    return _unit(v @ matrix), v


def spectral_norm(matrix: Array, u: Array, v: Array) -> Array:
    """Estimates the largest singular value of [inputs, features]; its gradient is v u^T."""
    return lax.stop_gradient(v) @ matrix @ lax.stop_gradient(u)


def normalised(
    module: nn.Module, kernel: Array, *, refresh: bool, features_axis: int = -1
) -> Array:
    """Returns the module's kernel divided by its spectral norm.

    Declares "u" [features] and "v" [inputs] in the collection "spectral" of the module, one pair a
    module. They start as a truncated normal u (a draw from the "params" stream) after some
    iterations; a `refresh` at initialisation adds none.

    Args:
      module: the compact module that is being called.
      kernel: its kernel, of any rank from 2; not all zero, which has no direction.
      refresh: whether to move u and v first; the collection must then be mutable.
      features_axis: the axis of the kernel that counts the features.
    """
    axes_last = jnp.moveaxis(kernel, features_axis, -1)
    matrix = axes_last.reshape(-1, axes_last.shape[-1])
    constant = lax.stop_gradient(matrix)
    u = module.variable(COLLECTION, "u", _first, module, constant)
    v = module.variable(COLLECTION, "v", lambda: _unit(constant @ u.value))
    if refresh and not module.is_initializing():
        u.value, v.value = power_iteration(constant, u.value)
    return kernel / spectral_norm(matrix, u.value, v.value)


def _first(module: nn.Module, matrix: Array) -> Array:
    u = jax.random.truncated_normal(module.make_rng("params"), -2, 2, matrix.shape[-1:])
    return lax.fori_loop(0, _ITERATIONS_AT_INIT, lambda _, u: power_iteration(matrix, u)[0], u)


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x), _EPSILON)


class SpectralDense(nn.Module):
    """Dense layer whose kernel is divided by its spectral norm; also an embedding of labels.

    Attributes:
      features: number of outputs.
      use_bias: whether to add a bias; it is not normalised.
      kernel_init: initialiser of "kernel" [in, features], float32; SAGAN's by default.
      dtype: dtype of the computation and the result; None keeps the input's.
    """

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.xavier_uniform()
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array, *, refresh: bool) -> Array:
        """[..., I] -> [..., features]."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        kernel = normalised(self, kernel, refresh=refresh)
        x = cast(x, self.dtype)
        return add(x @ kernel.astype(x.dtype), bias_of(self))


class SpectralConv(nn.Module):
    """`Conv` whose kernel, as [k k I, features], is divided by its spectral norm.

    Attributes: those of `Conv`; the kernel starts as SAGAN's.
      convolve: (x, w) -> y, used instead of `conv.conv` with stride and padding; for example one of
        those in `resample.py`.
    """

    features: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    convolve: Callable[[Array, Array], Array] | None = None
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.xavier_uniform()
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Array, *, refresh: bool) -> Array:
        """[B, H, W, I] or [B, D, H, W, I] -> [B, h, w, features] or [B, d, h, w, features]."""
        kernel, bias = kernel_and_bias(self, x.ndim - 2, (x.shape[-1], self.features))
        kernel = normalised(self, kernel, refresh=refresh)
        x = cast(x, self.dtype)
        if self.convolve is None:
            y = conv(x, kernel, self.stride, self.padding)
        else:
            y = self.convolve(x, kernel)
        return add(y, bias)


class SpectralConvTranspose(nn.Module):
    """`ConvTranspose` whose kernel, as [k k I, features], is divided by its spectral norm.

    Attributes: those of `ConvTranspose`; the kernel starts as SAGAN's.
    """

    features: int
    kernel: Size
    stride: Size = 1
    padding: Size = 0
    output_padding: Size = 0
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.xavier_uniform(in_axis=-1, out_axis=-2)
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, y: Array, *, refresh: bool) -> Array:
        """[B, h, w, I] or [B, d, h, w, I] -> [B, H, W, features] or [B, D, H, W, features]."""
        kernel, bias = kernel_and_bias(self, y.ndim - 2, (self.features, y.shape[-1]))
        kernel = normalised(self, kernel, refresh=refresh, features_axis=-2)
        y = cast(y, self.dtype)
        return add(conv_transpose(y, kernel, self.stride, self.padding, self.output_padding), bias)
