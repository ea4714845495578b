"""Where a run's numbers and pictures are shown beside its own `metrics.jsonl`."""

from __future__ import annotations

import importlib.util
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxgan.errors import UsageError, unknown

LOGGERS = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""Name -> the module that it needs; but for TensorBoard's an extra of that name brings it."""


class Logger(Protocol):
    """Takes what `metrics.jsonl` gets. Numbers are finite, steps ascend."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the numbers of a step."""

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a uint8 image [H, W, C]."""

    def close(self) -> None:
        """Writes what is waiting."""


def check(names: Sequence[str]) -> None:
    """Raises UsageError for an unknown logger, or one that is not installed."""
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)
        if importlib.util.find_spec(LOGGERS[name]) is None:
            raise UsageError(
                f"--logger={name} is not installed: pip install 'jaxgan[{name}]', or leave it out"
            )


def opened(
    names: Sequence[str], workdir: pathlib.Path, step: int, settings: Mapping[str, Any]
) -> list[Logger]:
    """Returns the loggers of a run that begins or goes on after `step` steps."""
    kinds: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": Wandb, "mlflow": MLflow}
    return [kinds[name](workdir, step, settings) for name in names]


class TensorBoard:
    """Event files in the workdir's `tensorboard/`; those of steps after `step` are void."""

    def __init__(self, workdir: pathlib.Path, step: int, settings: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of Weights & Biases, of the project in WANDB_PROJECT or "jaxgan", and on with it."""

    def __init__(self, workdir: pathlib.Path, step: int, settings: Mapping[str, Any]) -> None:
        import wandb

        self._kept = workdir / "wandb_run_id"
        known = self._kept.exists()
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jaxgan"),
            name=workdir.name,
            dir=workdir,
            id=self._kept.read_text() if known else None,
            resume="allow" if known else None,
            config=dict(settings),
            settings=wandb.Settings(silent=True),
        )
        self._kept.write_text(self._run.id)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        import wandb

        self._run.log({name: wandb.Image(image)}, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow's experiment "jaxgan", where MLFLOW_TRACKING_URI says, and on with it."""

    def __init__(self, workdir: pathlib.Path, step: int, settings: Mapping[str, Any]) -> None:
        import mlflow

        client, kept = mlflow.MlflowClient(), workdir / "mlflow_run_id"
        if not kept.exists():
            experiment = mlflow.set_experiment("jaxgan").experiment_id
            run = client.create_run(experiment, run_name=workdir.name)
            client.log_dict(run.info.run_id, dict(settings), "config.json")
            kept.write_text(run.info.run_id)
        self._client, self._id = client, kept.read_text()
        client.update_run(self._id, status="RUNNING")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        gray = image.shape[-1] == 1
        self._client.log_image(
            self._id, image[..., 0] if gray else image, f"{name}/step_{step:08d}.png"
        )

    def close(self) -> None:
        self._client.set_terminated(self._id)
