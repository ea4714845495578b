"""Modes that a generator reaches.

Stacked MNIST, Metz et al., "Unrolled Generative Adversarial Networks", 2017, arXiv:1611.02163,
section 3.3: three digits, one in each colour, are 1000 modes; a classifier reads the digits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import UsageError

STACKED_DIGITS = 1000


class Modes(NamedTuple):
    """Which modes were drawn, and how evenly."""

    reached: int
    divergence: float  # KL(drawn || expected) in nats; 0 is best


def stacked_modes(digits: Any) -> np.ndarray:
    """[N, 3] digits, one for each colour -> [N] modes in [0, 999].

    Raises:
      UsageError: if the shape is another or a digit is not in [0, 9].
    """
    digits = np.asarray(digits)
    if digits.ndim != 2 or digits.shape[1] != 3:
        raise UsageError(f"digits have the shape {digits.shape}; they must be [N, 3]")
    _check_range(digits, 10, "digits")
    return digits.astype(np.int64) @ [100, 10, 1]


def count_modes(modes: Any, number: int = STACKED_DIGITS, *, expected: Any = None) -> Modes:
    """Counts the modes that were drawn, and says how far their shares are from those expected.

    With few samples for each mode (published numbers take 26 for each of 1000) modes are missed by
    chance and the divergence is above 0.

    Args:
      modes: [N] integers in [0, number).
      number: how many there are.
      expected: [number], shares of the data or counts; None is all alike.

    Raises:
      UsageError: if there are no samples, modes out of range, or expected is not positive.
    """
    modes = np.asarray(modes)
    if modes.ndim != 1 or not len(modes):
        raise UsageError(f"modes have the shape {modes.shape}; they must be [N], N at least 1")
    _check_range(modes, number, "modes")
    expected = np.ones(number) if expected is None else np.asarray(expected, np.float64)
    if expected.shape != (number,) or not (expected > 0).all():
        raise UsageError(
            f"the expected shares have the shape {expected.shape} and must be positive ones of "
            f"each of {number} modes; leave out modes that the data does not have"
        )
    counts = np.bincount(modes, minlength=number)
    drawn = counts > 0
    p, q = counts[drawn] / len(modes), expected[drawn] / expected.sum()
    return Modes(int(drawn.sum()), max(0.0, float((p * np.log(p / q)).sum())))


def _check_range(values: np.ndarray, number: int, what: str) -> None:
    if not np.issubdtype(values.dtype, np.integer):
        raise UsageError(f"{what} are {values.dtype}; they must be integers")
    if values.size and not (values.min() >= 0 and values.max() < number):
        raise UsageError(
            f"{what} are from {values.min()} to {values.max()}; they must be from 0 to {number - 1}"
        )
