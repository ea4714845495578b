"""Runs of one method that differ in their seeds, or in numbers of its Config, side by side."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgan import addresses
from jaxgan.core import Gan, Plan
from jaxgan.data import Dataset
from jaxgan.errors import UsageError, unknown
from jaxgan.evaluation import history
from jaxgan.precision import multiplying
from jaxgan.runs import settings as described
from jaxgan.runs.train import Options, evaluation, prepare, schedule_of
from jaxgan.training import curves
from jaxgan.training.sweep import Member, Result, check_field
from jaxgan.training.sweep import sweep as train_side_by_side


def parse(texts: Sequence[str], config: Any) -> dict[str, list[float]]:
    """Returns field -> values of texts such as "seed=0..7" and "learning_rate=1e-4,2e-4".

    Raises:
      UsageError: for another form, a field that the Config has not, or one that is no number.
    """
    kinds = {"seed": int} | typing.get_type_hints(type(config))
    axes: dict[str, list[float]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals:
            raise UsageError(f"--sweep={text} must look like seed=0..7 or learning_rate=1e-4,2e-4")
        if name not in kinds:
            raise unknown("field", name, kinds)
        if name in axes:
            raise UsageError(
                f"--sweep={text}: {name} is swept already; give all its values at once"
            )
        if name != "seed" and kinds[name] is not float:
            raise UsageError(
                f"--sweep={text}: {name} cannot be swept in one program, since it is not a number "
                "that is only computed with; train its values one after the other"
            )
        axes[name] = _values(text, values, int if name == "seed" else float)
    return axes


def _values(text, values, kind):
    try:
        if kind is int and ".." in values:
            first, last = map(int, values.split(".."))
            found = list(range(first, last + 1))
        else:
            found = [kind(value) for value in values.split(",")]
    except ValueError:
        found = []
    if not found or len(set(found)) < len(found) or min(found) < 0:
        raise UsageError(
            f"--sweep={text} must name different values, not negative: {kind.__name__}s with "
            "commas between them" + ", or first..last" * (kind is int)
        )
    return found


def sweep(
    model: str,
    dataset: Dataset,
    options: Options,
    axes: Mapping[str, Sequence[float]],
    *,
    workdir: str | pathlib.Path,
    config: Any,
    progress: bool = True,
) -> list[Result]:
    """Trains a member for each combination of the values, and draws their curves together.

    A member's workdir is WORKDIR/seed=0,learning_rate=0.0002, an ordinary run's; the curves are
    in WORKDIR/sweep.png.

    Args:
      model: the name of a method.
      dataset: the pictures.
      options: how each is trained.
      axes: field of the Config, or "seed", -> values.
      workdir: of the sweep.
      config: the Config, but for what is swept.
      progress: whether to draw a progress bar.

    Returns:
      How each member ended.

    Raises:
      UsageError: if something cannot be swept, or does not fit.
    """
    if options.init_from or options.schedule == "device":
        which = "--init_from" if options.init_from else "--schedule=device"
        raise UsageError(f"a sweep goes without {which}; train its members one after the other")
    options = dataclasses.replace(options, schedule="host")

    def make(values: Mapping[str, Any]) -> Gan:
        stages = described.make_stages(
            model,
            dataclasses.replace(config, **values),
            dataset.spec,
            Plan(options.batch_size, members[0].settings["steps"]),
            precision=options.precision,
            augment=options.augment,
        )
        return stages[0].gan

    members: list[Member] = []
    for chosen in itertools.product(*axes.values()):
        values = dict(zip(axes, chosen, strict=True))
        name = ",".join(f"{field}={value}" for field, value in values.items())
        seed = int(values.pop("seed", options.seed))
        prepared = prepare(
            model,
            dataset,
            dataclasses.replace(options, seed=seed),
            workdir=addresses.join(workdir, name),
            config=dataclasses.replace(config, **values),
        )
        # Seeds draw by one and the same compiled function.
        stages = members[0].stages if members and not values else prepared.stages
        members.append(Member(name, seed, values, stages, prepared.workdir, prepared.settings))
    shown = prepared.dataset  # for all: each member chooses labels and order by its seed
    for field in members[0].values:
        check_field(make, field, dataset.spec, options.batch_size)
    if options.evaluate_every:
        members = [
            member._replace(
                after_save=evaluation(member.stages, shown, options, member.settings, progress)
            )
            for member in members
        ]
    with multiplying(options.matmul_precision):
        results = train_side_by_side(
            make,
            members,
            shown,
            batch_size=options.batch_size,
            steps=members[0].settings["steps"],
            flip=options.flip,
            micro_batches=options.gradient_accumulation,
            schedule=schedule_of(options),
            progress=progress,
        )
    drawn = addresses.mirror(workdir) / "sweep.png"
    drawn.parent.mkdir(parents=True, exist_ok=True)
    curves.together({member.name: member.workdir / "metrics.jsonl" for member in members}, drawn)
    addresses.put_up(drawn)
    return results


def table(workdir: str | pathlib.Path, results: Sequence[Result]) -> str:
    """Returns a line for each member: its step, losses, and last evaluation."""
    rows = [["member", "step", "D loss", "G loss", "evaluation"]]
    for name, step, metrics, failed in results:
        losses = [metrics.get(f"{player}/loss") for player in ("discriminator", "generator")]
        entries = history.read(addresses.mirror(addresses.join(workdir, name)))
        measured = entries[-1].metrics.items() if entries else ()
        numbers = ", ".join(f"{metric} {value.value:.4g}" for metric, value in measured)
        rows.append(
            [
                name,
                f"{step}",
                *("" if loss is None else f"{loss:.4g}" for loss in losses),
                "not finite; stopped" if failed else numbers,
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
