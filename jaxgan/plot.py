"""Pictures for people: image grids and curves of the metrics."""

from __future__ import annotations

import io
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgan import log

MANY = 100  # from so many points on, a curve is drawn smooth over a faint one


def grid(images: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Tiles uint8 images [N, H, W, C] row by row into one [H', W', C], black between them.

    Args:
      images: what to tile.
      columns: images in a row; as square as possible by default.
      gap: pixels between two images.
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height + gap, width + gap, channels), np.uint8)
    cells[:count, :height, :width] = images
    tiled = cells.reshape(rows, columns, height + gap, width + gap, channels).swapaxes(1, 2)
    tiled = tiled.reshape(rows * (height + gap), columns * (width + gap), channels)
    return tiled[: len(tiled) - gap, : tiled.shape[1] - gap]


def captioned(grid: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Writes a line of text to the left of each row of a grid [H, W, C] whose rows are equal."""
    height = len(grid) / len(captions)
    font = ImageFont.load_default(max(8, min(14, int(height * 0.6))))
    left, _, right, _ = font.getbbox(max(captions, key=font.getlength))
    margin = Image.new("L", (int(right - left) + 8, len(grid)))
    for row, text in enumerate(captions):
        ImageDraw.Draw(margin).text((4, (row + 0.5) * height), text, 255, font, anchor="lm")
    text = np.repeat(np.asarray(margin)[..., None], grid.shape[-1], -1)
    return np.concatenate([text, grid], 1)


def save_image(path: str | pathlib.Path, image: np.ndarray) -> None:
    """Writes a uint8 image [H, W, 1 or 3]; the format follows the name's ending."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)


def save_animation(path: str | pathlib.Path, images: np.ndarray, seconds: float = 0.05) -> None:
    """Writes uint8 images [N, H, W, 1 or 3] as a GIF that starts again after the last one.

    Args:
      path: of the file.
      images: the frames.
      seconds: how long each is shown, in hundredths.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x) for x in images)
    duration = round(1000 * seconds)
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0)


def curves(metrics: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Draws every metric of a `metrics.jsonl` over the steps, one panel for each group of names."""
    from matplotlib.figure import Figure

    lines = log.read(metrics)
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
    figure.savefig(path, dpi=80)


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


def panel(lines: Sequence[Mapping[str, float | None]], names: Sequence[str], ink: str) -> bytes:
    """Returns an SVG file of some metrics over the steps, without a background.

    Args:
      lines: of a `metrics.jsonl`.
      names: of the metrics.
      ink: the colour of all but the curves.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    # Its letters stay letters, and equal curves give equal files.
    style = {name: ink for name in inked} | {"svg.fonttype": "none", "svg.hashsalt": "jaxgan"}
    file = io.BytesIO()
    with rc_context(style):
        figure = Figure(figsize=(4, 2.8), layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, lines, names)
        if len(names) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def _draw(axes, lines, names):
    for name in names:
        points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        steps, values = np.asarray(points, np.float64).T
        if len(points) < MANY:
            marker = "o" if len(points) < 20 else None  # a single point has no line
            axes.plot(steps, values, label=name, linewidth=1, marker=marker, markersize=3)
            continue
        some = slice(None, None, max(1, len(points) // 1000))  # more than pixels
        (line,) = axes.plot(steps[some], _smooth(values)[some], label=name, linewidth=1.2)
        axes.plot(steps[some], values[some], color=line.get_color(), linewidth=0.6, alpha=0.3)
    axes.set_xlabel("step")


def _smooth(values):
    """The mean over a fiftieth of the points around each one; fewer at the ends."""
    window = np.ones(len(values) // 50 | 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
