"""What a run writes down: `metrics.jsonl`, the truth, and what loggers show of it."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from absl import logging

from jaxgan import files
from jaxgan.training.loggers import TensorBoard, opened


class Log:
    """Writes metrics and pictures of a run into its workdir.

    Lines after `step`, left by a run that was killed, are dropped: no step occurs twice. Loggers
    that had them get them no second time, since a resumed run makes the same.

    Attributes:
      interrupted: the terms in the line of `step`, if it is there because of a signal alone.

    Args:
      workdir: of the run.
      step: after which the run begins or goes on.
      loggers: names in `LOGGERS`.
      settings: of the run, for loggers to show.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        step: int,
        loggers: Sequence[str] = ("tensorboard",),
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._path = pathlib.Path(workdir) / "metrics.jsonl"
        lines = files.read_json_lines(self._path)
        kept = [line for line in lines if line["step"] <= step]
        with files.whole(self._path) as file:
            file.writelines(json.dumps(line) + "\n" for line in kept)
        marked = kept[-1] if kept and kept[-1]["step"] == step and "stopped" in kept[-1] else {}
        self.interrupted = {
            name: math.nan if value is None else value
            for name, value in marked.items()
            if "/" in name
        }
        self._seconds = max((line.get("seconds") or 0.0 for line in kept), default=0.0)
        self._file = self._path.open("a")
        self._seen = lines[-1]["step"] if lines else -1
        self._loggers = opened(loggers, self._path.parent, step, settings)

    def metrics(
        self,
        step: int,
        values: Mapping[str, float],
        marks: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Appends a line; a full disk is a warning, since the training is worth more.

        `seconds` counts from the run's first start, pauses apart. `marks` are for the line alone.
        """
        values = {**values, "seconds": round(self._seconds + values["seconds"], 3)}
        line = {"step": step} | {
            name: value if math.isfinite(value) else None for name, value in values.items()
        }
        line |= marks
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self.scalars(step, values)
        except OSError as error:
            logging.warning("metrics of step %d are lost: %s", step, error)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Gives the finite ones of some numbers to the loggers alone."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for logger in self._of(step):
            logger.scalars(step, finite)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Gives a uint8 image [H, W, C] to the loggers."""
        for logger in self._of(step):
            logger.image(step, name, image)

    def close(self) -> None:
        """Closes the files."""
        for logger in self._loggers:
            logger.close()
        self._file.close()

    def _of(self, step):
        """The loggers that have not had a step; TensorBoard's files of it were made void."""
        return [x for x in self._loggers if step > self._seen or isinstance(x, TensorBoard)]
