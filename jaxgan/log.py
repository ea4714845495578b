"""What a run writes down: `metrics.jsonl`, the truth, and TensorBoard files beside it."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from absl import logging


def read(path: str | pathlib.Path) -> list[dict]:
    """Returns the lines of a `metrics.jsonl`; a last line torn by a kill is left out.

    Values that were not finite are None.
    """
    path = pathlib.Path(path)
    lines = path.read_text().splitlines() if path.exists() else []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                logging.warning("%s, line %d is not JSON: left out", path, number)
    return records


class Log:
    """Writes metrics and pictures of a run into its workdir.

    Lines after `step`, left by a run that was killed, are dropped: no step occurs twice.
    """

    def __init__(self, workdir: str | pathlib.Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        self._path = pathlib.Path(workdir) / "metrics.jsonl"
        kept = [line for line in read(self._path) if line["step"] <= step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, self._path)
        self._seconds = kept[-1]["seconds"] if kept else 0.0
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(self._path.parent / "tensorboard"), purge_step=step + 1)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a line; a full disk is a warning, since the training is worth more.

        `seconds` counts from the run's first start, pauses apart.
        """
        values = {**values, "seconds": round(self._seconds + values["seconds"], 3)}
        line = {"step": step} | {
            name: value if math.isfinite(value) else None for name, value in values.items()
        }
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self.scalars(step, values)
        except OSError as error:
            logging.warning("metrics of step %d are lost: %s", step, error)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds numbers to TensorBoard alone."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a uint8 image [H, W, C] to TensorBoard."""
        self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the files."""
        self._board.close()
        self._file.close()
