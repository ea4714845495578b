"""How a training tells people how far it is, and how fast."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

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


class Compiling:
    """Says that the program of a stage is being compiled, and then how long that took."""

    def __init__(self, shown: bool) -> None:
        self._shown, self._began = shown, time.monotonic()
        self._say("compiling (once; later starts take seconds) ...")

    def ends(self) -> None:
        """To be called when the first step is done."""
        self._say(f"compiled in {time.monotonic() - self._began:.0f} s")

    def _say(self, text: str) -> None:
        if self._shown:
            tqdm.write(text, file=sys.stderr)


def headline(values: Mapping[str, float]) -> str:
    """Returns the losses and the speed of a log's line in words."""
    losses = {n[0].upper(): v for n, v in values.items() if n.endswith("/loss")}
    shown = [f"{name} loss {value:.3f}" for name, value in losses.items()]
    if values["skipped"]:
        shown.append(f"{values['skipped']:.0f} updates skipped")
    return ", ".join([*shown, f"{values['images_per_second']:.0f} images/s"])
