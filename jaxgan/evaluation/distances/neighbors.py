"""Nearest neighbors by blocks: the table of all distances is never held.

Squared distances are |x|^2 + |y|^2 - 2 x.y, which is a matrix product and so as fast as a device
can be, but in float32 loses what is much smaller than |x|^2. So points are centered first, and the
distances to the few neighbors that were found are computed again from differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxgan import devices
from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.arrays import checked_pair

BLOCK = 2048  # points on each side: 16 MiB of distances
_SPARE = 4  # neighbors too many, so that rounding cannot leave out the right ones


class Neighbors(NamedTuple):
    """Of each query, nearest first; of equally near ones the first."""

    distances: np.ndarray  # [N, k] float64, Euclidean, ascending
    indices: np.ndarray  # [N, k] rows of the references


class Block(NamedTuple):
    """Points, of NumPy or on devices. Those that only fill up have infinite squares: far away."""

    points: Any  # [B, F] float32, centered and scaled
    squares: Any  # [B] |x|^2


class Frame(NamedTuple):
    """Where points are measured from, and in which unit, so that float32 keeps what it can."""

    center: np.ndarray  # [F]
    unit: float

    @classmethod
    def of(cls, *arrays: np.ndarray) -> Frame:
        """The last array's mean, and the largest deviation of any from it."""
        center = arrays[-1].mean(0, dtype=np.float64)
        sides = [side for x in arrays for side in (x.max(0) - center, center - x.min(0))]
        return cls(center, float(np.max(sides)) or 1.0)

    def blocks(self, x: np.ndarray, size: int) -> Iterator[Block]:
        """Points [N, F], so many at a time; all blocks have the same shape."""
        size = min(size, len(x))
        for start in range(0, len(x), size):
            part = x[start : start + size]
            points = np.zeros((size, x.shape[1]), np.float32)
            points[: len(part)] = (part - self.center) / self.unit
            squares = np.square(points).sum(1)
            squares[len(part) :] = np.inf
            yield Block(points, squares)


def nearest(queries: Any, references: Any, k: int, *, block: int = BLOCK) -> Neighbors:
    """The k nearest references of each query, by Euclidean distance.

    Compiled; the queries lie on this process's devices, a part of each block on each, and the
    references come by blocks to all of them; these may be mapped from a file. A query that is
    itself a reference finds itself at 0.

    Args:
      queries: [N, F], N at least 1.
      references: [M, F]; pixels may be integers.
      k: in [1, M].
      block: points on each side whose distances are held at a time.

    Raises:
      UsageError: if k is out of range or the features do not fit.
    """
    names = ("the queries", "the references")
    queries, references = checked_pair(queries, references, names, least=1)
    if not 1 <= k <= len(references):
        raise UsageError(
            f"{k} nearest neighbors among {len(references)} references cannot be had; "
            f"ask for 1 to {len(references)}, or give more references"
        )
    frame = Frame.of(queries, references)
    wanted = min(k + _SPARE, len(references))
    asked = [devices.spread(part) for part in frame.blocks(queries, block)]
    shape = len(asked[0].points), wanted
    best = [(jnp.full(shape, -jnp.inf), jnp.zeros(shape, jnp.int32))] * len(asked)
    start = 0
    for compared in frame.blocks(references, block):
        compared = devices.copies(compared)
        best = [_nearer(b, query, compared, start) for b, query in zip(best, asked, strict=True)]
        start += len(compared.points)
    found = np.concatenate([np.asarray(indices) for _, indices in best])[: len(queries)]
    return _measured(queries, references, found, k)


def squared_distances(one: Block, other: Block) -> Array:
    """[n, m], infinite for points that only fill up; rounding may leave it slightly below 0."""
    product = jnp.matmul(one.points, other.points.T, precision=lax.Precision.HIGHEST)
    return one.squares[:, None] + other.squares - 2 * product


@jax.jit
def _nearer(
    best: tuple[Array, Array], queries: Block, references: Block, start: Array
) -> tuple[Array, Array]:
    """The nearest of those known and the references, of which the first has the index `start`.

    Both as (nearness, indices) [n, wanted]; nearness is the negative squared distance.
    """
    known, indices = best
    wanted = known.shape[1]
    near = -squared_distances(queries, references)
    near, places = lax.top_k(near, min(wanted, near.shape[1]))
    near, order = lax.top_k(jnp.concatenate([known, near], 1), wanted)
    indices = jnp.concatenate([indices, start + places], 1)
    return near, jnp.take_along_axis(indices, order, 1)


def _measured(
    queries: np.ndarray, references: np.ndarray, indices: np.ndarray, k: int
) -> Neighbors:
    """Sorts the references at `indices` by their distances from differences, and keeps k."""
    distances = np.empty(indices.shape)
    for start in range(0, len(queries), BLOCK):
        part = slice(start, start + BLOCK)
        for place in range(indices.shape[1]):
            other = references[indices[part, place]].astype(np.float64)
            distances[part, place] = np.linalg.norm(queries[part] - other, axis=1)
    order = np.lexsort((indices, distances))[:, :k]
    return Neighbors(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))
