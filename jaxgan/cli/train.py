"""Trains a GAN, or goes on with a run that was interrupted.

python experiments/train.py --model=wgan_gp --dataset=folder --data_dir=PICTURES --workdir=DIR
python experiments/train.py --flagfile=experiments/recipes/anime_dcgan.cfg --data_dir=DIR

The same command again resumes, exactly. Fields of a model's Config are set by --set field=value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import fields

from absl import flags

from jaxgan import addresses, devices
from jaxgan.augment import AUGMENTATIONS
from jaxgan.cli import data_flags, features, machine, words
from jaxgan.cli.overrides import override
from jaxgan.errors import UsageError
from jaxgan.models import MODELS
from jaxgan.precision import MATMUL_PRECISIONS, PRECISIONS, multiplying
from jaxgan.processes import from_process_0
from jaxgan.runs import readers, settings
from jaxgan.runs import sweep as sweeping
from jaxgan.runs.train import SCHEDULES, Options, begin, left_out, prepare
from jaxgan.training import loggers, targets
from jaxgan.training import workdir as workdirs
from jaxgan.training.dry_run import dry_run
from jaxgan.training.loggers import LOGGERS
from jaxgan.training.signals import Stopped

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of a training."""
    machine.define_flags()
    features.define_features_flag()
    features.define_metrics_flag()
    data_flags.define_flags()
    flags.adopt_module_key_flags(machine)
    flags.adopt_module_key_flags(features)
    flags.adopt_module_key_flags(data_flags)
    flags.DEFINE_string("model", "wgan_gp", f"One of {', '.join(MODELS)}.")
    flags.DEFINE_multi_string(
        "set", [], "field=value of the model's Config; an unknown field lists the valid ones."
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Where the run is kept, a path or an address such as s3://BUCKET/RUN. Default: "
        "runs/MODEL_DATASET.",
    )
    flags.DEFINE_integer(
        "labeled",
        None,
        "Of how many pictures the labels are shown, as many of each class, chosen by --seed; the "
        "others are pictures without. For improved_mlp and improved. Default: all.",
        lower_bound=1,
    )
    flags.DEFINE_bool("flip", False, "Mirror pictures at random.")
    flags.DEFINE_string(
        "augment",
        "none",
        f"What the discriminator's pictures go through, one of {', '.join(AUGMENTATIONS)}, for "
        "data of a few thousand pictures or less. diffaug changes all of them alike strongly; "
        "ada adapts a probability to how far the discriminator overfits, which it reads off the "
        "sign of the scores: not for Wasserstein's critics.",
    )
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
    flags.DEFINE_enum(
        "matmul_precision",
        "default",
        MATMUL_PRECISIONS,
        "How float32 is multiplied. The default is the device's own: bfloat16 on TPUs, TF32 on "
        "GPUs, all bits on CPUs, which highest asks for everywhere.",
    )
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Let GPUs compute the same bits every time, as TPUs and CPUs do; slower.",
    )
    flags.DEFINE_integer(
        "gradient_accumulation",
        1,
        "Equal parts in which a batch is looked at, their gradients averaged, to save memory; "
        "what looks at a whole batch (batch normalization, feature matching, groups) then looks "
        "at a part.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "schedule",
        None,
        SCHEDULES,
        "Who runs the iterations: the host one by one, or the device in blocks inside one program. "
        "Default: the device on GPUs and TPUs; a run that goes on keeps to what it began with.",
    )
    flags.DEFINE_multi_string(
        "sweep",
        [],
        "seed=0..7, or a number of the Config such as learning_rate=1e-4,2e-4: a run for each, or "
        "for each combination, trained side by side in one program, in folders of --workdir.",
    )
    flags.DEFINE_bool("dry_run", False, "Show size, cost and time of the run; write nothing.")
    flags.DEFINE_string(
        "target",
        None,
        "With --dry_run: devices that need not be here, if a compiler for them is: "
        f"{targets.NAMES}.",
    )
    flags.DEFINE_string("init_from", None, "Begin with the weights of this workdir (fine-tuning).")
    flags.DEFINE_integer("log_every", 100, "Steps between two lines of metrics.", lower_bound=1)
    flags.DEFINE_integer("sample_every", 1000, "Steps between two sample grids.", lower_bound=1)
    flags.DEFINE_integer("checkpoint_every", 1000, "Steps between two saves.", lower_bound=1)
    flags.DEFINE_integer("keep", 3, "How many of the last checkpoints are kept.", lower_bound=1)
    flags.DEFINE_integer(
        "keep_every", None, "Keep those of steps divisible by this for good.", lower_bound=1
    )
    flags.DEFINE_list(
        "logger",
        ["tensorboard"],
        f"What shows the log beside metrics.jsonl: {', '.join(LOGGERS)}, with commas between them; "
        "empty for none.",
    )
    flags.DEFINE_integer("num_samples", 64, "Pictures in the sample grid.", lower_bound=1)

    flags.DEFINE_integer(
        "evaluate_every",
        None,
        "Steps between two evaluations, as jaxgan evaluate makes them; the checkpoint that is best "
        "by the first of --metrics stays. Default: none.",
        lower_bound=1,
    )
    flags.DEFINE_integer("evaluate_images", 2000, "Pictures drawn for one of them.", lower_bound=2)


