"""Mistakes that the user can mend: scripts print them as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A setting that does not fit. The message names it, its value, what is allowed, the remedy."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Returns the error for a name that is not among the valid ones, with the nearest of them."""
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, 1, 0.4)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return UsageError(f"unknown {kind} {name!r}{guess}; valid: {', '.join(valid)}")
