"""How layers are computed on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array


def wide(run: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Returns run(a, b) computed in float32 or better, and rounded to the dtype of both.

    Accelerators sum half-precision products in float32 by themselves.
    """

    def computed(a, b):
        dtype = jnp.promote_types(a.dtype, jnp.float32)
        return run(a.astype(dtype), b.astype(dtype)).astype(a.dtype)

    return computed
