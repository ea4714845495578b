"""What a run leaves in its workdir while it trains: checkpoints, metrics, samples, curves."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from jaxgan import parallel, plot, sample
from jaxgan.checkpoint import Checkpointer
from jaxgan.core import Gan, GanState
from jaxgan.log import Log


class Schedule(NamedTuple):
    """How often something is written, in steps, and what is kept."""

    log_every: int = 100
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep: int = 3  # the last checkpoints
    keep_every: int | None = None  # checkpoints at multiples of this stay for good
    num_samples: int = 64
    max_skipped: int = 10  # updates in a row that may be undone for not being finite


class Record:
    """Writes a run down; with `workdir=None` every method does nothing. A context manager.

    All processes take part in checkpoints; the main one writes the rest.
    """

    def __init__(
        self, gan: Gan, workdir: str | pathlib.Path | None, schedule: Schedule, seed: int
    ) -> None:
        self._gan, self._schedule, self._seed = gan, schedule, seed
        self._workdir = None if workdir is None else pathlib.Path(workdir)
        self._checkpointer = self._log = None
        if self._workdir is not None:
            self._checkpointer = Checkpointer(
                self._workdir / "checkpoints", keep=schedule.keep, keep_every=schedule.keep_every
            )

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *unused) -> None:
        try:
            if self._checkpointer is not None:
                self._checkpointer.close()
        finally:
            if self._log is not None:
                self._log.close()

    def restore(self, template: GanState) -> GanState | None:
        """Returns the newest good state as numpy, or None if there is none yet."""
        if self._checkpointer is None:
            return None
        restored = self._checkpointer.restore(template)
        return None if restored is None else restored.state

    def begin(self, step: int) -> None:
        """Opens the log behind `step`."""
        if self._workdir is not None and parallel.is_main():
            self._log = Log(self._workdir, step)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a line to the log."""
        if self._log is not None:
            self._log.metrics(step, values)

    def sample(self, step: int, state: GanState) -> None:
        """Draws the grid of fixed latents, and the curves."""
        if self._log is None:
            return
        variables = sample.generator_variables(state)
        images = sample.draw(self._gan, variables, self._schedule.num_samples, seed=self._seed)
        grid = plot.grid(images)
        plot.save_image(self._workdir / "samples" / f"step_{step:08d}.png", grid)
        self._log.image(step, "samples", grid)
        plot.curves(self._workdir / "metrics.jsonl", self._workdir / "curves.png")

    def save(self, step: int, state: GanState) -> None:
        """Saves a checkpoint in the background."""
        if self._checkpointer is not None:
            self._checkpointer.save(step, state, {})

    def finish(self) -> None:
        """Waits until everything is on disk."""
        if self._checkpointer is not None:
            self._checkpointer.wait()
