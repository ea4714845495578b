"""Kernel distance: the squared maximum mean discrepancy under a polynomial kernel.

Bińkowski et al., "Demystifying MMD GANs", 2018, arXiv:1801.01401, section 4: the unbiased estimate
with the kernel (x.y / F + 1)^3, over subsets drawn at random. It is a KID only if the features are
those of FID's own Inception network.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgan import devices
from jaxgan.evaluation.distances.arrays import Estimate, checked_pair


def kernel_distance(
    real: Any, fake: Any, *, subsets: int = 100, subset_size: int = 1000, seed: int
) -> Estimate:
    """The mean of `kernel_estimates`; arguments and errors are theirs."""
    estimates = kernel_estimates(real, fake, subsets=subsets, subset_size=subset_size, seed=seed)
    return Estimate(float(np.mean(estimates)), float(np.std(estimates)))


def kernel_estimates(
    real: Any, fake: Any, *, subsets: int = 100, subset_size: int = 1000, seed: int
) -> np.ndarray:
    """The estimate of each of some random subsets; it may be below 0, as it is unbiased.

    Computed in float32, spread over this process's devices, sums over rows in float64 on the host.
    The error is small beside the deviation whatever the features' offset, because those parts of
    the kernel that cancel in the estimate are never computed; see `_kernel`.

    Args:
      real, fake: features [N, F] and [M, F].
      subsets: how many.
      subset_size: rows of each side in a subset, drawn without replacement, at least 2.
      seed: of the draws.

    Raises:
      UsageError: if a side has fewer rows than a subset, or the features do not fit.
    """
    names = ("the real features", "the generated features")
    real, fake = checked_pair(real, fake, names, least=subset_size)
    center = real.mean(0, dtype=np.float64).astype(np.float32)
    sides = [np.subtract(x, center, dtype=np.float32) for x in (real, fake)]
    random = np.random.default_rng(seed)
    estimates = []
    for _ in range(subsets):
        rows = [random.choice(len(x), subset_size, replace=False) for x in sides]
        chosen = [x[i] for x, i in zip(sides, rows, strict=True)]
        sums = _row_sums(devices.copies(center), *devices.spread(chosen))
        within, between = (np.asarray(s, np.float64).sum() for s in sums)
        estimates.append(within / (subset_size * (subset_size - 1)) - 2 * between / subset_size**2)
    return np.array(estimates)


@jax.jit
def _row_sums(center: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Sums of the kernel [2, n], [n]: within both sides without the diagonals, and between."""
    same = jnp.eye(len(x), dtype=bool)
    within = [jnp.where(same, 0, _kernel(center, z, z)).sum(1) for z in (x, y)]
    return jnp.stack(within), _kernel(center, x, y).sum(1)


def _kernel(center: Array, x: Array, y: Array) -> Array:
    """The kernel [n, m] of rows x + center, y + center less all that depends on one of them alone.

    f(x) and f(y) cancel in the estimate, but can be so large that float32 would keep nothing else.
    With (x + center).(y + center) / F + 1 = c + a + b + u, what is left of the cube is
    (c + a + b + u)^3 - (c + a)^3 - (c + b)^3 + c^3.
    """
    size = x.shape[-1]
    c = center @ center / size + 1
    a, b = (x @ center / size)[:, None], y @ center / size
    u = jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST) / size
    s = c + a + b
    return u * (3 * s * (s + u) + u * u) + 3 * a * b * (s + c)
