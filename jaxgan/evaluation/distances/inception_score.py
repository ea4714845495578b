"""Inception Score: how sure a classifier is of each picture, and how evenly it reads the classes.

Salimans et al., "Improved Techniques for Training GANs", 2016, arXiv:1606.03498, section 4. It
bears that name only with the Inception network of its official code.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.arrays import Estimate, checked


def inception_score(probabilities: Any, *, splits: int = 10) -> Estimate:
    """exp(E_x KL(p(y|x) || p(y))) in [1, K], with p(y) the mean over a split.

    Args:
      probabilities: [N, K], of the classes for each generated picture; see `softmax`.
      splits: contiguous parts, each scored alone, part i from `i * N // splits` on, as in the
        official code; so pictures that are sorted by class must be shuffled before.

    Raises:
      UsageError: if there are fewer pictures than splits or rows are no probabilities.
    """
    p = checked(probabilities, "probabilities", least=splits).astype(np.float64)
    if p.min() < 0 or not np.allclose(p.sum(1), 1, rtol=0, atol=1e-3):
        raise UsageError(
            "probabilities must be at least 0 and sum to 1 in each row; turn logits into them by "
            "softmax"
        )
    bounds = [number * len(p) // splits for number in range(splits + 1)]
    scores = [np.exp(_divergence(p[a:b]).mean()) for a, b in pairwise(bounds)]
    return Estimate(float(np.mean(scores)), float(np.std(scores)))


def softmax(logits: Any) -> np.ndarray:
    """[N, K] logits -> probabilities in float64. Raises UsageError if they are not finite."""
    x = checked(logits, "logits").astype(np.float64)
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def _divergence(p: np.ndarray) -> np.ndarray:
    """KL(p(y|x) || p(y)) of each row [n]; 0 log 0 is 0."""
    ratio = np.divide(p, p.mean(0), out=np.ones_like(p), where=p > 0)
    return (p * np.log(ratio)).sum(1)
