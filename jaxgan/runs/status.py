"""How far a run is, from what lies in its workdir; nothing is computed, no device is asked for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from jaxgan import addresses, files
from jaxgan.evaluation import history
from jaxgan.evaluation.curve_verdicts import judge_curves
from jaxgan.evaluation.history import Entry
from jaxgan.evaluation.verdicts import Finding
from jaxgan.training import workdir as workdirs

_LATELY = 10  # lines of the log that say how fast it is


class Status(NamedTuple):
    """What there is to know of a run."""

    workdir: pathlib.Path
    model: str
    dataset: str
    state: str  # "running", "stopped", "complete"; "not complete" where only this is known
    step: int  # of the last line of the log or the last checkpoint
    steps: int  # asked for
    seconds_left: float | None  # at the speed of late; None if it is not known
    images_per_second: float | None
    losses: dict[str, float | None]  # the last ones, by player
    evaluation: Entry | None  # the last one
    findings: tuple[Finding, ...]  # on the curves
    grid: pathlib.Path | None  # the last one


def status_of(workdir: str | pathlib.Path) -> Status:
    """Returns the status of a run.

    Raises:
      UsageError: if the folder is not a run's.
    """
    workdir = pathlib.Path(workdir)
    settings = workdirs.read(workdir)
    lines = files.read_json_lines(workdir / "metrics.jsonl")
    last = lines[-1] if lines else {}
    saved = [int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdecimal()]
    step, steps = max([*saved, last.get("step", 0)]), settings.get("steps", 0)
    running = _is_running(workdir / "checkpoints" / ".lock")
    complete = not running and max(saved, default=0) >= steps
    speed = _seconds_a_step(lines)
    entries = history.read(workdir)
    return Status(
        workdir,
        settings.get("model", "unknown"),
        settings.get("dataset", "unknown"),
        "running" if running else "complete" if complete else _unfinished(workdir),
        step,
        steps,
        None if speed is None or complete else speed * max(0, steps - step),
        last.get("images_per_second"),
        {name[0].upper(): last[name] for name in last if name.endswith("/loss")},
        entries[-1] if entries else None,
        judge_curves(lines),
        max((workdir / "samples").glob("step_*.png"), default=None),
    )


def _unfinished(workdir: pathlib.Path) -> str:
    # The lock that tells is on the disk of the machine that trains.
    return "not complete" if addresses.shown(workdir) != str(workdir) else "stopped"


def runs_below(folder: str | pathlib.Path) -> list[pathlib.Path]:
    """Returns the workdirs in a folder and its folders, in the order of their names.

    Of an address, their mirrors.

    Raises:
      AddressError: if the address does not answer.
    """
    if addresses.is_address(folder):
        found = addresses.runs_below(str(folder))
        return [addresses.to_read(address) for address in found]
    return sorted(path.parent for path in pathlib.Path(folder).rglob("config.json"))


def table(found: Sequence[Status]) -> str:
    """Returns a line for each of several runs."""
    rows = [["run", "state", "step", "left", "images/s", "losses", "evaluation"]]
    for run in found:
        speed = run.images_per_second
        rows.append(
            [
                addresses.shown(run.workdir),
                run.state,
                f"{run.step:,} of {run.steps:,}",
                duration(run.seconds_left),
                "" if speed is None else f"{speed:.0f}",
                losses(run),
                evaluation(run),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join("  ".join(t.ljust(width) for t, width in line).rstrip() for line in lines)


def page(run: Status) -> str:
    """Returns all that is known of one run, in lines."""
    share = run.step / run.steps if run.steps else 1.0
    left = "" if run.seconds_left is None else f", {duration(run.seconds_left)} left"
    lines = [
        f"{addresses.shown(run.workdir)}: {run.model} on {run.dataset}, {run.state}",
        f"step {run.step:,} of {run.steps:,} ({share:.0%}){left}",
    ]
    if run.images_per_second is not None:
        lines.append(f"{run.images_per_second:.0f} images/s, losses {losses(run)}")
    if run.evaluation is not None:
        lines.append(f"evaluated at step {run.evaluation.step:,}: {evaluation(run)}")
    lines += [f"{finding.verdict}: {finding.sentence}" for finding in run.findings]
    if run.grid is not None:
        lines.append(f"samples: {addresses.shown(run.grid)}")
    return "\n".join(lines)


def losses(run: Status) -> str:
    """Returns the last losses in words."""
    shown = {p: "not finite" if loss is None else f"{loss:.3g}" for p, loss in run.losses.items()}
    return ", ".join(f"{player} {loss}" for player, loss in shown.items())


def evaluation(run: Status) -> str:
    """Returns the numbers of the last evaluation in words."""
    metrics = run.evaluation.metrics if run.evaluation is not None else {}
    return ", ".join(
        f"{name} {measured.value:.4g}"
        for name, measured in metrics.items()
        if measured.value is not None
    )


def duration(seconds: float | None) -> str:
    """Returns a time in the unit that fits; "" for None."""
    if seconds is None:
        return ""
    for unit, length, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def _seconds_a_step(lines):
    lately = [line for line in lines[-_LATELY:] if "seconds" in line]
    if len(lately) < 2:
        return None
    steps = lately[-1]["step"] - lately[0]["step"]
    return (lately[-1]["seconds"] - lately[0]["seconds"]) / steps if steps else None


def _is_running(lock: pathlib.Path) -> bool:
    """Whether a process of this machine holds the lock of a run's checkpoints."""
    try:
        with lock.open() as file:
            os.kill(int(file.read()), 0)
            # The number of a process that is gone may be another's by now.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            return True
    except (OSError, ValueError):
        return False
