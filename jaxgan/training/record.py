"""What a run leaves in its workdir: settings, checkpoints, metrics, samples, curves."""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from absl import logging

from jaxgan import addresses, devices
from jaxgan.core import GanState, Variables
from jaxgan.data import Dataset
from jaxgan.errors import UsageError
from jaxgan.processes import from_process_0
from jaxgan.remote import AddressError
from jaxgan.sampling import pictures
from jaxgan.sampling.draw import Rows, Translations, draw, generator_variables
from jaxgan.stages import Stages, gan_at, template
from jaxgan.training import curves
from jaxgan.training import workdir as workdirs
from jaxgan.training.checkpoint import Checkpointer
from jaxgan.training.log import Log
from jaxgan.training.replicas import check_replicas

EARLY_SAMPLES = (0, 50, 200)
"""Steps at which a new run draws a grid beside its schedule's, since people look early."""


class Schedule(NamedTuple):
    """How often something is written, in steps, and what is kept."""

    log_every: int = 100
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep: int = 3  # the last checkpoints
    keep_every: int | None = None  # checkpoints at multiples of this stay for good
    num_samples: int = 64
    evaluate_every: int | None = None  # if there is an `AfterSave`
    max_skipped: int = 10  # updates in a row that may be undone for not being finite

    def pause(self, step: int, steps: int) -> int:
        """Returns the next step after `step`, of `steps`, at which something is written."""
        often = (self.log_every, self.sample_every, self.checkpoint_every, self.evaluate_every)
        regular = [step - step % every + every for every in often if every]
        return min(steps, *regular, *(early for early in EARLY_SAMPLES if early > step))

    def samples(self, step: int) -> bool:
        """Whether a sample grid is due after `step` steps."""
        return step in EARLY_SAMPLES or step % self.sample_every == 0


class AfterSave(Protocol):
    """What is done with a state whose checkpoint is on disk, such as measuring its pictures."""

    def __call__(self, workdir: pathlib.Path, state: GanState) -> Mapping[str, float]:
        """Returns numbers for the log."""

    def is_done(self, workdir: pathlib.Path, step: int) -> bool:
        """Returns whether it was done with the state of a step already."""

    def best(self, workdir: pathlib.Path, steps: Collection[int]) -> int | None:
        """Returns which of the steps on disk stays, whatever its age."""


