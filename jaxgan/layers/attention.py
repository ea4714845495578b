"""Self-attention over the positions of a map. Zhang et al., "Self-Attention Generative Adversarial
Networks", 2019, arXiv:1805.08318.

The defaults are the official code's: values of half the width, keys and values pooled. Values of
the full width without pooling are a widespread PyTorch port's.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgan.layers.spectral import SpectralConv

# On a CPU a batch is worked through in pieces whose weights, so many numbers, stay in the cache; in
# at most so many pieces, since each of them is compiled.
_TABLE, _PIECES = 2**20, 8


def attend(query: Array, key: Array, value: Array) -> Array:
    """Attention [B, N, K], [B, M, K], [B, M, V] -> [B, N, V]: softmax over M of query . key.

    All are of one dtype. As in the paper, the products are not divided by the square root of K.
    The softmax is taken in float32 or better. It cannot be differentiated forward (`jax.jvp`).
    """
    if jax.default_backend() != "cpu":
        return _attend_at_once(query, key, value)
    size = max(-(-len(query) // _PIECES), _TABLE // (query.shape[1] * key.shape[1]))
    pieces = [slice(start, start + size) for start in range(0, len(query), size)]
    return jnp.concatenate([_attend_at_once(query[p], key[p], value[p]) for p in pieces])


@jax.custom_vjp
def _attend_at_once(query, key, value):
    return _attend(query, key, value)[0]


def _attend(query, key, value):
    """The forward pass. Divides what is read, which is smaller than the table of weights."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    products = jnp.einsum("bnk,bmk->bnm", query, key, preferred_element_type=wide)
    weights = jnp.exp(products - products.max(-1, keepdims=True))
    total = weights.sum(-1, keepdims=True)
    weights = weights.astype(value.dtype)
    read = jnp.einsum("bnm,bmv->bnv", weights, value, preferred_element_type=wide) / total
    return read.astype(value.dtype), (query, key, value, weights, total, read)


def _attend_back(saved, d):
    query, key, value, weights, total, read = saved
    inner = jnp.einsum("bnv,bmv->bnm", d, value, preferred_element_type=total.dtype)
    # Softmax's own sum, of weights and `inner` over M, from what is smaller.
    shift = (d * read).sum(-1, keepdims=True)
    to_products = (weights * ((inner - shift) / total)).astype(d.dtype)
    to_query = jnp.einsum("bnm,bmk->bnk", to_products, key)
    return to_query, _gathered(to_products, query), _gathered(weights, (d / total).astype(d.dtype))


def _gathered(table: Array, x: Array) -> Array:
    """[B, N, M], [B, N, C] -> [B, M, C]: the sum over N."""
    # The barrier keeps XLA from merging the swap into the product: a CPU would then transpose
    # the table, which takes four times as long.
    product = jnp.einsum("bnm,bnc->bcm", table, x)
    return lax.optimization_barrier(product).swapaxes(1, 2)


_attend_at_once.defvjp(_attend, _attend_back)


class SelfAttention(nn.Module):
    """Adds to each position what it reads at all positions: x + gain * attention(x).

    Its 1x1 convolutions "query", "key", "value" and "out" are spectrally normalised and without
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
