"""Trains a method on pictures, and writes down all that is needed to go on, draw and measure."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxgan import bars, devices
from jaxgan.core import GanState, Plan
from jaxgan.data import Dataset, default_cache_dir, with_few_labels
from jaxgan.errors import UsageError, unknown
from jaxgan.evaluation.after_save import EvaluateSaved
from jaxgan.evaluation.findings import Judge
from jaxgan.precision import multiplying
from jaxgan.processes import from_process_0
from jaxgan.runs import readers
from jaxgan.runs import settings as described
from jaxgan.runs.settings import OWN, Model
from jaxgan.stages import Stages, images_drawn, saved_stage, steps_drawing
from jaxgan.training import finetune, loggers, loop
from jaxgan.training import workdir as workdirs
from jaxgan.training.record import AfterSave, Schedule

SCHEDULES = ("host", "device")


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is trained; the arguments of `jaxgan.train`, and flags of the same names."""

    batch_size: int = 64
    """Pictures a batch, over all devices; stages of a GAN that grows have their own."""
    steps: int = 100_000
    """Iterations, each one step of the generator for most methods."""
    epochs: float | None = None
    """In place of steps: how often each picture is seen."""
    seed: int = 0
    """Of weights, noise and the order of the pictures."""
    flip: bool = False
    """Whether to mirror pictures at random."""
    precision: str = "float32"
    """Of the networks, "float32" or "bfloat16"; weights, statistics and losses keep 32 bits."""
    matmul_precision: str = "default"
    """How float32 is multiplied: "default" as the device does, "high" or "highest"."""
    deterministic: bool = False
    """Whether a GPU computes the same bits every time, and is slower. From Python the environment
    must say so, too, before JAX starts."""
    augment: str = "none"
    """What the discriminator's pictures go through: "none", "diffaug" or "ada"."""
    gradient_accumulation: int = 1
    """Equal parts in which a batch is looked at, to save memory."""
    schedule: str | None = None
    """Who runs the iterations, the "host" one by one or the "device" in blocks; None for the device
    on GPUs and TPUs, and for what a run began with."""
    labeled: int | None = None
    """Of how many pictures the labels are shown, as many of each class; None for all."""
    init_from: str | None = None
    """A workdir with whose weights a new run begins."""
    log_every: int = 100
    """Steps between two lines of metrics."""
    sample_every: int = 1000
    """Steps between two sample grids."""
    checkpoint_every: int = 1000
    """Steps between two saves."""
    keep: int = 3
    """How many of the last checkpoints are kept."""
    keep_every: int | None = None
    """Checkpoints of steps divisible by this are kept for good."""
    num_samples: int = 64
    """Pictures in a sample grid."""
    evaluate_every: int | None = None
    """Steps between two evaluations; None for none."""
    evaluate_images: int = 2000
    """Pictures drawn for one of them."""
    metrics: Sequence[str] | None = None
    """What is measured; the best checkpoint by the first one stays."""
    features: str | None = None
    """What reads the pictures; see `readers.network`."""
    logger: Sequence[str] = ("tensorboard",)
    """What shows the log beside `metrics.jsonl`: "tensorboard", "wandb", "mlflow"."""
    cache_dir: str | pathlib.Path | None = None
    """Where readings of the real pictures are kept."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Options:
        """Returns options by name. Raises UsageError for an unknown one."""
        names = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in names:
                raise unknown("option", name, names)
        return cls(**options)


class Prepared(NamedTuple):
    """A training that can begin."""

    model: Model
    stages: Stages
    dataset: Dataset
    workdir: pathlib.Path
    steps: int
    on_device: bool
    options: Options
    settings: Mapping[str, Any]  # what `config.json` will hold


def prepare(
    model: Model,
    dataset: Dataset,
    options: Options,
    *,
    workdir: str | pathlib.Path,
    config: Any = None,
) -> Prepared:
    """Returns the training that the options describe; writes nothing.

    Args:
      model: the name of a method, or one of your own.
      dataset: the pictures.
      options: how it is trained.
      workdir: where the run is kept, a path or an address of fsspec.
      config: the Config of a method that has a name; None for its usual one.

    Raises:
      UsageError: if they do not go together, or other processes of the run were asked otherwise.
    """
    workdir = workdirs.to_write(workdir)
    if isinstance(model, str) and config is None:
        config = described.named(model).Config()
    make = functools.partial(
        described.make_stages,
        model,
        config,
        dataset.spec,
        precision=options.precision,
        augment=options.augment,
    )
    if options.labeled is not None:
        described.check_few_labels(model)
        dataset = with_few_labels(dataset, options.labeled)
    devices.check_divisible(options.batch_size, options.gradient_accumulation)
    multiplying(options.matmul_precision)
    if options.deterministic:
        devices.check_deterministic()
    readers.metric_names(options.metrics)
    loggers.check(options.logger)
    steps = _steps(make, options, len(dataset))
    schedule = from_process_0(lambda: _schedule(options.schedule, workdir))
    settings = {
        "model": model if isinstance(model, str) else OWN,
        "config": dataclasses.asdict(config) if isinstance(model, str) else {},
        "augment": options.augment,
        "dataset": dataset.spec.name if dataset.request is None else dataset.request.name,
        "data": described.about_pictures(dataset, options.num_samples) | {"flip": options.flip},
        "labeled": options.labeled,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "matmul_precision": options.matmul_precision,
        "deterministic": options.deterministic,
        "gradient_accumulation": options.gradient_accumulation,
        "schedule": schedule,
        "seed": options.seed,
        "init_from": options.init_from,
        "steps": steps,
        "log_every": options.log_every,
        "sample_every": options.sample_every,
        "checkpoint_every": options.checkpoint_every,
        "keep": options.keep,
        "keep_every": options.keep_every,
        "num_samples": options.num_samples,
        "evaluate_every": options.evaluate_every,
        "logger": list(options.logger),
        "versions": described.versions(),
        "command": shlex.join(sys.argv),
    }
    workdirs.check_alike(settings)
    stages = make(Plan(options.batch_size, steps))
    return Prepared(model, stages, dataset, workdir, steps, schedule == "device", options, settings)


def begin(
    prepared: Prepared,
    *,
    begins: Callable[[GanState], None] | None = None,
    progress: bool = True,
) -> GanState:
    """Trains; goes on from the workdir's last checkpoint.

    Args:
      prepared: what `prepare` returned.
      begins: is called with the state from which the run begins or goes on.
      progress: whether to draw a progress bar, and to say what is waited for.

    Raises:
      UsageError, CheckpointError, NonFiniteError, Stopped: as `loop.train` does.
    """
    _, stages, dataset, workdir, steps, on_device, options, settings = prepared
    start = inputs = None
    if stages[0].gan.targets is not None:
        say = print if progress and devices.is_main() else _unsaid
        inputs = readers.inputs_of(dataset, say=say).images
    if options.init_from:
        start = functools.partial(finetune.start_from, options.init_from, settings=settings)
    after_save = None
    if options.evaluate_every:
        after_save = evaluation(stages, dataset, options, settings, progress)
    with multiplying(options.matmul_precision):
        return loop.train(
            stages,
            dataset,
            batch_size=options.batch_size,
            steps=steps,
            seed=options.seed,
            flip=options.flip,
            micro_batches=options.gradient_accumulation,
            on_device=on_device,
            workdir=workdir,
            schedule=schedule_of(options),
            settings=settings,
            start=start,
            after_save=after_save,
            begins=begins,
            inputs=inputs,
            progress=progress,
        )


def schedule_of(options: Options) -> Schedule:
    """Returns how often something is written."""
    return Schedule(
        options.log_every,
        options.sample_every,
        options.checkpoint_every,
        options.keep,
        options.keep_every,
        options.num_samples,
        options.evaluate_every,
    )


def evaluation(
    stages: Stages,
    dataset: Dataset,
    options: Options,
    settings: Mapping[str, Any],
    progress: bool = True,
) -> AfterSave:
    """Returns what measures a run after its saves. Raises UsageError if nothing can be measured."""
    cache_dir = options.cache_dir or default_cache_dir()
    say = bars.say if progress and devices.is_main() else _unsaid
    evaluator = readers.evaluator(
        stages,
        dataset,
        options.evaluate_images,
        metrics=options.metrics,
        features=options.features,
        cache_dir=cache_dir,
        say=say,
    )
    if len(evaluator.obstacles()) == len(evaluator.metrics):
        raise UsageError(
            "--evaluate_every has nothing to measure; raise --evaluate_images or drop it"
        )
    held_out = described.held_out_of(settings, cache_dir=cache_dir, say=say)
    judge = Judge(evaluator, held_out, pathlib.Path(cache_dir))
    return EvaluateSaved(judge, settings, say)


def left_out(stages: Stages, steps: int) -> str | None:
    """Returns a sentence if the steps end before the last stage begins."""
    last, reached = stages[-1], stages[saved_stage(stages, steps)]
    if reached is last:
        return None
    return f"{steps} steps end at {reached.size} px; {last.size} px begin at step {last.first}"


def _unsaid(text: str) -> None:
    pass


def _steps(make, options, num_examples):
    """The number of steps; epochs count the pictures that the first update draws."""
    if options.epochs is None:
        return options.steps
    if not math.isfinite(options.epochs):
        raise UsageError(f"--epochs={options.epochs} must be a number of epochs, at least 0")
    stages = make(Plan(options.batch_size, 0))
    steps = steps_drawing(stages, options.epochs * num_examples)
    if steps == 0 < options.epochs:
        per_step = images_drawn(stages, 1)
        raise UsageError(
            f"--epochs={options.epochs} of {num_examples} pictures is less than one step, which "
            f"draws {per_step}; try --epochs={math.ceil(per_step / num_examples)}"
        )
    return steps


def _schedule(asked, workdir):
    """The schedule that is asked for, or else that of the run, or the devices' own."""
    if asked is not None:
        if asked not in SCHEDULES:
            raise unknown("schedule", asked, SCHEDULES)
        return asked
    if (workdir / "config.json").exists():
        return workdirs.read(workdir).get("schedule", "host")
    return "host" if jax.devices()[0].platform == "cpu" else "device"
