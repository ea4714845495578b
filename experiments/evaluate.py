"""Says how good a trained GAN is, in numbers and in words.

python experiments/evaluate.py --workdir=DIR
python experiments/evaluate.py --workdir=DIR --metrics=fid --features=inception --num_images=50000
python experiments/evaluate.py --workdir=DIR --metrics=accuracy --labels_file=test.json

Prints a table, adds a line to the workdir's `evaluation.jsonl` and writes `report.html`. Features
come from --features; train_classifier.py makes them for labelled pictures.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import feature_flags
import metric_flags
import numpy as np
import shared
from absl import app, flags

import jaxgan.workdir
from jaxgan import data, evaluations, log, plot, report
from jaxgan.checkpoint import Checkpointer
from jaxgan.core import Gan
from jaxgan.errors import UsageError
from jaxgan.evaluate import (
    Evaluation,
    Evaluator,
    labels_as_in,
    read_reference,
    reference_order,
)
from jaxgan.findings import Material, Nearest, look
from jaxgan.metrics.panel import Finding
from jaxgan.metrics.protocol import check_comparable, differences
from jaxgan.metrics.suite import higher_is_better
from jaxgan.stages import as_stages, gan_at, holding, template

SHOWN = 8  # samples beside their neighbours in the report

FLAGS = flags.FLAGS
flags.declare_key_flag("compilation_cache")
flags.adopt_module_key_flags(metric_flags)
flags.adopt_module_key_flags(feature_flags)

flags.DEFINE_string("workdir", None, "The training's folder.", required=True)
flags.DEFINE_string("data_dir", None, "Where the pictures of the training are.")
flags.DEFINE_integer("num_images", 10_000, "How many pictures are drawn.", lower_bound=2)
flags.DEFINE_integer(
    "num_reference",
    50_000,
    "How many real pictures they are compared with, at most.",
    lower_bound=2,
)
flags.DEFINE_string("tags", None, "Labels of a folder, if they have moved since the training.")
flags.DEFINE_string(
    "checkpoint", "last", "A step, 'last', 'best' (by the first of --metrics) or 'all'."
)
flags.DEFINE_string("labels_file", None, "What to draw, as a JSON list of lists of names.")
flags.DEFINE_string("against", None, "Another workdir, whose numbers are put beside these.")
flags.DEFINE_bool("raw", False, "The last weights in place of their moving average.")
flags.DEFINE_integer("seed", 0, "Chooses the latents.", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_integer("batch_size", 100, "Pictures computed at a time.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    with shared.plain_errors():
        shared.refuse_arguments(argv)
        names = metric_flags.names()  # before anything that takes long
        shared.start()
        run(names)


def run(names: Sequence[str]) -> None:
    """Evaluates as the flags say."""
    workdir = pathlib.Path(FLAGS.workdir)
    settings = jaxgan.workdir.read(workdir)
    made = shared.make_gan(settings)
    dataset = shared.load_again(settings, FLAGS.data_dir, FLAGS.tags)
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        steps = there = checkpointer.steps()
        if not there:
            raise UsageError(f"{workdir} has no checkpoint yet; let the training save one")
        if FLAGS.checkpoint != "all":
            steps = [shared.chosen_step(FLAGS.workdir, FLAGS.checkpoint, there)]
        labels, conditions = _asked(gan_at(made, 0), dataset)
        network = feature_flags.network(dataset.spec)
        reference = read_reference(
            network,
            dataset,
            FLAGS.num_reference,
            batch_size=FLAGS.batch_size,
            cache_dir=data.default_cache_dir(),
            title="real pictures",
        )
        evaluator = Evaluator(
            made,
            network,
            dataset,
            reference,
            names,
            FLAGS.num_images,
            labels,
            conditions,
            FLAGS.seed,
            FLAGS.batch_size,
            progress=True,
        )
        metric_flags.report_obstacles(evaluator)
        for step in steps:
            step, state, _ = checkpointer.restore(template(made), step)
            evaluation = evaluator(state, raw=FLAGS.raw)
            if evaluation.entry.metrics:
                evaluations.append(workdir, evaluation.entry)
            _print(evaluation)
    if FLAGS.against is not None:
        _against(evaluation)
    stages = as_stages(made, dataset.spec.size, settings["batch_size"])
    stage = stages[holding(stages, step)]
    material = Material(
        stage.gan,
        state,
        dataset,
        _held_out(settings),
        network,
        reference,
        reference_order(dataset, FLAGS.num_reference),
        evaluation,
        log.read(workdir / "metrics.jsonl"),
        stage.batch_size,
    )
    found, neighbours = look(material)
    for finding in found:
        print(f"{finding.verdict:>5}: {finding.sentence}")
    report.write(workdir / "report.html", _report(workdir, settings, material, found, neighbours))
    print(workdir / "report.html")


def _asked(gan: Gan, dataset: data.Dataset) -> tuple[np.ndarray | None, str | None]:
    """Returns what the generator is asked for, and whence if it is not the data's labels."""
    if not gan.conditional:
        if FLAGS.labels_file is not None:
            raise UsageError(f"{FLAGS.workdir} was trained without labels; leave --labels_file out")
        return None, None
    if FLAGS.labels_file is None:
        return labels_as_in(dataset, FLAGS.num_images, FLAGS.seed), None
    conditions = data.load_conditions(FLAGS.labels_file, dataset.spec.label_names)
    each = pathlib.Path(FLAGS.labels_file).name
    return np.resize(conditions, (FLAGS.num_images, conditions.shape[1])), f"those of {each}"


