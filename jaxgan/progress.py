"""How a training tells people how far it is, and how fast."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from tqdm import tqdm

from jaxgan.stages import Stage, images_drawn


class Clock:
    """Measures images per second between two logged steps, compilation apart."""

    def __init__(self, stages: tuple[Stage, ...], step: int) -> None:
        self._images = lambda step: images_drawn(stages, step)
        self._first, self._start = step, (step, time.monotonic())
        self.began = time.monotonic()

    def pause(self, step: int) -> None:
        """Leaves out what passed since the last measurement."""
        self._start = (step, time.monotonic())

    def measure(self, step: int) -> dict[str, float]:
        """Returns images drawn in all, seconds since the start, and images a second lately."""
        now = time.monotonic()
        before, then = self._start if self._start[0] < step else (self._first, self.began)
        self._start = (step, now)
        drawn = self._images(step) - self._images(before)
        return {
            "images": self._images(step),
            "seconds": round(now - self.began, 3),
            "images_per_second": drawn / (now - then),
        }


def progress_bar(first: int, steps: int, shown: bool) -> tqdm:
    """Returns the bar of a training from `first` finished steps on, in lines of their own where
    there is no terminal."""
    bar = functools.partial(tqdm, total=steps, initial=first, unit="step", disable=not shown)
    if sys.stderr.isatty():
        return bar(dynamic_ncols=True)
    return bar(
        file=_Lines(sys.stderr),
        mininterval=10,
        bar_format="{percentage:3.0f}% {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}, {rate_fmt}{postfix}]",
    )


class _Lines:
    """A file for tqdm that is no terminal: each state of the bar becomes a line of its own."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if text.strip():
            self._file.write(text.strip("\r\n ") + "\n")

    def flush(self) -> None:
        self._file.flush()


def headline(values: Mapping[str, float]) -> str:
    """Returns the losses and the speed of a log's line in words."""
    losses = {n[0].upper(): v for n, v in values.items() if n.endswith("/loss")}
    shown = [f"{name} loss {value:.3f}" for name, value in losses.items()]
    if values["skipped"]:
        shown.append(f"{values['skipped']:.0f} updates skipped")
    return ", ".join([*shown, f"{values['images_per_second']:.0f} images/s"])
