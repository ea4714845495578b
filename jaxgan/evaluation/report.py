"""One HTML file that tells how good a run is; it needs no other file and no network."""

from __future__ import annotations

import base64
import importlib.resources
import io
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from jaxgan import files
from jaxgan.core import GanState
from jaxgan.evaluation import history
from jaxgan.evaluation.evaluator import Evaluation
from jaxgan.evaluation.findings import Judge
from jaxgan.evaluation.history import Entry
from jaxgan.evaluation.metrics import about
from jaxgan.evaluation.picture_findings import NearestPictures, Scale
from jaxgan.evaluation.protocol import differences
from jaxgan.evaluation.verdicts import Finding
from jaxgan.sampling import pictures
from jaxgan.training import curves

FILE = "report.html"
WORDS = {"bad": "Bad", "watch": "Watch", "good": "Good"}
INK, INK_ON_DARK = "#333333", "#cccccc"  # as in the page's style
SHOWN_WIDTH = 640  # smaller pictures are enlarged to about that many pixels


class Report(NamedTuple):
    """What the page shows; what is empty has no place on it."""

    model: str
    dataset: str
    samples: np.ndarray  # a grid [H, W, 1 or 3] uint8
    entry: Entry
    findings: Sequence[Finding] = ()
    evaluations: Sequence[Entry] = ()  # whose numbers may be compared with the entry's, in order
    training: Sequence[Mapping[str, float | None]] = ()  # the lines of metrics.jsonl
    neighbors: Sequence[NearestPictures] = ()
    settings: Mapping[str, Any] = MappingProxyType({})  # config.json
    scale: Scale | None = None
    truncations: Sequence[Entry] = ()  # the same, measured with other psi


def write(path: str | pathlib.Path, report: Report) -> None:
    """Writes the page, all of it or nothing."""
    with files.whole(path) as file:
        file.write(render(report))


def write_of(
    workdir: pathlib.Path,
    settings: Mapping[str, Any],
    judge: Judge,
    evaluation: Evaluation,
    state: GanState,
) -> Sequence[Finding]:
    """Judges an evaluated state of a run, and writes the run's `report.html`.

    One with numbers is not replaced by one without.

    Args:
      workdir: of the run.
      settings: what its `config.json` holds.
      judge: of the run.
      evaluation: of the state, which the run's history has already.
      state: a checkpoint's.

    Returns:
      The findings.
    """
    lines, entry = files.read_json_lines(workdir / "metrics.jsonl"), evaluation.entry
    found, neighbors = judge(evaluation, state, lines)
    if entry.metrics or not (workdir / FILE).exists():
        page = Report(
            settings["model"],
            settings["dataset"],
            pictures.grid(evaluation.images[:64]),
            entry,
            found,
            history.alike(history.read(workdir), entry.protocol),
            lines,
            neighbors,
            settings,
            judge.scale,
            _truncations(history.read(workdir), entry),
        )
        write(workdir / FILE, page)
    return found


def render(report: Report) -> str:
    """Returns the page as HTML."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = (
        importlib.resources.files("jaxgan.evaluation").joinpath("report.html").read_text("utf-8")
    )
    environment.filters["number"] = _number
    measured = [
        {"step": entry.step} | {name: m.value for name, m in entry.metrics.items()}
        for entry in report.evaluations
    ]
    return environment.from_string(source).render(
        report=report,
        about=about,
        words=WORDS,
        counts={v: sum(f.verdict == v for f in report.findings) for v in WORDS},
        findings=sorted(report.findings, key=lambda f: list(WORDS).index(f.verdict)),
        samples=_picture(report.samples),
        quality=[_curve(name, measured, [name]) for name in _names(measured)],
        truncations=_sweep(report.truncations),
        curves=[_curve(t, report.training, n) for t, n in _speed_last(report.training)],
        neighbors=[(n.space, len(n.samples), _picture(_beside(n))) for n in report.neighbors],
        settings=json.dumps(dict(report.settings), indent=2) if report.settings else "",
    )


def _truncations(entries, entry):
    """The entries that differ from one by their psi alone, by psi."""
    psi = entry.protocol.truncation
    alike = [
        e
        for e in entries
        if e.step == entry.step
        and not differences(e.protocol._replace(truncation=psi), entry.protocol)
    ]
    found = {e.protocol.truncation: e for e in alike}
    return [found[psi] for psi in sorted(found)] if len(found) > 1 else []


def _sweep(entries):
    lines = [
        {"psi": e.protocol.truncation} | {name: m.value for name, m in e.metrics.items()}
        for e in entries
    ]
    names = dict.fromkeys(name for line in lines for name in line if line[name] is not None)
    distances = [n for n in names if n.endswith(("fid", "frechet")) and "/" not in n]
    pictures = [_curve(f"{name} over psi", lines, [name], over="psi") for name in distances]
    if {"precision", "recall"} <= names.keys():
        pictures.append(_curve("precision over recall", lines, ["precision"], over="recall"))
    return pictures


def _picture(pixels):
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    scale = max(1, round(SHOWN_WIDTH / image.width))
    uri = _uri("image/png", file.getvalue())
    return {"uri": uri, "width": scale * image.width, "height": scale * image.height}


def _beside(neighbors):
    """A grid with a sample and its neighbors in each row, the sample a little apart."""
    samples, nearest = neighbors.samples, neighbors.nearest
    count, k, height, width, channels = nearest.shape
    left = pictures.grid(samples, columns=1)
    right = pictures.grid(nearest.reshape(count * k, height, width, channels), columns=k)
    between = np.zeros((len(left), max(4, width // 4), channels), np.uint8)
    return np.concatenate([left, between, right], 1)


def _curve(title, lines, names, over="step"):
    light, dark = (
        _uri("image/svg+xml", curves.panel(lines, names, ink, over)) for ink in (INK, INK_ON_DARK)
    )
    return {"title": title, "names": ", ".join(names), "over": over, "light": light, "dark": dark}


def _speed_last(lines):
    return sorted(curves.panels(lines).items(), key=lambda item: item[0] == "images_per_second")


def _names(lines):
    return [name for names in curves.panels(lines).values() for name in names]


def _uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _number(value):
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"