def main(argv: Sequence[str]) -> None:
    with machine.started(argv):
        _check_together()
        if FLAGS.deterministic:
            devices.be_deterministic()
        machine.start_machine(compiles_only=FLAGS.target is not None)
        run()


def _check_together() -> None:
    """Raises UsageError for flags that do not go together."""
    if FLAGS.target is not None and not FLAGS.dry_run:
        raise UsageError("--target compiles for other devices and does not train; add --dry_run")
    if FLAGS.sweep and FLAGS.dry_run:
        raise UsageError("--dry_run is of one run; leave out --sweep")


def run() -> None:
    """Trains as the flags say."""
    # Before anything that takes long.
    config = override(settings.named(FLAGS.model).Config(), FLAGS.set)
    options = Options(**{field.name: FLAGS[field.name].value for field in fields(Options)})
    axes = sweeping.parse(FLAGS.sweep, config)
    target = None if FLAGS.target is None else targets.find(FLAGS.target)
    settings.check_augmentation(options.augment)
    readers.metric_names(options.metrics)
    loggers.check(options.logger)
    devices.check_divisible(options.batch_size, options.gradient_accumulation)
    workdir = FLAGS.workdir or settings.default_workdir(FLAGS.model, FLAGS.dataset)
    if not axes:
        workdir = workdirs.to_write(workdir)
    folder = addresses.mirror(workdir)
    dataset = data_flags.load(reading=from_process_0(lambda: settings.reading(folder)))
    if axes:
        swept = dict(axes=axes, workdir=workdir, config=config)
        print(sweeping.table(workdir, sweeping.sweep(FLAGS.model, dataset, options, **swept)))
        print(f"curves: {addresses.shown(folder / 'sweep.png')}")
        return
    prepared = prepare(FLAGS.model, dataset, options, workdir=workdir, config=config)
    note = left_out(prepared.stages, prepared.steps)
    if note is not None and devices.is_main():
        print(f"note: {note}")
    if FLAGS.dry_run:
        lines = dry_run(
            prepared.stages,
            prepared.dataset,
            prepared.steps,
            options.seed,
            options.gradient_accumulation,
            # No target is a CPU.
            on_device=prepared.on_device if target is None else options.schedule != "host",
            target=target,
        )
        with multiplying(options.matmul_precision):
            for line in lines:
                if devices.is_main():
                    print(line, flush=True)
        return

    def begins(state):
        if devices.is_main():
            about = (FLAGS.model, dataset, options.precision, folder, prepared.steps, state)
            print(words.beginning(*about), flush=True)

    def ends():
        if devices.is_main():
            print(words.ending(folder, prepared.steps))

    try:
        begin(prepared, begins=begins)
    except Stopped:
        with contextlib.suppress(OSError):  # the terminal may be gone, of which SIGHUP tells
            ends()
        raise
    ends()
