"""Modes that a generator reaches.

Stacked MNIST, Metz et al., "Unrolled Generative Adversarial Networks", 2017, arXiv:1611.02163,
section 3.3: three digits, one in each color, are 1000 modes; a classifier reads the digits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Modes(NamedTuple):
    """Which modes were drawn, and how evenly."""

    reached: int
    divergence: float  # KL(drawn || all alike) in nats; 0 is best


def stacked_modes(digits: np.ndarray) -> np.ndarray:
    """[N, 3] digits, integers in [0, 9], one for each color -> [N] modes in [0, 999]."""
    return np.asarray(digits) @ [100, 10, 1]


def count_modes(modes: np.ndarray, number: int = 1000) -> Modes:
    """Counts the modes that were drawn, and says how far they are from being drawn alike.

    With few samples for each mode (published numbers take 26 for each of 1000) modes are missed by
    chance and the divergence is above 0.

    Args:
      modes: [N] integers in [0, number), at least one.
      number: how many there are.
    """
    counts = np.bincount(modes, minlength=number)
    p = counts[counts > 0] / len(modes)
    return Modes(len(p), max(0.0, float((p * np.log(p / (1 / number))).sum())))
