"""Evaluations while a run is trained: what its loop does after a save."""

from __future__ import annotations

import pathlib
from collections.abc import Collection
from typing import NamedTuple

from absl import logging

from jaxgan.core import GanState
from jaxgan.evaluation import history
from jaxgan.evaluation.evaluator import Evaluator


class EvaluateSaved(NamedTuple):
    """Measures saved states, and says which is the best by the first metric.

    It is an `AfterSave` of `jaxgan.training.record`.
    """

    evaluator: Evaluator

    def __call__(self, workdir: pathlib.Path, state: GanState) -> dict[str, float]:
        """Adds a line to the run's `evaluation.jsonl` and returns its numbers for the log.

        A disk that is full is a warning, since the training is worth more.
        """
        entry = self.evaluator(state).entry
        try:
            history.append(workdir, entry)
        except OSError as error:
            logging.warning("the evaluation of step %d is lost: %s", entry.step, error)
        return {f"evaluation/{name}": measured.value for name, measured in entry.metrics.items()}

    def best(self, workdir: pathlib.Path, steps: Collection[int]) -> int | None:
        """Returns the best of some steps, as far as they were measured in this way."""
        there = [entry for entry in history.read(workdir) if entry.step in steps]
        alike = history.alike(there, self.evaluator.protocol())
        return next((entry.step for entry in history.ranked(alike)), None)
