"""Self-attention over the positions of a map. Zhang et al., "Self-Attention Generative Adversarial
Networks", 2019, arXiv:1805.08318.

The defaults are the official code's: values of half the width, keys and values pooled. A widespread
PyTorch port has values of the full width and does not pool.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgan.layers.cpu.attention import in_pieces
from jaxgan.layers.spectral import SpectralConv


def attend(query: Array, key: Array, value: Array) -> Array:
    """Attention [B, N, K], [B, M, K], [B, M, V] -> [B, N, V]: softmax over M of query . key.

    All are of one dtype. As in the paper, the products are not divided by the square root of K.
    The softmax is taken in float32 or better. It cannot be differentiated forward (`jax.jvp`).
    """
    return lax.platform_dependent(query, key, value, cpu=_attend_in_pieces, default=attend_at_once)


def _attend_in_pieces(query: Array, key: Array, value: Array) -> Array:
    return in_pieces(attend_at_once, query, key, value)


@jax.custom_vjp
def attend_at_once(query: Array, key: Array, value: Array) -> Array:
    """Computes `attend` with the weights of the whole batch in memory."""
    return _forward(query, key, value)[0]


def _forward(query, key, value):
    # What is read is divided, which is smaller than the table of weights.
    wide = jnp.promote_types(query.dtype, jnp.float32)
    products = jnp.einsum("bnk,bmk->bnm", query, key, preferred_element_type=wide)
    weights = jnp.exp(products - products.max(-1, keepdims=True))
    total = weights.sum(-1, keepdims=True)
    weights = weights.astype(value.dtype)
    read = jnp.einsum("bnm,bmv->bnv", weights, value, preferred_element_type=wide) / total
    return read.astype(value.dtype), (query, key, value, weights, total, read)


def _backward(saved, d):
    query, key, value, weights, total, read = saved
    inner = jnp.einsum("bnv,bmv->bnm", d, value, preferred_element_type=total.dtype)
    # The sum over M in softmax's derivative, of weights times `inner`, from what is smaller.
    shift = (d * read).sum(-1, keepdims=True)
    to_products = (weights * ((inner - shift) / total)).astype(d.dtype)
    to_query = jnp.einsum("bnm,bmk->bnk", to_products, key)
    to_value = _sum_over_queries(weights, (d / total).astype(d.dtype))
    return to_query, _sum_over_queries(to_products, query), to_value


def _sum_over_queries(table: Array, x: Array) -> Array:
    """[B, N, M], [B, N, C] -> [B, M, C]: the sum over N."""
    # The barrier keeps XLA from merging the swap into the product: a CPU would then transpose
    # the table, which takes four times as long.
    product = jnp.einsum("bnm,bnc->bcm", table, x)
    return lax.optimization_barrier(product).swapaxes(1, 2)


attend_at_once.defvjp(_forward, _backward)


class SelfAttention(nn.Module):
    """Adds to each position what it reads at all positions: x + gain * attention(x).

    Its 1x1 convolutions "query", "key", "value" and "out" are spectrally normalized and without
    bias. The scalar parameter "gain" starts at zero, so the layer starts as the identity; it is
    what to log to see whether attention is used.

    Attributes:
      key_divisor: queries and keys have C / key_divisor channels, rounded down.
      value_divisor: values have C / value_divisor channels, rounded down.
      pool: whether keys and values are max-pooled 2x2, a quarter of the memory.
    """

    key_divisor: int = 8
    value_divisor: int = 2
    pool: bool = True

    @nn.compact
    def __call__(self, x: Array, *, refresh: bool) -> Array:
        """[B, H, W, C] -> [B, H, W, C].

        Raises:
          ValueError: if C is less than a divisor, or a side cannot be halved where keys are pooled.
        """
        batch, height, width, channels = x.shape
        _check(channels, self.key_divisor, "key_divisor")
        _check(channels, self.value_divisor, "value_divisor")
        if self.pool and (height % 2 or width % 2):
            raise ValueError(
                f"SelfAttention: a map of {height}x{width} cannot be pooled 2x2; use even sides, "
                "or pool=False"
            )
        conv = functools.partial(SpectralConv, kernel=1, use_bias=False)
        keys, values = channels // self.key_divisor, channels // self.value_divisor

        query = conv(keys, name="query")(x, refresh=refresh)
        key = conv(keys, name="key")(x, refresh=refresh)
        value = conv(values, name="value")(x, refresh=refresh)
        if self.pool:
            key, value = _max_pool(key), _max_pool(value)
        read = attend(*(m.reshape(batch, -1, m.shape[-1]) for m in (query, key, value)))
        read = read.reshape(batch, height, width, values)
        gain = self.param("gain", nn.initializers.zeros, (), jnp.float32)
        return x + gain.astype(x.dtype) * conv(channels, name="out")(read, refresh=refresh)


def _max_pool(x: Array) -> Array:
    # Not by a window's maximum, whose gradient a CPU computes in a naive loop.
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def _check(channels: int, divisor: int, name: str) -> None:
    if channels < divisor:
        raise ValueError(
            f"SelfAttention: {channels} channels are fewer than {name}={divisor}; use a smaller one"
        )
