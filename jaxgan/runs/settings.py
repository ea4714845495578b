"""A run as its `config.json` describes it: method, pictures, checkpoint, places."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax

from jaxgan import addresses, data
from jaxgan.augment import AUGMENTATIONS
from jaxgan.core import Gan, Plan
from jaxgan.data import Dataset, DataSpec
from jaxgan.errors import DataError, UsageError, unknown
from jaxgan.evaluation import history
from jaxgan.evaluation.protocol import Protocol
from jaxgan.models import MODELS
from jaxgan.precision import PRECISIONS, with_precision
from jaxgan.stages import Stages, as_stages, wrapped
from jaxgan.training import workdir as workdirs

Model = str | Gan | Stages | Callable[[Plan], Gan | Stages]
"""The name of a model, or a method of your own: a function of the plan if it depends on that."""

OWN = "your own"
"""What a `config.json` calls such a method."""


def named(name: str) -> ModuleType:
    """Returns the module of a model. Raises UsageError for an unknown one."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]


def check_augmentation(name: str) -> None:
    """Raises UsageError for an unknown augmentation."""
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)


def check_few_labels(model: Model) -> None:
    """Raises UsageError for a model of jaxgan's own that does not learn from few labels."""
    able = [name for name in MODELS if getattr(MODELS[name].Config, "few_labels", False)]
    if isinstance(model, str) and model not in able:
        raise UsageError(
            f"{model} does not learn from few labels; leave --labeled out, or try "
            f"{' or '.join(f'--model={name}' for name in able)}"
        )


def make_stages(
    model: Model, config: Any, spec: DataSpec, plan: Plan, *, precision: str, augment: str
) -> Stages:
    """Returns a method as it is trained, in a precision and with augmentation.

    Args:
      model: the name of one, or one of your own.
      config: the Config of a model that has a name.
      spec: the data's.
      plan: the run's.
      precision: one of `PRECISIONS`.
      augment: one of `AUGMENTATIONS`.

    Raises:
      UsageError: if they do not go together.
    """
    check_augmentation(augment)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)

    def wrap(gan: Gan) -> Gan:
        return AUGMENTATIONS[augment](with_precision(gan, precision))

    if isinstance(model, str):
        made = named(model).make(spec, config, plan)
    else:
        made = model if isinstance(model, tuple) else model(plan)
    return wrapped(as_stages(made, spec.size, plan.batch_size), wrap)


def stages_of(settings: Mapping[str, Any], gan: Model | None = None) -> Stages:
    """Returns the method that a run's `config.json` describes.

    Args:
      settings: what it holds.
      gan: the method, if the run trained one of your own.

    Raises:
      UsageError: if it is not a training's, or another version's, or a method's of your own that
        was not given.
    """
    if not {"model", "config", "data", "batch_size", "steps"} <= settings.keys():
        raise UsageError("this config.json is not of a training; name the --workdir of one")
    model, config = settings["model"], None
    if model == OWN:
        if gan is None:
            raise UsageError(
                "this run trained a GAN that is not among jaxgan's models; open it from Python: "
                "jaxgan.open_run(DIR, gan=...)"
            )
        model = gan
    else:
        config = _config(settings)
    return make_stages(
        model,
        config,
        spec_of(settings),
        Plan(settings["batch_size"], settings["steps"]),
        precision=settings.get("precision", "float32"),
        augment=settings.get("augment", "none"),
    )


def _config(settings):
    config = named(settings["model"]).Config
    strange = settings["config"].keys() - {field.name for field in dataclasses.fields(config)}
    if strange:
        raise UsageError(
            f"{settings['model']} has no {', '.join(sorted(strange))} in this version of jaxgan; "
            f"use that of the training, {settings.get('versions', {}).get('jaxgan', 'unknown')}"
        )
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings["config"].items()
    }
    for name, default in vars(config()).items():
        if name in fields and not _is_like(fields[name], default):
            raise UsageError(
                f"config.json is damaged ({name} is {fields[name]!r:.40}, and usually "
                f"{default!r}); restore it from a backup"
            )
    return config(**fields)


def _is_like(value: Any, usual: Any) -> bool:
    """Whether a field of a Config may have a value in the place of its usual one."""
    if value is None or usual is None:
        return True
    kinds = (int, float) if type(usual) is float else type(usual)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(usual, bool)


def spec_of(settings: Mapping[str, Any]) -> DataSpec:
    """Returns the description of the data that a run's `config.json` holds."""
    spec = settings["data"].get("spec", {})
    kinds = (str, int, int, str | None, list | tuple, bool)
    if [*spec] != [*DataSpec._fields] or not all(map(isinstance, spec.values(), kinds)):
        raise UsageError(
            "this config.json does not say what the pictures are; restore it from a backup"
        )
    return DataSpec(**{**spec, "label_names": tuple(spec["label_names"])})


def reading(workdir: pathlib.Path) -> int:
    """Returns how a run's pictures are read: as they were when it began; see `data.load`."""
    if not (workdir / "config.json").exists():
        return 2
    return workdirs.read(workdir).get("data", {}).get("reading", 1)


