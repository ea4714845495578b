"""Attention on a CPU: a batch in pieces whose tables of weights stay in the cache."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

_PIECES = 8  # at most, since each of them is compiled


def in_pieces(
    attend: Callable[[Array, Array, Array], Array],
    query: Array,
    key: Array,
    value: Array,
    table: int = 2**20,
) -> Array:
    """Attends with so many examples at a time that they have about `table` weights together.

    Args:
      attend: what is done to a piece.
      query: [B, N, K].
      key: [B, M, K].
      value: [B, M, V].
      table: how many weights the cache keeps.

    Returns:
      [B, N, V].
    """
    size = max(-(-len(query) // _PIECES), table // (query.shape[1] * key.shape[1]))
    pieces = [slice(start, start + size) for start in range(0, len(query), size)]
    return jnp.concatenate([attend(query[p], key[p], value[p]) for p in pieces])
