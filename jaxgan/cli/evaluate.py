"""Says how good a trained GAN is, in numbers and in words.

python experiments/evaluate.py --workdir=DIR
python experiments/evaluate.py --workdir=DIR --metrics=fid --features=inception --num_images=50000
python experiments/evaluate.py --workdir=DIR --metrics=accuracy --labels_file=test.json

Prints a table, adds a line to the workdir's `evaluation.jsonl` and writes `report.html`. Features
come from --features; train_classifier.py makes them for labeled pictures.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

from jaxgan import addresses, data, files
from jaxgan.cli import data_flags, features, machine
from jaxgan.core import Gan
from jaxgan.errors import UsageError
from jaxgan.evaluation import history, report
from jaxgan.evaluation.evaluator import Evaluation
from jaxgan.evaluation.findings import Judge
from jaxgan.evaluation.metrics import first_number, higher_is_better
from jaxgan.evaluation.picture_findings import Scale
from jaxgan.evaluation.protocol import Protocol, check_comparable
from jaxgan.runs import readers
from jaxgan.runs import settings as described
from jaxgan.stages import template
from jaxgan.training import workdir as workdirs
from jaxgan.training.checkpoint import Checkpointer

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of an evaluation."""
    machine.define_flags()
    features.define_features_flag()
    features.define_metrics_flag()
    flags.declare_key_flag("compilation_cache")
    flags.declare_key_flag("cache_dir")
    flags.adopt_module_key_flags(features)
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
        "checkpoint",
        "last",
        "A step, 'last', 'all', or 'best' by the first of --metrics: of what was measured as now, "
        "else of what the training measured.",
    )
    flags.DEFINE_string("labels_file", None, "What to draw: a table, a line for each condition.")
    flags.DEFINE_string("against", None, "Another workdir, whose numbers are put beside these.")
    flags.DEFINE_bool("raw", False, "The last weights in place of their moving average.")
    flags.DEFINE_integer("seed", 0, "Chooses the latents.", lower_bound=0, upper_bound=2**32 - 1)
    flags.DEFINE_integer("batch_size", 100, "Pictures computed at a time.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    with machine.started(argv):
        readers.metric_names(FLAGS.metrics)  # before anything that takes long
        machine.start_machine()
        run()


def run() -> None:
    """Evaluates as the flags say."""
    workdir = addresses.to_read(FLAGS.workdir)
    settings = workdirs.read(workdir)
    stages = described.stages_of(settings)
    files.check_writable(workdir)  # before the work, which would be lost
    dataset = _pictures(settings)
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        steps = there = checkpointer.steps()
        if not there:
            raise UsageError(f"{FLAGS.workdir} has no checkpoint yet; let the training save one")
        evaluator = readers.evaluator(
            stages,
            dataset,
            FLAGS.num_images,
            metrics=FLAGS.metrics,
            features=FLAGS.features,
            num_reference=FLAGS.num_reference,
            conditions=_asked(stages[0].gan, dataset),
            seed=FLAGS.seed,
            batch_size=FLAGS.batch_size,
            cache_dir=data_flags.cache_dir(),
            progress=True,
        )
        protocol = evaluator.protocol(raw=FLAGS.raw)
        other = None if FLAGS.against is None else _other(protocol)
        if FLAGS.checkpoint != "all":
            by = FLAGS.metrics and first_number(FLAGS.metrics[0], evaluator.network)
            asked = functools.partial(described.chosen_step, protocol=protocol, metric=by)
            steps = [asked(workdir, FLAGS.checkpoint, there)]
        judge = Judge(evaluator, _held_out(settings), data_flags.cache_dir())
        for step in steps:
            state = checkpointer.restore(template(stages), step).state
            evaluation = evaluator(state, raw=FLAGS.raw)
            if evaluation.entry.metrics:
                history.append(workdir, evaluation.entry)
                addresses.put_up(workdir / history.FILE)
            _print(evaluation, judge.scale)
    if other is not None:
        _against(evaluation, other)
    for finding in report.write_of(workdir, settings, judge, evaluation, state):
        print(finding.line)
    page = workdir / report.FILE
    if not evaluation.entry.metrics:
        print("note: no number was measured, so that a report with some stays; raise --num_images")
    addresses.put_up(page)
    print(addresses.shown(page))


def _asked(gan: Gan, dataset: data.Dataset) -> tuple[np.ndarray, str] | None:
    """Returns what the generator is asked for, if not for the data's labels, and from where."""
    if FLAGS.labels_file is None:
        return None
    if not gan.conditional:
        raise UsageError(f"{FLAGS.workdir} was trained without labels; leave --labels_file out")
    name = pathlib.Path(FLAGS.labels_file).name
    return data.load_conditions(FLAGS.labels_file, dataset.spec), f"those of {name}"


def _pictures(settings: Mapping) -> data.Dataset:
    where = FLAGS.data_dir, FLAGS.tags
    return described.pictures_of(settings, *where, cache_dir=data_flags.cache_dir())


def _held_out(settings: Mapping) -> data.Dataset | None:
    where = FLAGS.data_dir, FLAGS.tags, data_flags.cache_dir()
    return described.held_out_of(settings, *where, say=print)


def _print(evaluation: Evaluation, scale: Scale) -> None:
    step, protocol, metrics = evaluation.entry
    print(
        f"step {step}, {protocol.num_generated} pictures against {protocol.num_reference} of "
        f"{protocol.reference}, features {protocol.features} {protocol.digest[:8]}"
    )
    rows = [["", "value", "interval", "held-out", "noise floor"]]
    for name, (value, low, high) in metrics.items():
        bounds = "" if low is None else f"{low:.4g} to {high:.4g}"
        others = ["-" if x is None else f"{x:.4g}" for x in scale.columns(name)]
        rows.append([name, f"{value:.4g}", bounds, *others])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows if metrics else ():
        line = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        print("  ".join(["", name.ljust(widths[0]), *line]))


def _other(protocol: Protocol) -> history.Entry:
    """Returns the numbers of --against, if those of a protocol may be compared with them."""
    entries = history.read(addresses.to_read(FLAGS.against))
    if not entries:
        raise UsageError(f"{FLAGS.against} has not been evaluated; run evaluate.py on it first")
    other = (history.alike(entries, protocol) or entries)[-1]
    check_comparable(other.protocol, protocol)
    return other


def _against(evaluation: Evaluation, other: history.Entry) -> None:
    """Prints the numbers of another run beside these."""
    print(f"beside {FLAGS.against}, step {other.step}")
    for name, (value, *_) in evaluation.entry.metrics.items():
        before = other.metrics[name].value if name in other.metrics else None
        if before is None:
            continue  # not measured there, or not finite
        word = "better" if (value > before) == higher_is_better(name) else "worse"
        word = "the same" if value == before else word
        print(f"  {name}  {value:.4g} against {before:.4g}: {word}")
