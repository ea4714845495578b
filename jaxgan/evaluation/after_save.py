"""Evaluations while a run is trained: what its loop does after a save."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from absl import logging

from jaxgan.core import GanState
from jaxgan.evaluation import history, report
from jaxgan.evaluation.findings import Judge


@dataclasses.dataclass
class EvaluateSaved:
    """Measures and judges saved states, and says which is the best by the first metric.

    It is an `AfterSave` of `jaxgan.training.record`.

    Args:
      judge: with what measures.
      settings: what `config.json` holds.
      say: is told the findings in words where a verdict has changed.
    """

    judge: Judge
    settings: Mapping[str, Any]
    say: Callable[[str], object]
    _verdicts: dict[str, str] = dataclasses.field(default_factory=dict)

    def __call__(self, workdir: pathlib.Path, state: GanState) -> dict[str, float]:
        """Adds a line to the run's `evaluation.jsonl`, renews its `report.html`, and returns the
        numbers for the log.

        A disk that is full is a warning, since the training is worth more.
        """
        evaluation = self.judge.evaluator(state)
        entry = evaluation.entry
        try:
            history.append(workdir, entry)
            found = report.write_of(workdir, self.settings, self.judge, evaluation, state)
        except OSError as error:
            logging.warning("the evaluation of step %d is lost: %s", entry.step, error)
        else:
            changed = [f for f in found if self._verdicts.get(f.name) != f.verdict]
            self._verdicts = {finding.name: finding.verdict for finding in found}
            if changed:
                lines = [finding.line for finding in changed]
                self.say("\n".join([f"{workdir.name}, evaluated at step {entry.step:,}:", *lines]))
        return {f"evaluation/{name}": measured.value for name, measured in entry.metrics.items()}

    def is_done(self, workdir: pathlib.Path, step: int) -> bool:
        """Returns whether a step was measured in this way already."""
        there = [entry for entry in history.read(workdir) if entry.step == step]
        return bool(there and history.alike(there, self.judge.evaluator.protocol()))

    def best(self, workdir: pathlib.Path, steps: Collection[int]) -> int | None:
        """Returns the best of some steps, as far as they were measured in this way."""
        there = [entry for entry in history.read(workdir) if entry.step in steps]
        alike = history.alike(there, self.judge.evaluator.protocol())
        return next((entry.step for entry in history.ranked(alike)), None)
