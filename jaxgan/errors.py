"""Mistakes that the user can mend: scripts print them as one line, without a traceback."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

_FLAG = re.compile(r"--(?:set[ =](?P<field>\w+)|(?P<name>[a-z][a-z_]*))(?:=(?P<value>[^\s,;)]+))?")
_SWITCHES = ("skip_corrupt", "flip", "deterministic")
_speaks_flags = False


class AdviceError(Exception):
    """An error whose remedy is a setting.

    The message is written with flags of the command line, `--image_size=64`. Where jaxgan is called
    from Python it is shown with arguments, `image_size=64`.
    """

    def __str__(self) -> str:
        text = printable(super().__str__())
        return text if _speaks_flags else _FLAG.sub(_as_argument, text)


class UsageError(AdviceError, ValueError):
    """A setting that does not fit. The message names it, its value, what is allowed, the remedy."""


class DataError(UsageError):
    """Data that is missing, damaged or not what was asked for; the message says what to do."""


def printable(text: str) -> str:
    """The text with control characters escaped, which a file's name may bring along, and what no
    terminal can show."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", _escaped, text)


def some(names: Iterable[str], most: int = 20) -> str:
    """Names in a row, the first ones if they are many."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(name if len(name) <= 80 else f"{name[:80]}..." for name in names[:most]) + more


@contextlib.contextmanager
def in_flags() -> Iterator[None]:
    """Within it errors name flags, for who sits at a command line."""
    global _speaks_flags
    before, _speaks_flags = _speaks_flags, True
    try:
        yield
    finally:
        _speaks_flags = before


def nearest(name: str, valid: Iterable[str]) -> str:
    """Returns " (did you mean 'x'?)" with the most alike of the valid names, "" if none is."""
    near = difflib.get_close_matches(name, sorted(valid), 1, 0.4)
    return f" (did you mean {near[0]!r}?)" if near else ""


def unknown(kind: str, name: str, valid: Iterable[str]) -> UsageError:
    """Returns the error for a name that is not among the valid ones, with the nearest of them."""
    valid = sorted(valid)
    near = nearest(name, valid) if len(valid) <= 10_000 else ""
    return UsageError(f"unknown {kind} {name!r:.80}{near}; valid: {some(valid, 100)}")


def _escaped(found: re.Match) -> str:
    return found[0].encode("unicode_escape").decode()


def _as_argument(flag: re.Match) -> str:
    field, name, value = flag["field"], flag["name"], flag["value"]
    if value is not None and not re.fullmatch(r"[\d.e-]+|\.\.\.", value):
        value = {"true": "True", "false": "False", "none": "None"}.get(value, repr(value))
    if field:
        return f"config={{{field!r}: {value}}}"
    if name in _SWITCHES:
        value = "True"
    return name if value is None else f"{name}={value}"
