"""Where a number was measured, and how quiet it was there."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path


def use_cores(count: int) -> None:
    """Keeps this process, and the thread pools it will start, on `count` of its cores.

    Call it before the first computation: XLA sizes its pool by what it finds then.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def describe(packages: Iterable[str], device: str | None = None) -> str:
    """One line for below a table: device, cores, date and versions of packages."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    processor = f"{_processor()}, {cores} cores"
    return (
        f"{f'{device}, host ' if device else ''}{processor}; {datetime.date.today()}; "
        f"Python {platform.python_version()}, {versions}"
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; all columns but the first are set flush right."""
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Others:
    """Measures what other processes take of the machine: 0 is quiet, 1 is one core of theirs.

    Known on Linux only; elsewhere 0.
    """

    def __init__(self) -> None:
        self._start = self._read()

    def cores(self) -> float:
        """Returns the mean number of cores that others kept busy since the start."""
        (wall, busy), (then, before) = self._read(), self._start
        return max(0.0, (busy - before) / max(wall - then, 1e-9))

    @staticmethod
    def _read() -> tuple[float, float]:
        wall, own = time.monotonic(), sum(os.times()[:4])
        try:
            fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        except FileNotFoundError:
            return wall, 0.0
        user, nice, system, _, _, interrupt, soft, steal = map(int, fields[:8])
        ticks = user + nice + system + interrupt + soft + steal
        return wall, ticks / os.sysconf("SC_CLK_TCK") - own


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in found.items()}
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name
