"""What a run leaves in its workdir: settings, checkpoints, metrics, samples, curves."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from jaxgan import evaluations, parallel, plot, sample
from jaxgan import workdir as workdirs
from jaxgan.broadcast import from_process_0
from jaxgan.checkpoint import Checkpointer
from jaxgan.core import GanState, Variables
from jaxgan.evaluate import Evaluator
from jaxgan.log import Log
from jaxgan.metrics.protocol import differences
from jaxgan.stages import Made, gan_at, template


class Schedule(NamedTuple):
    """How often something is written, in steps, and what is kept."""

    log_every: int = 100
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep: int = 3  # the last checkpoints
    keep_every: int | None = None  # checkpoints at multiples of this stay for good
    num_samples: int = 64
    evaluate_every: int | None = None
    max_skipped: int = 10  # updates in a row that may be undone for not being finite


class Record:
    """Writes a run down; with `workdir=None` every method does nothing. A context manager.

    All processes take part in checkpoints; the main one writes the rest. A new run that ends before
    `begin` leaves nothing behind. A conditional Gan needs `rows`, what its sample grid shall show.
    With an `evaluator` the checkpoint that it finds best stays, by the first of its metrics.

    Raises:
      UsageError: if the workdir holds something else, or a run with other settings.
      CheckpointError: if it cannot be written, or another run is using it.
    """

    def __init__(
        self,
        gan: Made,
        workdir: str | pathlib.Path | None,
        schedule: Schedule,
        seed: int,
        settings: Mapping[str, Any],
        rows: sample.Rows | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        self._gan, self._schedule, self._seed = gan, schedule, seed
        self._settings, self._rows, self._evaluator = settings, rows, evaluator
        self._workdir = None if workdir is None else pathlib.Path(workdir)
        self._checkpointer = self._log = None
        if self._workdir is None:
            return
        from_process_0(lambda: workdirs.check(self._workdir, settings))
        self._was_there = self._workdir.exists()
        self._checkpointer = Checkpointer(
            self._workdir / "checkpoints", keep=schedule.keep, keep_every=schedule.keep_every
        )

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *unused) -> None:
        if self._checkpointer is None:
            return
        try:
            if parallel.is_main() and not (self._workdir / "config.json").exists():
                self._leave_nothing()
            self._checkpointer.close()
        finally:
            if self._log is not None:
                self._log.close()

    def _leave_nothing(self) -> None:
        # Only what is empty goes: a run that starts here at this moment keeps its files.
        with contextlib.suppress(OSError):
            (self._checkpointer.directory / ".lock").unlink()
            self._checkpointer.directory.rmdir()
            if not self._was_there:
                self._workdir.rmdir()

    def restore(self) -> GanState | None:
        """Returns the newest good state as numpy, or None if there is none yet."""
        if self._checkpointer is None:
            return None
        restored = self._checkpointer.restore(template(self._gan))
        return None if restored is None else restored.state

    def begin(self, step: int) -> None:
        """Writes the settings, and opens the log behind `step`."""
        if self._workdir is not None and parallel.is_main():
            workdirs.write(self._workdir, self._settings)
            self._log = Log(self._workdir, step)
            self._keep_best()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a line to the log."""
        if self._log is not None:
            self._log.metrics(step, values)

    def sample(self, step: int, state: GanState) -> None:
        """Draws the grid of fixed latents, and the curves; a full disk is a warning."""
        if self._log is None:
            return
        variables = sample.generator_variables(state)
        grid = self._grid(step, variables)
        try:
            plot.save_image(self._workdir / "samples" / f"step_{step:08d}.png", grid)
            self._log.image(step, "samples", grid)
            plot.curves(self._workdir / "metrics.jsonl", self._workdir / "curves.png")
        except OSError as error:
            logging.warning("samples of step %d are lost: %s", step, error)

    def _grid(self, step: int, variables: Variables) -> np.ndarray:
        gan = gan_at(self._gan, step)
        draw = functools.partial(sample.draw, gan, variables, seed=self._seed, step=step)
        if self._rows is None:
            return plot.grid(draw(self._schedule.num_samples))
        label = self._rows.label
        grid = plot.grid(draw(len(label), label=label), self._rows.columns)
        return plot.captioned(grid, self._rows.captions)

    def save(self, step: int, state: GanState) -> None:
        """Saves a checkpoint in the background."""
        if self._checkpointer is not None:
            self._checkpointer.save(step, state, {})

    def evaluate(self, step: int, state: GanState) -> None:
        """Measures the generator, and keeps the checkpoint that is the best so far.

        To be called behind `save`, lest the best be lost with the process. A full disk is a
        warning.
        """
        if self._evaluator is None or self._log is None:
            return
        self.finish()
        measured = self._evaluator(state)
        values = {f"evaluation/{name}": x.value for name, x in measured.entry.metrics.items()}
        try:
            evaluations.append(self._workdir, measured.entry)
            self._log.scalars(step, values)
        except OSError as error:
            logging.warning("the evaluation of step %d is lost: %s", step, error)
        self._keep_best()

    def _keep_best(self) -> None:
        if self._evaluator is None:
            return
        there = {*self._checkpointer.steps()}
        alike = [
            entry
            for entry in evaluations.read(self._workdir)
            if entry.step in there and not differences(entry.protocol, self._evaluator.protocol())
        ]
        name = next((name for entry in alike for name in entry.metrics), None)
        measured = [entry.metrics[name].value for entry in alike if name in entry.metrics]
        if any(value is not None for value in measured):
            self._checkpointer.protect(evaluations.best(alike, name).step)

    def finish(self) -> None:
        """Waits until everything is on disk."""
        if self._checkpointer is not None:
            self._checkpointer.wait()