class Record:
    """Writes a run down; with `workdir=None` every method does nothing. A context manager.

    All processes take part in checkpoints; the main one writes the rest. A new run that ends before
    `begin` leaves nothing behind. A conditional Gan needs `rows`, what its sample grid shows.

    Raises:
      UsageError: if the workdir holds something else, or a run with other settings.
      CheckpointError: if it cannot be written, or another run is using it.
    """

    def __init__(
        self,
        stages: Stages,
        workdir: str | pathlib.Path | None,
        schedule: Schedule,
        seed: int,
        settings: Mapping[str, Any],
        rows: Rows | Translations | None = None,
        after_save: AfterSave | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        self._stages, self._schedule, self._seed = stages, schedule, seed
        self._settings, self._rows, self._after_save = settings, rows, after_save
        self._workdir: pathlib.Path | None = None
        self._checkpointer: Checkpointer | None = None
        self._log: Log | None = None
        if workdir is None:
            return
        self._workdir = workdirs.to_write(workdir)
        self._dataset = dataset
        from_process_0(lambda: workdirs.check(self._workdir, settings, dataset))
        self._was_there = self._workdir.exists()
        self._checkpointer = Checkpointer(
            self._workdir / "checkpoints", keep=schedule.keep, keep_every=schedule.keep_every
        )
        self._mirror = addresses.Mirror(self._workdir)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *unused) -> None:
        if self._checkpointer is None:
            return
        try:
            if devices.is_main() and not (self._workdir / "config.json").exists():
                self._leave_nothing()
            self._checkpointer.close()
        finally:
            if self._log is not None:
                self._log.close()
                self._put_up()

    def _put_up(self) -> None:
        """Puts what has changed to the run's address, if it has one; the training is worth more
        than an answer."""
        try:
            self._mirror.put_up()
        except AddressError as error:
            logging.warning("%s; until it can be put up, all is in %s", error, self._workdir)

    def _leave_nothing(self) -> None:
        # Only what is empty goes: a run that starts here at this moment keeps its files.
        with contextlib.suppress(OSError):
            (self._checkpointer.directory / ".lock").unlink()
            self._checkpointer.directory.rmdir()
            if not self._was_there:
                self._workdir.rmdir()

    def steps(self) -> list[int]:
        """Returns the steps of which there are checkpoints."""
        return [] if self._checkpointer is None else self._checkpointer.steps()

    def restore(self, step: int | None = None) -> GanState | None:
        """Returns the newest good state as numpy, or that of a step; None if there is none yet."""
        if self._checkpointer is None:
            return None
        restored = self._checkpointer.restore(template(self._stages), step)
        return None if restored is None else restored.state

    def begin(self, step: int) -> None:
        """Writes the settings, and opens the log behind `step`."""
        if self._workdir is None or not devices.is_main():
            return
        loggers = self._settings.get("logger", ["tensorboard"])
        try:
            workdirs.write(self._workdir, self._settings)
            if self._dataset is not None:
                workdirs.remember_pictures(self._workdir, self._dataset)
            self._log = Log(self._workdir, step, loggers, self._settings)
        except OSError as error:
            raise UsageError(
                f"{self._workdir} cannot be written ({error.strerror or error}); make room there, "
                "or see who may write it: nothing is lost"
            ) from error
        self._mirror.put_up()
        self._keep_best()

    def write(
        self,
        step: int,
        state: GanState,
        *,
        last: bool = False,
        grown: bool = False,
        stopping: bool = False,
    ) -> bool:
        """Leaves what is due at a step: a checkpoint, samples, and what is done after a save.

        Args:
          step: finished steps.
          state: after them.
          last: whether the run is complete, so that all is due.
          grown: whether a stage ends here, so that a checkpoint is due.
          stopping: whether a signal ends it here: a checkpoint is due, and nothing is measured,
            since somebody waits for the end; `catch_up` does it later.

        Returns:
          Whether time passed that was not the training's.
        """
        sampled, evaluated = self._due(step, last)
        # The save first: who sent the signal may not wait for a picture.
        regular = step % self._schedule.checkpoint_every == 0
        if last or stopping or grown or evaluated or regular:
            self.save(step, state)
        if sampled:
            self.sample(step, state)
        if evaluated and not stopping:
            self.after_save(step, state)
        return sampled or evaluated

    def _due(self, step: int, last: bool) -> tuple[bool, bool]:
        """Whether a grid and an evaluation are due after `step` steps."""
        sampled = last or self._schedule.samples(step)
        if self._after_save is None:
            return sampled, False
        return sampled, last or step % self._schedule.evaluate_every == 0

    def catch_up(self, step: int, state: GanState, *, last: bool = False) -> None:
        """Leaves what `write` would have left after the checkpoint of a step, but for a kill or a
        signal; what is there stays as it is. A collective call.

        Args:
          step: that of the checkpoint, from which the run goes on.
          state: after it.
          last: whether the run is complete.
        """
        if self._workdir is not None:
            from_process_0(lambda: self._catch_up(step, state, last))

    def _catch_up(self, step, state, last):
        sampled, evaluated = self._due(step, last)
        # Of the grid and the curves, the grid is written last.
        sampled = sampled and not self._grid_path(step).exists()
        evaluated = evaluated and not self._after_save.is_done(self._workdir, step)
        if (sampled or evaluated) and self._log is None:
            self.begin(step)
        if sampled:
            self.sample(step, state)
        if evaluated:
            self.after_save(step, state)

    def _grid_path(self, step):
        return self._workdir / "samples" / f"step_{step:08d}.png"

    def metrics(self, step: int, values: Mapping[str, float], stopped: int | None = None) -> None:
        """Appends a line to the log; `stopped` is the signal because of which there is one."""
        if self._log is not None:
            self._log.metrics(step, values, {} if stopped is None else {"stopped": stopped})

    def interrupted(self) -> dict[str, float]:
        """Returns what the terms of the updates were in the line that a signal left at the end of
        the log, if the run goes on from there: since the regular line before it."""
        return {} if self._log is None else self._log.interrupted

    def sample(self, step: int, state: GanState) -> None:
        """Draws the grid of fixed latents, and the curves; a full disk is a warning."""
        if self._log is None:
            return
        variables = generator_variables(state)
        grid = self._grid(step, variables)
        try:
            curves.curves(self._workdir / "metrics.jsonl", self._workdir / "curves.png")
            pictures.save_image(self._grid_path(step), grid)
            self._log.image(step, "samples", grid)
        except OSError as error:
            logging.warning("samples of step %d are lost: %s", step, error)
        self._put_up()

    def _grid(self, step: int, variables: Variables) -> np.ndarray:
        gan = gan_at(self._stages, step)
        drawn = functools.partial(draw, gan, variables, seed=self._seed, step=step)
        if self._rows is None:
            return pictures.grid(pictures.enlarged(drawn(self._schedule.num_samples)))
        return self._rows.sheet(drawn)

    def save(self, step: int, state: GanState) -> None:
        """Saves a checkpoint in the background."""
        if self._checkpointer is not None:
            check_replicas(step, state)
            if self._log is not None:
                self._put_up()  # first, so that a step at an address has its lines
            self._checkpointer.save(step, state)

    def after_save(self, step: int, state: GanState) -> None:
        """Does what is done with a saved state, once it is on disk; logs the numbers."""
        if self._after_save is None or self._log is None:
            return
        self.finish()
        values = self._after_save(self._workdir, state)
        try:
            self._log.scalars(step, values)
        except OSError as error:
            logging.warning("numbers of step %d are lost to the loggers: %s", step, error)
        self._put_up()
        self._keep_best()

    def _keep_best(self) -> None:
        if self._after_save is not None:
            steps = self._checkpointer.steps()
            self._checkpointer.protect(self._after_save.best(self._workdir, steps))

    def last_saved(self) -> int | None:
        """Returns the step of the last checkpoint, once it is on disk; None if there is none."""
        self.finish()
        return None if self._checkpointer is None else max(self._checkpointer.steps(), default=None)

    def end(self) -> None:
        """As `finish`, on all processes: none leaves while process 0 has something to do."""
        from_process_0(self.finish)

    def finish(self) -> None:
        """Waits until everything is on disk."""
        if self._checkpointer is not None:
            self._checkpointer.wait()
