"""Fréchet distance of two Gaussians that have the moments of features.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
2017, arXiv:1706.08500, equation 6, after Dowson and Landau, 1982. Moments are merged by Chan et
al., "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979. All of it in
float64 on the host.

It is a FID only if the features are those of FID's own Inception network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import UsageError
from jaxgan.metrics.arrays import checked, same_width

_ROWS = 4096  # this many are turned into float64 at a time


class Moments(NamedTuple):
    """Count, mean and scatter of features: all that the distance looks at."""

    count: int
    mean: np.ndarray  # [F] float64
    scatter: np.ndarray  # [F, F] float64, the sum of (x - mean)(x - mean)^T

    @property
    def covariance(self) -> np.ndarray:
        """[F, F], the scatter by count - 1, as in FID's official code."""
        return self.scatter / (self.count - 1)

    @classmethod
    def of(cls, features: Any) -> Moments:
        """The moments of features [N, F], also of none. Raises UsageError if they do not fit."""
        return cls.streamed([features])

    @classmethod
    def streamed(cls, batches: Iterable[Any]) -> Moments:
        """The moments of all rows of batches [B, F], of any sizes, none of which is kept.

        Raises:
          UsageError: if a batch is not [B, F] or not finite, if their widths differ, or if there
            is no batch.
        """
        total, waiting, rows = None, [], 0
        for batch in batches:
            batch = checked(batch, "features")
            waiting.append(batch)
            rows += len(batch)
            # The scatter of many rows costs little more than that of a few.
            if rows >= _ROWS:
                total, waiting, rows = _add(total, waiting), [], 0
        if waiting:
            total = _add(total, waiting)
        if total is None:
            raise UsageError("there are no features to take moments of; give at least one batch")
        return total


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both sets together, as if they had been read at once.

    Raises:
      UsageError: if their numbers of features differ.
    """
    same_width(len(a.mean), len(b.mean), ("the first features", "the second features"))
    count = a.count + b.count
    share = b.count / max(count, 1)
    step = b.mean - a.mean
    scatter = np.outer(step, step)
    scatter *= a.count * share
    scatter += a.scatter
    scatter += b.scatter
    return Moments(count, a.mean + share * step, scatter)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (AB)^(1/2)), at least 0, of means m and covariances A and B.

    It is a squared distance, and for finite samples of one distribution it is above 0: numbers of
    different counts do not compare. Covariances may be singular.

    Raises:
      UsageError: if either has fewer than 2 samples or their numbers of features differ.
    """
    for count in (a.count, b.count):
        if count < 2:
            raise UsageError(
                f"a Fréchet distance needs at least 2 samples on each side, and one has {count}"
            )
    if b.count < a.count:
        a, b = b, a  # the first covariance is the one whose null space is left out
    return frechet_of_gaussians(a.mean, a.covariance, b.mean, b.covariance)


def frechet_of_gaussians(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """`frechet_distance` by means [F] and covariances [F, F], for published statistics.

    Raises:
      UsageError: if their numbers of features differ.
    """
    same_width(len(mean_a), len(mean_b), ("the first moments", "the second moments"))
    step = np.float64(mean_a) - np.float64(mean_b)
    apart = step @ step + np.trace(covariance_a) + np.trace(covariance_b)
    return max(0.0, float(apart - 2 * _trace_of_root(covariance_a, covariance_b)))


def _trace_of_root(a: np.ndarray, b: np.ndarray) -> float:
    """The trace of (AB)^(1/2), whose eigenvalues are the roots of those of A^(1/2) B A^(1/2)."""
    values, vectors = np.linalg.eigh(a)
    # What is 0 but for rounding would come back as its root, which is not small.
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    root = vectors[:, kept] * np.sqrt(values[kept])
    return np.sqrt(np.maximum(np.linalg.eigvalsh(root.T @ b @ root), 0)).sum()


def _add(total: Moments | None, batches: list[np.ndarray]) -> Moments:
    for other in batches[1:]:
        same_width(batches[0].shape[1], other.shape[1], ("the first batch's rows", "a later one's"))
    rows = np.concatenate(batches) if len(batches) > 1 else batches[0]
    for start in range(0, max(len(rows), 1), _ROWS):
        part = _of_block(rows[start : start + _ROWS].astype(np.float64))
        total = part if total is None else merge(total, part)
    return total


def _of_block(x: np.ndarray) -> Moments:
    mean = x.sum(0) / max(len(x), 1)
    x = x - mean
    return Moments(len(x), mean, x.T @ x)
