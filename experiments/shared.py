"""Flags and habits that the scripts share."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import sys
from collections.abc import Iterator, Sequence

import jax
from absl import flags, logging

from jaxgan import data, evaluations, host, parallel
from jaxgan.augment import AUGMENTATIONS
from jaxgan.broadcast import Process0Error
from jaxgan.checkpoint import CheckpointError
from jaxgan.config import override
from jaxgan.core import Gan, Plan
from jaxgan.data import Dataset, DataSpec
from jaxgan.data.errors import DataError
from jaxgan.errors import UsageError, unknown
from jaxgan.models import MODELS
from jaxgan.precision import with_precision
from jaxgan.stages import Made, wrapped
from jaxgan.train import NonFiniteError

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "compilation_cache",
    os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "jaxgan", "compiled"
    ),
    "Where compiled programs are kept, so that the next start is quicker; empty for nowhere.",
)
flags.DEFINE_string(
    "coordinator",
    None,
    "host:port of process 0, in a run over several machines. On Slurm, GKE and Cloud TPU it is "
    "found without being named: give --distributed.",
)
flags.DEFINE_integer("num_processes", None, "How many processes take part.", lower_bound=1)
flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)
flags.DEFINE_bool("distributed", False, "Join the run of the cluster's other machines.")


def start() -> None:
    """Applies the flags about the machine; comes before anything that asks for a device."""
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    if FLAGS.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", FLAGS.compilation_cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    host.keep_freed_memory()
    if FLAGS.distributed or FLAGS.coordinator:
        parallel.initialize(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)


def refuse_arguments(argv: Sequence[str]) -> None:
    """Raises UsageError if there is more on the command line than flags."""
    if len(argv) > 1:
        raise UsageError(f"{argv[1]!r} is not a flag; flags look like --name=value, see --help")


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turns the errors that the user can mend into one line and exit status 1."""
    try:
        yield
    except (UsageError, DataError, CheckpointError, NonFiniteError, Process0Error) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def model(name: str):
    """Returns the module of a model."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]


def augmentation(name: str):
    """Returns the wrapper of that name."""
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]


def make_gan(settings) -> Made:
    """Returns the Gan, or the stages, that a run's `config.json` describes."""
    if not {"model", "config", "data", "batch_size", "steps"} <= settings.keys():
        raise UsageError("this config.json is not of a training; name the --workdir of one")
    module = model(settings["model"])
    strange = settings["config"].keys() - {f.name for f in dataclasses.fields(module.Config)}
    if strange:
        raise UsageError(
            f"{settings['model']} has no {', '.join(sorted(strange))} in this version of jaxgan; "
            f"use that of the training, {settings.get('versions', {}).get('jaxgan', 'unknown')}"
        )
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings["config"].items()
    }
    plan = Plan(settings["batch_size"], settings["steps"])
    made = module.make(data_spec(settings), module.Config(**fields), plan)
    return dressed(made, settings.get("precision", "float32"), settings.get("augment", "none"))


def dressed(made: Made, precision: str, augment: str) -> Made:
    """Returns what was made, to be computed in a precision, with D's pictures augmented."""

    def dress(gan: Gan) -> Gan:
        return augmentation(augment)(with_precision(gan, precision))

    return wrapped(made, dress)


def data_spec(settings) -> DataSpec:
    """Returns the description of the data that a run's `config.json` holds."""
    spec = settings["data"]["spec"]
    return DataSpec(**{**spec, "label_names": tuple(spec["label_names"])})


def load_again(settings, data_dir: str | None, tags: str | None, split: str = "train") -> Dataset:
    """Returns the pictures of a run, or its held-out ones.

    Raises:
      DataError: if they are not there.
      UsageError: if they are others than those of the training.
    """
    about = settings["data"]
    spec = data_spec(settings)
    dataset = data.load(
        settings["dataset"],
        data_dir=data_dir,
        image_size=spec.size,
        split=split,
        holdout=about["holdout"],
        skip_corrupt=about.get("skip_corrupt", False),
        num_examples=about.get("num_examples") if split == "train" or spec.synthetic else None,
        labels=tags or about.get("tags"),
    )
    if split == "train" and dataset.fingerprint != about["fingerprint"]:
        raise UsageError(
            f"the pictures of {settings['dataset']!r} are not those of the training (fingerprint "
            f"{dataset.fingerprint[:8]}, then {about['fingerprint'][:8]}); name theirs by "
            "--data_dir, and their labels by --tags"
        )
    return dataset


def chosen_step(workdir: str, checkpoint: str, there: Sequence[int]) -> int | None:
    """Returns the step that is meant by a number, "best" (of those there) or "last": None."""
    if checkpoint == "last":
        return None
    if checkpoint == "best":
        entries = [entry for entry in evaluations.read(workdir) if entry.step in there]
        if not entries:
            raise UsageError(f"{workdir} has not been evaluated; run evaluate.py --checkpoint=all")
        return evaluations.best(entries, next(iter(entries[-1].metrics))).step
    if not checkpoint.isdecimal():
        raise UsageError(f"--checkpoint={checkpoint} must be last, best or a step")
    return int(checkpoint)


def make_config(name: str, assignments: list[str]):
    """Returns a model's Config with `field=value` assignments applied."""
    return override(model(name).Config(), assignments)


def versions() -> dict[str, str]:
    """Returns the versions of what the numbers depend on."""
    names = ("jaxgan", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }


def default_workdir(model: str, dataset: str) -> pathlib.Path:
    """Returns where a run goes that names no workdir."""
    return pathlib.Path("runs") / f"{model}_{dataset}".replace(":", "_").replace("/", "_")


def classifier_path(spec: DataSpec) -> pathlib.Path:
    """Returns where train_classifier.py puts the classifier of a data set if not told otherwise."""
    name = spec.name.replace(":", "_").replace("/", "_")
    return data.default_cache_dir() / "classifiers" / f"{name}_{spec.size}.npz"
