"""Whether a classifier reads in pictures what they were asked to show."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.arrays import checked


class Hits(NamedTuple):
    """For each picture, so that an interval can be had by drawing pictures again."""

    found: np.ndarray  # [N] int, how many of the labels asked for were read
    asked: np.ndarray  # [N] int, how many were asked for

    def accuracy(self) -> float:
        """The share of all labels asked for that were read, in [0, 1]."""
        return float(self.found.sum() / self.asked.sum())


def hits(logits: Any, labels: Any) -> Hits:
    """Counts the labels asked for that are among the k highest logits, k the number asked for.

    For classes, one label each, a hit is that the highest logit is the class. For tags it is the
    score of the i-CLEVR evaluator. Of equal logits the first counts as the highest.

    Args:
      logits: [N, K]; anything that rises with them, as probabilities do, gives the same.
      labels: [N, K], 1 for the labels asked for, else 0.

    Raises:
      UsageError: if the shapes differ, labels are not 0 or 1, or no label is asked for.
    """
    logits, labels = checked(logits, "logits", least=1), checked(labels, "labels", least=1)
    if logits.shape != labels.shape:
        raise UsageError(
            f"logits have the shape {logits.shape} and labels {labels.shape}; "
            "both must be [N, K] with the classifier's K labels"
        )
    wanted = labels == 1
    if not (wanted | (labels == 0)).all() or not wanted.any():
        raise UsageError("labels must be 0 or 1, and 1 at least once; soft ones have no accuracy")
    asked = wanted.sum(1)
    order = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")
    among = np.arange(logits.shape[1]) < asked[:, None]
    return Hits((np.take_along_axis(wanted, order, 1) & among).sum(1), asked)
