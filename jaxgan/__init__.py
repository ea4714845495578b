"""Generative adversarial networks in JAX: pure functions, exact resume.

    import jaxgan

    pictures = jaxgan.load_data("folder", data_dir="PICTURES", image_size=64)
    run = jaxgan.train("wgan_gp", pictures, workdir="runs/mine", batch_size=64, steps=2000)
    jaxgan.save_grid("grid.png", run.sample(64, seed=1))

These names are promised; what else the modules hold may change.

Runs:
  load_data: loads a data set by name, or a folder of your own.
  train: trains a method on pictures, or goes on where a run stopped; returns a `Run`.
  open_run: opens a run of a script or of `train`.
  Run: draws, measures, and gives the method, its variables and its history as arrays.
  save_grid: writes pictures as one file.
  Options: how a run is trained, the keyword arguments of `train`.

Data:
  Dataset: pictures and labels, also of your own arrays.
  DataSpec: what a method may know of them: size, channels, labels.
  DATASETS: the names that `load_data` knows.

Methods:
  MODELS: the names that `train` knows; each is a module with a `Config` and `make`.
  Gan: a whole method: pure functions and numbers.
  noise_gan: makes a Gan from two flax modules.
  Update: one optimizer step of one player along a table of terms.
  View: one round of the game, all that a term may use.
  Fake: a generated batch.
  Scores: the discriminator's answer.
  Context: what a network call may know besides its inputs.
  Plan: what making a method may know of the run.
  Stage: a part of the training of a GAN that grows.
  GanState: all that training changes, and what a checkpoint holds.
  losses: the objectives' terms.
  penalties: gradient penalties.

Errors:
  UsageError: a setting that does not fit; the message says what to do.
  DataError: data that is missing, damaged or not what was asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxgan import losses, penalties
    from jaxgan.core import Context, Fake, Gan, GanState, Plan, Scores, Stage, Update, View
    from jaxgan.data import DATASETS, Dataset, DataSpec
    from jaxgan.data import load as load_data
    from jaxgan.errors import DataError, UsageError
    from jaxgan.models import MODELS
    from jaxgan.models.common import noise_gan
    from jaxgan.runs.run import Run, open_run, train
    from jaxgan.runs.train import Options
    from jaxgan.sampling.pictures import save_grid

_HOMES = {
    "load_data": "jaxgan.data:load",
    "train": "jaxgan.runs.run",
    "open_run": "jaxgan.runs.run",
    "Run": "jaxgan.runs.run",
    "save_grid": "jaxgan.sampling.pictures",
    "Options": "jaxgan.runs.train",
    "Dataset": "jaxgan.data",
    "DataSpec": "jaxgan.data",
    "DATASETS": "jaxgan.data",
    "MODELS": "jaxgan.models",
    "Gan": "jaxgan.core",
    "noise_gan": "jaxgan.models.common",
    "Update": "jaxgan.core",
    "View": "jaxgan.core",
    "Fake": "jaxgan.core",
    "Scores": "jaxgan.core",
    "Context": "jaxgan.core",
    "Plan": "jaxgan.core",
    "Stage": "jaxgan.core",
    "GanState": "jaxgan.core",
    "losses": "jaxgan.losses:",
    "penalties": "jaxgan.penalties:",
    "UsageError": "jaxgan.errors",
    "DataError": "jaxgan.errors",
}

__all__ = [
    "DATASETS",
    "MODELS",
    "Context",
    "DataError",
    "DataSpec",
    "Dataset",
    "Fake",
    "Gan",
    "GanState",
    "Options",
    "Plan",
    "Run",
    "Scores",
    "Stage",
    "Update",
    "UsageError",
    "View",
    "load_data",
    "losses",
    "noise_gan",
    "open_run",
    "penalties",
    "save_grid",
    "train",
]


def __getattr__(name: str) -> Any:
    # When a name is first used, so that importing jaxgan takes no time and starts nothing.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, colon, other = _HOMES[name].partition(":")
    module = importlib.import_module(home)
    found = module if colon and not other else getattr(module, other or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
