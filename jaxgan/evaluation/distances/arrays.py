"""What every distance asks of its features."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import UsageError


class Estimate(NamedTuple):
    """A number over several subsets of the pictures."""

    mean: float
    deviation: float  # standard, of one subset's number, by the number of subsets


def checked(features: Any, what: str, *, least: int = 0) -> np.ndarray:
    """Returns features [N, F], of numpy or jax, as a numpy array of the dtype that they have.

    Args:
      features: [N, F], one row for each picture.
      what: what they are, in the plural; messages begin with it.
      least: how many rows there must be.

    Raises:
      UsageError: if they are no table, have no columns, are not finite or are too few.
    """
    array = np.asarray(features)
    if array.ndim != 2 or not array.shape[1]:
        raise UsageError(
            f"{what} have the shape {array.shape}; they must be [N, F], one row for each picture"
        )
    if len(array) < least:
        raise UsageError(
            f"{what} are {len(array)} and at least {least} are needed; take more pictures"
        )
    # Unlike a table of booleans, the extremes need no memory.
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise UsageError(
            f"{what} hold numbers that are not finite; look for NaN in the weights or the pictures"
        )
    return array


def checked_pair(
    first: Any, second: Any, what: tuple[str, str], *, least: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """`checked` for both. Raises UsageError also if they have other numbers of features."""
    one, other = checked(first, what[0], least=least), checked(second, what[1], least=least)
    same_width(one.shape[1], other.shape[1], what)
    return one, other


def same_width(one: int, other: int, what: tuple[str, str]) -> None:
    """Raises UsageError if the numbers of features differ."""
    if one != other:
        raise UsageError(
            f"{what[0]} have {one} columns and {what[1]} have {other}; "
            "only features of the same network can be compared"
        )