def _held_out(settings: Mapping) -> data.Dataset | None:
    try:
        return shared.load_again(settings, FLAGS.data_dir, FLAGS.tags, split="holdout")
    except data.DataError as error:
        print(f"note: no held-out pictures to compare with: {error}")
        return None


def _print(evaluation: Evaluation) -> None:
    step, protocol, metrics = evaluation.entry
    print(
        f"step {step}, {protocol.num_generated} pictures against {protocol.num_reference} of "
        f"{protocol.reference}, features {protocol.features} {protocol.digest[:8]}"
    )
    width = max(map(len, metrics), default=0)
    for name, (value, low, high) in metrics.items():
        bounds = "" if low is None else f"   {low:.4g} to {high:.4g}"
        print(f"  {name:<{width}}  {value:10.4g}{bounds}")


def _against(evaluation: Evaluation) -> None:
    """Prints the numbers of another run beside these, if they may be compared."""
    entries = evaluations.read(FLAGS.against)
    if not entries:
        raise UsageError(f"{FLAGS.against} has not been evaluated; run evaluate.py on it first")
    alike = [e for e in entries if not differences(e.protocol, evaluation.entry.protocol)]
    other = (alike or entries)[-1]
    check_comparable(other.protocol, evaluation.entry.protocol)
    print(f"beside {FLAGS.against}, step {other.step}")
    for name, (value, *_) in evaluation.entry.metrics.items():
        before = other.metrics[name].value if name in other.metrics else None
        if before is None:
            continue  # not measured there, or not finite
        word = "better" if (value > before) == higher_is_better(name) else "worse"
        word = "the same" if value == before else word
        print(f"  {name}  {value:.4g} against {before:.4g}: {word}")


def _report(
    workdir: pathlib.Path,
    settings: Mapping,
    material: Material,
    found: Sequence[Finding],
    neighbours: Sequence[Nearest],
) -> report.Report:
    entry, images = material.evaluation.entry, material.evaluation.images
    metrics = [
        report.Metric(name, *measured, "higher" if higher_is_better(name) else "lower")
        for name, measured in entry.metrics.items()
    ]
    alike = [e for e in evaluations.read(workdir) if not differences(e.protocol, entry.protocol)]
    return report.Report(
        settings["model"],
        settings["dataset"],
        entry.step,
        plot.grid(images[:64]),
        found,
        metrics,
        entry.protocol._asdict(),
        material.curves,
        [{"step": e.step} | {name: m.value for name, m in e.metrics.items()} for e in alike],
        [
            report.Neighbours(
                near.space, images[:SHOWN], material.dataset.images[near.indices[:SHOWN]]
            )
            for near in neighbours
        ],
        settings,
    )


if __name__ == "__main__":
    app.run(main)
