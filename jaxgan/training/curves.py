"""Curves of a run's metrics over its steps."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan import files

MANY = 100  # from so many points on, a curve is drawn smooth over a faint one


def curves(metrics: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Draws every metric of a `metrics.jsonl` over the steps, one panel for each group of names."""
    from matplotlib.figure import Figure

    lines = files.read_json_lines(metrics)
    groups = panels(lines)
    if not groups:
        return
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(4.5 * columns, 3 * rows), layout="constrained")
    for place, (what, names) in enumerate(groups.items(), 1):
        axes = figure.add_subplot(rows, columns, place, title=what)
        _draw(axes, lines, names)
        axes.legend(fontsize="small")
    _save(figure, path)


def together(runs: Mapping[str, str | pathlib.Path], path: str | pathlib.Path) -> None:
    """Draws the metrics of several runs over the steps, one panel a metric, one curve a run.

    Args:
      runs: name -> its `metrics.jsonl`.
      path: of the picture.
    """
    from matplotlib.figure import Figure

    logs = {name: files.read_json_lines(log) for name, log in runs.items()}
    kinds = panels([line for lines in logs.values() for line in lines])
    metrics = [name for names in kinds.values() for name in names]
    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(4.5 * columns, 3 * rows + 1), layout="constrained")
    for place, metric in enumerate(metrics, 1):
        axes = figure.add_subplot(rows, columns, place, title=metric)
        for run, lines in logs.items():
            if any(line.get(metric) is not None for line in lines):
                _draw(axes, lines, [metric], label=run)
    handles, names = max(
        (a.get_legend_handles_labels() for a in figure.axes), key=lambda x: len(x[1])
    )
    figure.legend(handles, names, loc="outside lower center", ncols=2, fontsize="small")
    _save(figure, path)


def _save(figure, path):
    path = pathlib.Path(path)
    with files.whole(path, "wb") as file:
        figure.savefig(file, dpi=80, format=path.suffix[1:] or "png")


def panels(lines: Sequence[Mapping[str, float | None]]) -> dict[str, list[str]]:
    """Returns title -> metrics that belong into one picture, of the lines of a `metrics.jsonl`.

    `discriminator/loss` and `generator/loss` share the panel `loss`; `real` and `fake` theirs. A
    metric that was never finite has nothing to draw.
    """
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(
        n for line in lines for n, value in line.items() if value is not None
    ):
        if name in ("step", "images", "seconds"):
            continue
        what = name.rpartition("/")[2]
        what = {"real": "score", "fake": "score"}.get(what, what)
        what = "probability" if what.endswith("_probability") else what
        groups.setdefault("skipped" if what.startswith("skipped") else what, []).append(name)
    return groups


def panel(
    lines: Sequence[Mapping[str, float | None]],
    names: Sequence[str],
    ink: str,
    over: str = "step",
) -> bytes:
    """Returns an SVG file of some metrics over the steps, without a background.

    Args:
      lines: of a `metrics.jsonl`.
      names: of the metrics.
      ink: the color of all but the curves.
      over: what stands in the place of the steps.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    # Its letters stay letters, and equal curves give equal files.
    style: Any = {name: ink for name in inked} | {"svg.fonttype": "none", "svg.hashsalt": "jaxgan"}
    file = io.BytesIO()
    with rc_context(style):
        figure = Figure(figsize=(4, 2.8), layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, lines, names, over=over)
        if len(names) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _draw(axes, lines, names, label=None, over="step"):
    for name in names:
        points = [(line[over], line[name]) for line in lines if line.get(name) is not None]
        steps, values = np.asarray(points, np.float64).T
        if len(points) < MANY:
            marker = "o" if len(points) < 20 else None  # a single point has no line
            axes.plot(steps, values, label=label or name, linewidth=1, marker=marker, markersize=3)
            continue
        shown = slice(None, None, max(1, len(points) // 1000))  # more than pixels
        (line,) = axes.plot(
            steps[shown], _smooth(values)[shown], label=label or name, linewidth=1.2
        )
        axes.plot(steps[shown], values[shown], color=line.get_color(), linewidth=0.6, alpha=0.3)
    axes.set_xlabel(over)


def _smooth(values):
    """The mean over a fiftieth of the points around each one; fewer at the ends."""
    window = np.ones(len(values) // 50 | 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
