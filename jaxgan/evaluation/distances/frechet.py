"""Fréchet distance of two Gaussians that have the moments of features.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
2017, arXiv:1706.08500, equation 6, after Dowson and Landau, 1982. Moments are merged by Chan et
al., "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979. All of it in
float64 on the host.

It is a FID only if the features are those of FID's own Inception network.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.arrays import checked, same_width

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
        rows = checked(features, "features")
        starts = range(0, max(len(rows), 1), _ROWS)
        return functools.reduce(merge, (_of_block(rows[i : i + _ROWS]) for i in starts))


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
    same_width(len(a.mean), len(b.mean), ("the first moments", "the second moments"))
    if b.count < a.count:
        a, b = b, a  # the first covariance is the one whose null space is left out
    step = a.mean - b.mean
    apart = step @ step + np.trace(a.covariance) + np.trace(b.covariance)
    return max(0.0, float(apart - 2 * _trace_of_root(a.covariance, b.covariance)))


def _trace_of_root(a: np.ndarray, b: np.ndarray) -> float:
    """The trace of (AB)^(1/2), whose eigenvalues are the roots of those of A^(1/2) B A^(1/2)."""
    values, vectors = np.linalg.eigh(a)
    # What is 0 but for rounding would come back as its root, which is not small.
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    root = vectors[:, kept] * np.sqrt(values[kept])
    return np.sqrt(np.maximum(np.linalg.eigvalsh(root.T @ b @ root), 0)).sum()


def _of_block(x: np.ndarray) -> Moments:
    x = x.astype(np.float64)
    mean = x.sum(0) / max(len(x), 1)
    x -= mean
    return Moments(len(x), mean, x.T @ x)
