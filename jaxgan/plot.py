"""Pictures for people: image grids and curves of the metrics."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgan import log


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


def curves(metrics: str | pathlib.Path, path: str | pathlib.Path) -> None:
    """Draws every metric of a `metrics.jsonl` over the steps, one panel for each group of names.

    `discriminator/loss` and `generator/loss` share the panel `loss`; `real` and `fake` theirs.
    """
    from matplotlib.figure import Figure

    lines = log.read(metrics)
    panels: dict[str, list[str]] = {}
    # A metric that was never finite has nothing to draw.
    for name in dict.fromkeys(
        n for line in lines for n, value in line.items() if value is not None
    ):
        if name in ("step", "images", "seconds"):
            continue
        what = name.rpartition("/")[2]
        what = {"real": "score", "fake": "score"}.get(what, what)
        what = "probability" if what.endswith("_probability") else what
        panels.setdefault("skipped" if what.startswith("skipped") else what, []).append(name)
    if not panels:
        return
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.5 * columns, 3 * rows), layout="constrained")
    for place, (what, names) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place, title=what, xlabel="step")
        for name in names:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            axes.plot(*zip(*points, strict=True), label=name, linewidth=1)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=80)
