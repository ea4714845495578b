"""Trains a GAN, or goes on with a run that was interrupted.

python experiments/train.py --model=wgan_gp --dataset=folder --data_dir=PICTURES --workdir=DIR
python experiments/train.py --flagfile=experiments/recipes/anime_dcgan.cfg --data_dir=DIR

The same command again resumes, exactly. Fields of a model's Config are set by --set field=value.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import shlex
import sys
from collections.abc import Sequence

import feature_flags
import metric_flags
import shared
from absl import app, flags

from jaxgan import data, finetune, parallel, summary
from jaxgan.augment import AUGMENTATIONS
from jaxgan.core import Plan
from jaxgan.errors import UsageError
from jaxgan.evaluate import Evaluator, labels_as_in, read_reference
from jaxgan.models import MODELS
from jaxgan.precision import PRECISIONS
from jaxgan.record import Schedule
from jaxgan.stages import as_stages, gan_at, holding, images_drawn, steps_drawing
from jaxgan.train import train

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(shared)
flags.adopt_module_key_flags(metric_flags)
flags.adopt_module_key_flags(feature_flags)

flags.DEFINE_string("model", "wgan_gp", f"One of {', '.join(MODELS)}.")
flags.DEFINE_multi_string(
    "set", [], "field=value of the model's Config; an unknown field lists the valid ones."
)
flags.DEFINE_string("dataset", "shapes", f"One of {', '.join(data.DATASETS)}.")
flags.DEFINE_string(
    "data_dir",
    None,
    "Where the pictures are. Default: $JAXGAN_DATA, else a folder in your cache.",
)
flags.DEFINE_string("workdir", None, "Where the run is kept. Default: runs/MODEL_DATASET.")
flags.DEFINE_integer("image_size", None, "Side in pixels. Default: the data set's own.")
flags.DEFINE_integer(
    "num_examples",
    None,
    "Pictures that a synthetic set draws, or the first of another.",
    lower_bound=1,
)
flags.DEFINE_float("holdout", 0.0, "The part of the pictures that is kept from training, [0, 1).")
flags.DEFINE_string(
    "tags",
    None,
    "Labels of --dataset=folder: 'folders' for a class per folder, or a .csv or .json of tags.",
)
flags.DEFINE_bool("flip", False, "Mirror pictures at random.")
flags.DEFINE_string(
    "augment",
    "none",
    f"What the discriminator's pictures go through, one of {', '.join(AUGMENTATIONS)}, for data of "
    "a few thousand pictures or less. diffaug changes all of them alike strongly; ada adapts a "
    "probability to how far the discriminator overfits, which it reads off the sign of the scores: "
    "not for Wasserstein's critics.",
)
flags.DEFINE_bool("skip_corrupt", False, "Leave out pictures that cannot be read.")
flags.DEFINE_integer("steps", 100_000, "Steps of the generator.", lower_bound=0)
flags.DEFINE_float(
    "epochs", None, "Instead of --steps: how often each picture is seen.", lower_bound=0
)
flags.DEFINE_integer("batch_size", 64, "Pictures a batch, over all devices.", lower_bound=1)
flags.DEFINE_integer(
    "seed",
    0,
    "Of weights, noise and the order of the pictures.",
    lower_bound=0,
    upper_bound=2**32 - 1,
)
flags.DEFINE_enum(
    "precision",
    "float32",
    PRECISIONS,
    "Of the networks; weights, statistics and losses keep 32 bits.",
)
flags.DEFINE_integer(
    "gradient_accumulation",
    1,
    "Equal parts in which a batch is looked at, their gradients averaged, to save memory; what "
    "looks at a whole batch (batch normalisation, feature matching, groups) then looks at a part.",
    lower_bound=1,
)
flags.DEFINE_bool("dry_run", False, "Show size, cost and time of the run; write nothing.")
flags.DEFINE_string("init_from", None, "Begin with the weights of this workdir (fine-tuning).")
flags.DEFINE_integer("log_every", 100, "Steps between two lines of metrics.", lower_bound=1)
flags.DEFINE_integer("sample_every", 1000, "Steps between two sample grids.", lower_bound=1)
flags.DEFINE_integer("checkpoint_every", 1000, "Steps between two saves.", lower_bound=1)
flags.DEFINE_integer("keep", 3, "How many of the last checkpoints are kept.", lower_bound=1)
flags.DEFINE_integer(
    "keep_every", None, "Keep those of steps divisible by this for good.", lower_bound=1
)
flags.DEFINE_integer("num_samples", 64, "Pictures in the sample grid.", lower_bound=1)

flags.DEFINE_integer(
    "evaluate_every",
    None,
    "Steps between two evaluations, as evaluate.py makes them; the checkpoint that is best by the "
    "first of --metrics stays. Default: none.",
    lower_bound=1,
)
flags.DEFINE_integer("evaluate_images", 2000, "Pictures drawn for one of them.", lower_bound=2)


def _load():
    return data.load(
        FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        image_size=FLAGS.image_size,
        holdout=FLAGS.holdout,
        skip_corrupt=FLAGS.skip_corrupt,
        num_examples=FLAGS.num_examples,
        labels=FLAGS.tags,
    )


def _steps(make, spec, num_examples):
    """Returns the number of steps; epochs count the pictures that the first update draws."""
    if FLAGS.epochs is None:
        return FLAGS.steps
    if not math.isfinite(FLAGS.epochs):
        raise UsageError(f"--epochs={FLAGS.epochs} must be a number of epochs, at least 0")
    stages = as_stages(make(Plan(FLAGS.batch_size, 0)), spec.size, FLAGS.batch_size)
    steps = steps_drawing(stages, FLAGS.epochs * num_examples)
    if steps == 0 < FLAGS.epochs:
        per_step = images_drawn(stages, 1)
        raise UsageError(
            f"--epochs={FLAGS.epochs} of {num_examples} pictures is less than one step, which "
            f"draws {per_step}; try --epochs={math.ceil(per_step / num_examples)}"
        )
    return steps


def main(argv: Sequence[str]) -> None:
    with shared.plain_errors():
        shared.refuse_arguments(argv)
        shared.start()
        run()


def run() -> None:
    """Trains as the flags say."""
    config = shared.make_config(FLAGS.model, FLAGS.set)
    shared.augmentation(FLAGS.augment)
    metric_flags.names()  # before anything that takes long
    parallel.check_divisible(FLAGS.batch_size, FLAGS.gradient_accumulation)
    dataset = _load()

    def make(plan):
        made = shared.model(FLAGS.model).make(dataset.spec, config, plan)
        return shared.dressed(made, FLAGS.precision, FLAGS.augment)

    steps = _steps(make, dataset.spec, len(dataset))
    gan = make(Plan(FLAGS.batch_size, steps))
    _warn_of_stages_left_out(as_stages(gan, dataset.spec.size, FLAGS.batch_size), steps)
    if FLAGS.dry_run:
        table = summary.dry_run(
            gan, dataset, FLAGS.batch_size, steps, FLAGS.seed, FLAGS.gradient_accumulation
        )
        if parallel.is_main():
            print(table)
        return

    workdir = FLAGS.workdir or shared.default_workdir(FLAGS.model, FLAGS.dataset)
    state = train(
        gan,
        dataset,
        batch_size=FLAGS.batch_size,
        steps=steps,
        seed=FLAGS.seed,
        flip=FLAGS.flip,
        micro_batches=FLAGS.gradient_accumulation,
        workdir=workdir,
        schedule=Schedule(
            FLAGS.log_every,
            FLAGS.sample_every,
            FLAGS.checkpoint_every,
            FLAGS.keep,
            FLAGS.keep_every,
            FLAGS.num_samples,
            FLAGS.evaluate_every,
        ),
        settings=_settings(config, dataset, steps),
        start=functools.partial(finetune.start_from, FLAGS.init_from) if FLAGS.init_from else None,
        evaluator=_evaluator(gan, dataset) if FLAGS.evaluate_every else None,
    )
    _report(pathlib.Path(workdir), int(state.step), steps)


def _warn_of_stages_left_out(stages, steps):
    last, reached = stages[-1], stages[holding(stages, steps)]
    if reached is not last and parallel.is_main():
        print(
            f"note: {steps} steps end at {reached.size} px; {last.size} px begin at step "
            f"{last.first}"
        )


def _evaluator(gan, dataset):
    network = feature_flags.network(dataset.spec)
    conditional = gan_at(gan, 0).conditional
    labels = labels_as_in(dataset, FLAGS.evaluate_images) if conditional else None
    evaluator = Evaluator(
        gan,
        network,
        dataset,
        read_reference(
            network, dataset, 50_000, cache_dir=data.default_cache_dir(), title="real pictures"
        ),
        metric_flags.names(),
        FLAGS.evaluate_images,
        labels,
    )
    metric_flags.report_obstacles(evaluator)
    if len(evaluator.obstacles()) == len(evaluator.metrics):
        raise UsageError(
            "--evaluate_every has nothing to measure; raise --evaluate_images or drop it"
        )
    return evaluator


def _settings(config, dataset, steps):
    """Returns what `config.json` holds."""
    return {
        "model": FLAGS.model,
        "config": dataclasses.asdict(config),
        "augment": FLAGS.augment,
        "dataset": FLAGS.dataset,
        "data": {
            "spec": dataset.spec._asdict(),
            "examples": len(dataset),
            "fingerprint": dataset.fingerprint,
            "holdout": FLAGS.holdout,
            "flip": FLAGS.flip,
            "tags": FLAGS.tags,
            "skip_corrupt": FLAGS.skip_corrupt,
            "num_examples": FLAGS.num_examples,
            "conditions": _conditions(dataset),
        },
        "batch_size": FLAGS.batch_size,
        "precision": FLAGS.precision,
        "gradient_accumulation": FLAGS.gradient_accumulation,
        "seed": FLAGS.seed,
        "init_from": FLAGS.init_from,
        "steps": steps,
        "log_every": FLAGS.log_every,
        "sample_every": FLAGS.sample_every,
        "checkpoint_every": FLAGS.checkpoint_every,
        "keep": FLAGS.keep,
        "keep_every": FLAGS.keep_every,
        "num_samples": FLAGS.num_samples,
        "evaluate_every": FLAGS.evaluate_every,
        "versions": shared.versions(),
        "command": shlex.join(sys.argv),
    }


def _conditions(dataset):
    """Returns the names of what the sample grids of a conditional model show."""
    if dataset.labels is None:
        return []
    shown = data.conditions_to_show(dataset, FLAGS.num_samples)
    names = dataset.spec.label_names
    return [[name for name, on in zip(names, row, strict=True) if on] for row in shown]


def _report(workdir, step, steps):
    if not parallel.is_main():
        return
    if step > steps:
        print(f"{workdir} is at step {step} already, --steps={steps} is behind it")
    samples = workdir / "samples" / f"step_{step:08d}.png"
    if samples.exists():
        print(f"samples: {samples}")


if __name__ == "__main__":
    app.run(main)
