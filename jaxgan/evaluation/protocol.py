"""What a number was measured with: two numbers of different protocols must not be compared."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxgan.errors import UsageError


class Protocol(NamedTuple):
    """All that a metric's value depends on besides the generator."""

    features: str  # the network's name
    digest: str  # SHA-256 of its weights
    resize: str  # how pictures came to its size
    reference: str  # the data set and its split
    fingerprint: str  # of those pictures
    num_reference: int
    num_generated: int
    conditions: str  # what a conditional generator was asked for
    weights: str  # "averaged" or "last"
    truncation: float  # psi, 1 for none
    seed: int  # of the latents, and of what of the reference was taken


class Measured(NamedTuple):
    """A metric's value, with the ends of its interval where one was computed."""

    value: float
    low: float | None = None
    high: float | None = None


def differences(a: Protocol, b: Protocol) -> list[str]:
    """Returns a line for each thing in which two protocols differ.

    The seed may differ: it is what an interval is about.
    """
    return [
        f"{name} {_show(before)} against {_show(now)}"
        for name, before, now in zip(Protocol._fields, a, b, strict=True)
        if before != now and name != "seed"
    ]


def check_comparable(a: Protocol, b: Protocol) -> None:
    """Raises UsageError if numbers of one protocol say nothing about those of the other."""
    found = differences(a, b)
    if found:
        raise UsageError(
            f"these numbers cannot be compared: {'; '.join(found)}. Evaluate both in the same way"
        )


def _show(value: Any) -> str:
    return f"{value[:8]}" if isinstance(value, str) and len(value) == 64 else f"{value}"
