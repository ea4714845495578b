"""`evaluation.jsonl`: what was measured of a run, a line for each evaluation."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_type_hints

from absl import logging

from jaxgan import files
from jaxgan.errors import UsageError
from jaxgan.evaluation.metrics import PRDC, higher_is_better
from jaxgan.evaluation.protocol import Measured, Protocol, differences

FILE = "evaluation.jsonl"
_KINDS = get_type_hints(Protocol)


class Entry(NamedTuple):
    """A line of the file."""

    step: int
    protocol: Protocol
    metrics: Mapping[str, Measured]


def append(workdir: str | pathlib.Path, entry: Entry) -> None:
    """Adds a line to the file of a workdir."""
    metrics = {
        name: [x if x is not None and math.isfinite(x) else None for x in measured]
        for name, measured in entry.metrics.items()
    }
    line = {"step": entry.step, "metrics": metrics, "protocol": entry.protocol._asdict()}
    with (pathlib.Path(workdir) / FILE).open("a+") as file:
        file.seek(0)
        torn = (file.read() or "\n")[-1] != "\n"  # by a kill
        file.write("\n" * torn + json.dumps(line) + "\n")


def read(workdir: str | pathlib.Path) -> list[Entry]:
    """Returns the last entry of each step and protocol, by step; none if there is no file."""
    entries = {}
    path = pathlib.Path(workdir) / FILE
    for line in files.read_json_lines(path):
        try:
            entry = _entry(**line)
        except (TypeError, ValueError, AttributeError) as reason:
            logging.warning("%s: the line of step %d is damaged: left out", path, line["step"])
            logging.debug("%s", reason)
            continue
        entries[entry.step, entry.protocol] = entry
    return sorted(entries.values(), key=lambda entry: entry.step)


def _entry(step: int, metrics: Mapping[str, Sequence], protocol: Mapping[str, Any]) -> Entry:
    """Raises TypeError, ValueError or AttributeError for what is no line of such a file."""
    measured = {name: Measured(*values) for name, values in metrics.items()}
    if not all(files.is_number(x) for values in measured.values() for x in values):
        raise ValueError("a metric is no number")
    found = Protocol(**protocol)
    for name, value in zip(found._fields, found, strict=True):
        kind = (float, int) if _KINDS[name] is float else _KINDS[name]
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r}")
    return Entry(step, found, measured)


def alike(entries: Sequence[Entry], protocol: Protocol) -> list[Entry]:
    """Returns the entries whose numbers may be compared with those of a protocol."""
    return [entry for entry in entries if not differences(entry.protocol, protocol)]


def mostly(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries of the protocol that measured the most, of equals the first: the
    training's own, where it evaluates."""
    return max((alike(entries, entry.protocol) for entry in entries), key=len, default=[])


def ranked(entries: Sequence[Entry], metric: str | None = None) -> list[Entry]:
    """Returns the entries in which a metric is finite, the best first, and of equals the first.

    Precision or density alone is highest where a generator has collapsed, and recall or coverage
    where it draws everything: all four are ranked by density times coverage.

    Args:
      entries: of one protocol.
      metric: a number's name; None for the first number of the last entry.
    """
    metric = metric or next((name for e in reversed(entries) for name in e.metrics), "")
    names = ("density", "coverage") if metric in PRDC else (metric,)
    sign, worth = -1 if higher_is_better(metric) else 1, []
    for entry in entries:
        values = [entry.metrics[name].value for name in names if name in entry.metrics]
        if len(values) == len(names) and None not in values:
            worth.append((sign * math.prod(values), entry))
    return [entry for _, entry in sorted(worth, key=lambda pair: pair[0])]


def best(entries: Sequence[Entry], metric: str | None = None) -> Entry:
    """Returns the first entry of `ranked`.

    Raises:
      UsageError: if the metric was not measured, or not always by the same protocol.
    """
    found = ranked(entries, metric)
    if not found:
        names = sorted({name for entry in entries for name in entry.metrics})
        raise UsageError(
            f"{metric or 'it'} has not been measured, but {', '.join(names) or 'nothing'}; run "
            "jaxgan evaluate"
        )
    for entry in found:
        if different := differences(found[0].protocol, entry.protocol):
            raise UsageError(
                f"steps {found[0].step} and {entry.step} cannot be compared: "
                f"{'; '.join(different)}. Evaluate them in the same way"
            )
    return found[0]
