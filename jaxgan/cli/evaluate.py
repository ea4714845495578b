"""Says how good a trained GAN is, in numbers and in words.

python experiments/evaluate.py --workdir=DIR
python experiments/evaluate.py --workdir=DIR --metrics=fid --features=inception --num_images=50000
python experiments/evaluate.py --workdir=DIR --metrics=accuracy --labels_file=test.json
python experiments/evaluate.py --pictures=SAMPLES --reference=PICTURES --save_reference=stats.npz

Prints a table, adds a line to the workdir's `evaluation.jsonl` and writes `report.html`. Features
come from --features; jaxgan classify makes them for labeled pictures.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

from jaxgan import addresses, data, files
from jaxgan.cli import data_flags, features, machine
from jaxgan.core import Gan, GanState
from jaxgan.errors import UsageError
from jaxgan.evaluation import history, report
from jaxgan.evaluation.evaluator import Evaluation, Evaluator
from jaxgan.evaluation.findings import Judge
from jaxgan.evaluation.metrics import first_number, higher_is_better
from jaxgan.evaluation.picture_findings import Scale
from jaxgan.evaluation.protocol import Measured, Protocol, check_comparable
from jaxgan.runs import readers
from jaxgan.runs import settings as described
from jaxgan.runs.compare import compare
from jaxgan.sampling.style import style_of
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
    flags.DEFINE_string("workdir", None, "The training's folder.")
    flags.DEFINE_string(
        "pictures", None, "In place of --workdir: a folder, a zip, or a .npz that has `images`."
    )
    flags.DEFINE_string(
        "reference",
        None,
        "What --pictures are compared with: the same, or a file of --save_reference.",
    )
    flags.DEFINE_string("save_reference", None, "A .npz for the statistics of --reference.")
    flags.DEFINE_integer(
        "image_size", None, "Side to which folders of --pictures and --reference are brought."
    )
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
    flags.DEFINE_list(
        "truncation",
        ["1"],
        "psi of models with intermediate latents, or several: the report shows the curves.",
    )
    flags.DEFINE_bool("raw", False, "The last weights in place of their moving average.")
    flags.DEFINE_integer("seed", 0, "Chooses the latents.", lower_bound=0, upper_bound=2**32 - 1)
    flags.DEFINE_integer("batch_size", 100, "Pictures computed at a time.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    with machine.started(argv):
        readers.metric_names(FLAGS.metrics)  # before anything that takes long
        several = [FLAGS.workdir is not None, FLAGS.pictures is not None]
        if sum(several) != 1 or (FLAGS.pictures is None) != (FLAGS.reference is None):
            raise UsageError("name a run by --workdir, or two sets by --pictures and --reference")
        machine.start_machine()
        (run if FLAGS.pictures is None else _compare)()


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
        evaluator, *others = _truncated(evaluator, stages[0].gan)
        protocol = evaluator.protocol(raw=FLAGS.raw)
        other = None if FLAGS.against is None else _other(protocol)
        if FLAGS.checkpoint != "all":
            by = FLAGS.metrics and first_number(FLAGS.metrics[0], evaluator.network)
            asked = functools.partial(described.chosen_step, protocol=protocol, metric=by)
            steps = [asked(workdir, FLAGS.checkpoint, there)]
        judge = Judge(evaluator, _held_out(settings), data_flags.cache_dir())
        for step in steps:
            state = checkpointer.restore(template(stages), step).state
            evaluation, *_ = [
                _evaluated(workdir, measuring, state, judge.scale)
                for measuring in (evaluator, *others)
            ]
    if other is not None:
        _against(evaluation, other)
    for finding in report.write_of(workdir, settings, judge, evaluation, state):
        print(finding.line)
    page = workdir / report.FILE
    if not evaluation.entry.metrics:
        print("note: no number was measured, so that a report with some stays; raise --num_images")
    addresses.put_up(page)
    print(addresses.shown(page))


def _truncated(evaluator: Evaluator, gan: Gan) -> list[Evaluator]:
    """Returns an evaluator for each of --truncation."""
    try:
        chosen = [float(psi) for psi in FLAGS.truncation]
    except ValueError:
        chosen = []
    if not chosen or not all(0 <= psi < math.inf for psi in chosen):
        given = ",".join(FLAGS.truncation)
        raise UsageError(f"--truncation={given} must be numbers from 0, such as 1,.7,.5")
    if chosen != [1.0]:
        style_of(gan, "--truncation")
    return [dataclasses.replace(evaluator, truncation=psi) for psi in chosen]


def _evaluated(
    workdir: pathlib.Path, evaluator: Evaluator, state: GanState, scale: Scale
) -> Evaluation:
    """Measures a state, writes down the numbers, and prints them."""
    evaluation = evaluator(state, raw=FLAGS.raw)
    entry = evaluation.entry
    if entry.metrics:
        history.append(workdir, entry)
        addresses.put_up(workdir / history.FILE)
    _print(_title(entry), entry.metrics, scale)
    return evaluation


def _compare() -> None:
    """Measures --pictures against --reference."""
    found = compare(
        FLAGS.pictures,
        FLAGS.reference,
        image_size=FLAGS.image_size,
        metrics=FLAGS.metrics,
        features=FLAGS.features,
        num_images=FLAGS.num_images,
        num_reference=FLAGS.num_reference,
        save_reference=FLAGS.save_reference,
        seed=FLAGS.seed,
        batch_size=FLAGS.batch_size,
        cache_dir=data_flags.cache_dir(),
    )
    _print(found.title, found.metrics, found.scale)
    for finding in found.findings:
        print(finding.line)


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


def _title(entry: history.Entry) -> str:
    protocol = entry.protocol
    psi = "" if protocol.truncation == 1 else f", psi {protocol.truncation:g}"
    return (
        f"step {entry.step}, {protocol.num_generated} pictures against {protocol.num_reference} of "
        f"{protocol.reference}, features {protocol.features} {protocol.digest[:8]}{psi}"
    )


def _print(title: str, metrics: Mapping[str, Measured], scale: Scale | None) -> None:
    """Prints a table of numbers, with what real pictures reach."""
    print(title)
    rows = [["", "value", "interval", "held-out", "noise floor"]]
    for name, (value, low, high) in metrics.items():
        bounds = "" if low is None else f"{low:.4g} to {high:.4g}"
        reached = (None, None) if scale is None else scale.columns(name)
        others = ["-" if x is None else f"{x:.4g}" for x in reached]
        rows.append([name, f"{value:.4g}", bounds, *others])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows if metrics else ():
        line = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        print("  ".join(["", name.ljust(widths[0]), *line]))


def _other(protocol: Protocol) -> history.Entry:
    """Returns the numbers of --against, if those of a protocol may be compared with them."""
    entries = history.read(addresses.to_read(FLAGS.against))
    if not entries:
        raise UsageError(f"{FLAGS.against} has not been evaluated; run jaxgan evaluate on it first")
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
