"""One HTML file that tells how good a run is; it needs no other file and no network."""

from __future__ import annotations

import base64
import importlib.resources
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from jaxgan import plot
from jaxgan.metrics.panel import Finding

WORDS = {"bad": "Bad", "watch": "Watch", "good": "Good"}
INK, INK_ON_DARK = "#333333", "#cccccc"  # as in the page's style
SHOWN_WIDTH = 640  # smaller pictures are enlarged to about that many pixels


class Metric(NamedTuple):
    """A row of the table."""

    name: str
    value: float
    low: float | None = None  # of its interval
    high: float | None = None
    better: str = ""  # "lower" or "higher"


class Neighbours(NamedTuple):
    """Samples beside their nearest training pictures."""

    space: str  # what nearness was measured on: "pixels", "features"
    samples: np.ndarray  # [N, H, W, C] uint8
    nearest: np.ndarray  # [N, k, H, W, C] uint8, the nearest first


class Report(NamedTuple):
    """What the page shows; what is empty has no place on it."""

    model: str
    dataset: str
    step: int
    samples: np.ndarray  # a grid [H, W, 1 or 3] uint8
    findings: Sequence[Finding] = ()
    metrics: Sequence[Metric] = ()
    protocol: Mapping[str, Any] = MappingProxyType({})  # what numbers beside these must share
    training: Sequence[Mapping[str, float | None]] = ()  # the lines of metrics.jsonl
    evaluations: Sequence[Mapping[str, float | None]] = ()  # "step" and metrics, in order
    neighbours: Sequence[Neighbours] = ()
    settings: Mapping[str, Any] = MappingProxyType({})  # config.json


def write(path: str | pathlib.Path, report: Report) -> None:
    """Writes the page, all of it or nothing."""
    path = pathlib.Path(path)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(render(report), encoding="utf-8")
    os.replace(temporary, path)


def render(report: Report) -> str:
    """Returns the page as HTML."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = importlib.resources.files("jaxgan").joinpath("report.html").read_text("utf-8")
    environment.filters["number"] = _number
    return environment.from_string(source).render(
        report=report,
        words=WORDS,
        counts={v: sum(f.verdict == v for f in report.findings) for v in WORDS},
        findings=sorted(report.findings, key=lambda f: list(WORDS).index(f.verdict)),
        samples=_picture(report.samples),
        quality=[_curve(n, report.evaluations, [n]) for n in _names(report.evaluations)],
        curves=[_curve(t, report.training, n) for t, n in _speed_last(report.training)],
        neighbours=[(n.space, len(n.samples), _picture(_beside(n))) for n in report.neighbours],
        settings=json.dumps(dict(report.settings), indent=2) if report.settings else "",
    )


class _Shown(NamedTuple):
    uri: str
    width: int
    height: int


def _picture(pixels):
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    scale = max(1, round(SHOWN_WIDTH / image.width))
    return _Shown(_uri("image/png", file.getvalue()), scale * image.width, scale * image.height)


def _beside(neighbours):
    """A grid with a sample and its neighbours in each row, the sample a little apart."""
    samples, nearest = neighbours.samples, neighbours.nearest
    count, k, height, width, channels = nearest.shape
    left = plot.grid(samples, columns=1)
    right = plot.grid(nearest.reshape(count * k, height, width, channels), columns=k)
    between = np.zeros((len(left), max(4, width // 4), channels), np.uint8)
    return np.concatenate([left, between, right], 1)


class _Curve(NamedTuple):
    title: str
    names: str
    light: str
    dark: str


def _curve(title, lines, names):
    light, dark = (
        _uri("image/svg+xml", plot.panel(lines, names, ink)) for ink in (INK, INK_ON_DARK)
    )
    return _Curve(title, ", ".join(names), light, dark)


def _speed_last(lines):
    return sorted(plot.panels(lines).items(), key=lambda item: item[0] == "images_per_second")


def _names(lines):
    return [name for names in plot.panels(lines).values() for name in names]


def _uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _number(value):
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"
