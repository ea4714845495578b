"""Progress bars: one that moves in a terminal, lines now and then where there is none."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from tqdm import tqdm

SECONDS = 10  # between two lines


def bar(total: int | None, unit: str, *, shown: bool = True, delay: float = 0, **more: Any) -> tqdm:
    """Returns a bar.

    Args:
      total: how many there will be, if that is known.
      unit: of what.
      shown: whether it is shown at all.
      delay: seconds without a terminal before the first line.
      **more: as tqdm takes it.
    """
    if sys.stderr.isatty():
        return tqdm(total=total, unit=unit, disable=not shown, dynamic_ncols=True, **more)
    counts = "{n_fmt}" if total is None else "{percentage:3.0f}% {n_fmt}/{total_fmt}"
    return tqdm(
        total=total,
        unit=unit,
        disable=not shown,
        file=_Lines(sys.stderr),
        mininterval=SECONDS,
        delay=delay,
        bar_format="{desc}" + counts + " [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
        **more,
    )


def say(text: str) -> None:
    """Prints a text for people, above the bars that there are."""
    tqdm.write(text)


class _Lines:
    """A file for tqdm that is no terminal: each state of the bar becomes a line of its own."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if text.strip():
            self._file.write(text.strip("\r\n ") + "\n")

    def flush(self) -> None:
        self._file.flush()