def pictures_of(
    settings: Mapping[str, Any],
    data_dir: str | pathlib.Path | None = None,
    tags: str | pathlib.Path | None = None,
    split: str = "train",
    cache_dir: str | pathlib.Path | None = None,
) -> Dataset:
    """Returns the pictures of a run, or its held-out ones.

    Args:
      settings: the run's `config.json`.
      data_dir: where the pictures are now; None for where they were.
      tags: where their labels are now; None for where they were.
      split: "train" or "holdout".
      cache_dir: where prepared pictures are kept.

    Raises:
      DataError: if they are not there.
      UsageError: if they are others than those of the training.
    """
    about = settings["data"]
    spec = spec_of(settings)
    if about.get("given"):
        raise DataError(
            f"the pictures of {spec.name!r} were given from Python, not loaded by name; give them "
            "again: jaxgan.open_run(DIR).evaluate(pictures=...)"
        )
    dataset = data.load(
        settings["dataset"],
        data_dir=data_dir or about.get("data_dir"),
        image_size=spec.size,
        split=split,
        holdout=about.get("holdout", 0.0),
        skip_corrupt=about.get("skip_corrupt", False),
        num_examples=about.get("num_examples") if split == "train" or spec.synthetic else None,
        seed=about.get("seed", 0),
        tags=tags or about.get("tags"),
        label_kind=about.get("label_kind"),
        unlabeled=about.get("unlabeled", "refuse"),
        reading=about.get("reading", 1),
        max_pixels=about.get("max_pixels", data.EARLIER_MAX_PIXELS),
        cache_dir=cache_dir,
        **({"channels": about.get("channels")} if split == "train" else data.as_in(spec)),
    )
    if split == "train":
        check_pictures(settings, dataset)
        dataset = dataclasses.replace(dataset, labeled=settings.get("labeled"))
    return dataset


def held_out_of(
    settings: Mapping[str, Any],
    data_dir: str | pathlib.Path | None = None,
    tags: str | pathlib.Path | None = None,
    cache_dir: str | pathlib.Path | None = None,
    *,
    say: Callable[[str], object],
) -> Dataset | None:
    """Returns a run's held-out pictures; tells why there are none, and returns None."""
    try:
        return pictures_of(settings, data_dir, tags, "holdout", cache_dir)
    except DataError as error:
        say(f"note: no held-out pictures to compare with: {error}")
        return None


def check_pictures(settings: Mapping[str, Any], dataset: Dataset) -> None:
    """Raises UsageError if the pictures are others than those of the training."""
    there = settings["data"].get("fingerprint", "unknown")
    if dataset.fingerprint != there:
        raise UsageError(
            f"the pictures of {settings['dataset']!r} are not those of the training (fingerprint "
            f"{dataset.fingerprint[:8]}, then {there[:8]}); name theirs by --data_dir, and their "
            "labels by --tags"
        )


def about_pictures(dataset: Dataset, num_samples: int) -> dict[str, Any]:
    """Returns what a `config.json` says of the pictures, and of the `num_samples` of its grids."""
    asked = dataset.request
    about = {
        "spec": dataset.spec._asdict(),
        "examples": len(dataset),
        "fingerprint": dataset.fingerprint,
        "conditions": _conditions(dataset, num_samples),
    }
    if asked is None:
        return about | {"given": True, "holdout": 0.0}
    return about | {
        "data_dir": asked.address or (asked.data_dir and os.path.abspath(asked.data_dir)),
        "holdout": asked.holdout,
        "tags": None if asked.tags is None else str(asked.tags),
        "label_kind": asked.label_kind,
        "unlabeled": asked.unlabeled,
        "channels": asked.channels,
        "reading": asked.reading,
        "max_pixels": asked.max_pixels,
        "skip_corrupt": asked.skip_corrupt,
        "num_examples": asked.num_examples,
        "seed": asked.seed,
    }


def _conditions(dataset, num_samples):
    """The names of what the sample grids of a conditional model show."""
    if dataset.labels is None:
        return []
    shown = data.conditions_to_show(dataset, num_samples)
    names = dataset.spec.label_names
    return [[name for name, on in zip(names, row, strict=True) if on] for row in shown]


def chosen_step(
    workdir: str | pathlib.Path,
    checkpoint: str,
    steps: Sequence[int],
    *,
    protocol: Protocol | None = None,
    metric: str | None = None,
) -> int | None:
    """Returns the step that --checkpoint means: a number, "best" of those on disk, or "last": None.

    Args:
      workdir: of the run.
      checkpoint: the flag.
      steps: those on disk.
      protocol: the best of what was measured by it, if any was; else, or for None, by the protocol
        that measured the most.
      metric: the number's name; None for the first.

    Raises:
      UsageError: for another word, or if nothing was evaluated.
    """
    if checkpoint == "last":
        return None
    if checkpoint == "best":
        entries = history.read(workdir)
        named = [] if protocol is None else history.alike(entries, protocol)
        entries = [entry for entry in named or history.mostly(entries) if entry.step in steps]
        if not entries:
            raise UsageError(
                f"{addresses.shown(workdir)} has not been evaluated; run jaxgan evaluate "
                "--checkpoint=all"
            )
        return history.best(entries, metric).step
    if not checkpoint.isdecimal():
        raise UsageError(f"--checkpoint={checkpoint} must be last, best or a step")
    return int(checkpoint)


def versions() -> dict[str, str | None]:
    """Returns the versions of what the numbers depend on."""
    names = ("jaxgan", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the checkout that this code is run from; None for an installed package."""
    checkout = pathlib.Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        asked = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # no git, or a repository that belongs to somebody else


def default_workdir(model: str, dataset: str) -> pathlib.Path:
    """Returns where a run goes that names no workdir."""
    return pathlib.Path("runs") / _as_file_name(f"{model}_{dataset}")


def classifier_path(spec: DataSpec, cache_dir: str | pathlib.Path | None = None) -> pathlib.Path:
    """Returns where the classifier of a data set is put, and looked for, if nothing is said."""
    name = f"{_as_file_name(spec.name)}_{spec.size}.npz"
    return pathlib.Path(cache_dir or data.default_cache_dir()) / "classifiers" / name


def _as_file_name(name: str) -> str:
    return name.replace(":", "_").replace("/", "_")
