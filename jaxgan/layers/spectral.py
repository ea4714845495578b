"""Spectral normalization. Miyato et al., "Spectral Normalization for Generative Adversarial
Networks", 2018, arXiv:1802.05957.

A kernel, seen as a matrix W [inputs, features], is divided by an estimate v W u of its largest
singular value. The collection "spectral" holds the vectors u and v and nothing else. A call with
`refresh` moves them by one power iteration; every other call, at evaluation too, leaves them
unchanged. They are constants to the gradient, as in the paper; SAGAN's TensorFlow code lets the
gradient flow through them. A label embedding is a `SpectralDense` without bias, on labels [B, K]
one-hot or multi-hot: a lookup cannot take a set of tags.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgan.layers.conv import (
    Conv,
    ConvTranspose,
    Dense,
    conv_layer,
    conv_transpose_layer,
    dense_layer,
)

COLLECTION = "spectral"

# Enough for the first estimate to serve a call that comes before any refresh.
_ITERATIONS_AT_INIT = 15
_EPSILON = 1e-12


def power_iteration(matrix: Array, u: Array) -> tuple[Array, Array]:
    """Moves u [features] towards the top singular vector of [inputs, features]; returns u and v."""
    v = _unit(matrix @ u)
    return _unit(v @ matrix), v


def spectral_norm(matrix: Array, u: Array, v: Array) -> Array:
    """Estimates the largest singular value of [inputs, features]; its gradient is v u^T."""
    return lax.stop_gradient(v) @ matrix @ lax.stop_gradient(u)


def normalized(
    module: nn.Module, kernel: Array, *, refresh: bool, features_axis: int = -1
) -> Array:
    """Returns the module's kernel divided by its spectral norm.

    Declares "u" [features] and "v" [inputs] in the module's collection "spectral". They start as a
    truncated normal u, drawn from the "params" stream, after 15 iterations; a `refresh` at
    initialization adds none.

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


class SpectralDense(Dense):
    """`Dense` whose kernel is divided by its spectral norm; also an embedding of labels.

    Attributes: those of `Dense`; the kernel starts as SAGAN's, and the bias is not normalized.
    """

    kernel_init: Callable = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(self, x: Array, *, refresh: bool) -> Array:
        """[..., I] -> [..., features]."""
        return dense_layer(self, x, functools.partial(normalized, self, refresh=refresh))


class SpectralConv(Conv):
    """`Conv` whose kernel, as [k k I, features], is divided by its spectral norm.

    Attributes: those of `Conv`; the kernel starts as SAGAN's.
    """

    kernel_init: Callable = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(self, x: Array, *, refresh: bool) -> Array:
        """[B, H, W, I] or [B, D, H, W, I] -> [B, h, w, features] or [B, d, h, w, features]."""
        return conv_layer(self, x, functools.partial(normalized, self, refresh=refresh))


class SpectralConvTranspose(ConvTranspose):
    """`ConvTranspose` whose kernel, as [k k I, features], is divided by its spectral norm.

    Attributes: those of `ConvTranspose`; the kernel starts as SAGAN's.
    """

    kernel_init: Callable = nn.initializers.xavier_uniform(in_axis=-1, out_axis=-2)

    @nn.compact
    def __call__(self, y: Array, *, refresh: bool) -> Array:
        """[B, h, w, I] or [B, d, h, w, I] -> [B, H, W, features] or [B, D, H, W, features]."""
        used = functools.partial(normalized, self, refresh=refresh, features_axis=-2)
        return conv_transpose_layer(self, y, used)


class Projection(nn.Module):
    """What a label adds to the score: how well features agree with it.

    Miyato and Koyama, "cGANs with Projection Discriminator", 2018, arXiv:1802.05637, equation 3.

    The label's embedding "embed" is spectrally normalized, as in SAGAN; a set of tags has the sum
    of its tags' embeddings.
    """

    @nn.compact
    def __call__(self, features: Array, label: Array, *, refresh: bool) -> Array:
        """Features [B, F] and labels [B, K], one-hot or multi-hot, -> [B]."""
        embed = SpectralDense(features.shape[-1], use_bias=False, name="embed")
        return (features * embed(label.astype(features.dtype), refresh=refresh)).sum(-1)
