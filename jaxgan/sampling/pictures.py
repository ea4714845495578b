"""Pictures for people: grids of images, captions, image files, animations."""

from __future__ import annotations

import functools
import math
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgan import files
from jaxgan.errors import UsageError

LEGIBLE = 64  # pixels on a side

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


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


def enlarged(pictures: np.ndarray, side: int | None = None) -> np.ndarray:
    """Repeats the pixels of small pictures [..., H, W, C], so that people see more than a stamp.

    Args:
      pictures: some, or a grid of them.
      side: of one of them, in pixels; the larger one of H and W by default.

    Returns:
      The pictures by the largest whole factor that leaves a side at most `LEGIBLE` pixels.
    """
    factor = max(1, LEGIBLE // (side or max(pictures.shape[-3:-1])))
    return pictures.repeat(factor, -3).repeat(factor, -2) if factor > 1 else pictures


def captioned(grid: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Writes a line of text to the left of each row of a grid [H, W, C] whose rows are equal.

    A text longer than the grid is wide, and than 160 pixels, is cut. It is written in a font of the
    machine that has its letters, where the one that Pillow brings has not.
    """
    height, most = len(grid) / len(captions), max(160, grid.shape[1])
    size = max(8, min(14, int(height * 0.6)))
    fonts = [_font_for(text, size) for text in captions]
    texts = [_cut(*both, most) for both in zip(captions, fonts, strict=True)]
    width = max(font.getlength(text) for text, font in zip(texts, fonts, strict=True))
    margin = Image.new("L", (math.ceil(width) + 8, len(grid)))
    for row, (text, font) in enumerate(zip(texts, fonts, strict=True)):
        ImageDraw.Draw(margin).text((4, (row + 0.5) * height), text, 255, font, anchor="lm")
    text = np.repeat(np.asarray(margin)[..., None], grid.shape[-1], -1)
    return np.concatenate([text, grid], 1)


def headed(grid: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Writes a line of text above each column of a grid [H, W, C], from the top down, as
    `captioned` does beside each row."""
    return np.rot90(captioned(np.rot90(grid), captions[::-1]), -1)


def _cut(text: str, font: Font, most: int) -> str:
    if font.getlength(text) <= most:
        return text
    length = next(n for n in range(len(text), -1, -1) if font.getlength(text[:n] + "...") <= most)
    return text[:length].rstrip() + "..."


def _font_for(text: str, size: int) -> Font:
    """Pillow's own font, or the machine's that has the most of a text's characters."""
    own = ImageFont.load_default(size)
    missing = bytes(own.getmask("\U0010ffff"))
    if not any(bytes(own.getmask(letter)) == missing for letter in set(text)):
        return own
    wanted = {ord(letter) for letter in text if not letter.isspace()}
    best = max(_letters(), key=lambda path: len(wanted & _letters()[path]), default=None)
    if best is None or not wanted & _letters()[best]:
        return own
    return ImageFont.truetype(best, size)


@functools.cache
def _letters() -> dict[str, frozenset[int]]:
    """The characters of each font that is installed, by its path."""
    from matplotlib import font_manager, ft2font

    found = {}
    for path in sorted(font_manager.findSystemFonts()):
        try:
            found[path] = frozenset(ft2font.FT2Font(path).get_charmap())
        except (OSError, RuntimeError):  # a font that FreeType cannot read
            continue
    return found


def save_image(path: str | pathlib.Path, image: np.ndarray) -> None:
    """Writes a uint8 image [H, W, 1 or 3], whole or not at all; the name's ending says the format.

    Raises:
      UsageError: for an ending that is no picture's.
      OSError: if it cannot be written.
    """
    _save(pathlib.Path(path), Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image))


def save_animation(path: str | pathlib.Path, images: np.ndarray, seconds: float = 0.05) -> None:
    """Writes uint8 images [N, H, W, 1 or 3] as a GIF that starts again after the last one, or as an
    MP4; whole or not at all.

    Args:
      path: of the file.
      images: the frames.
      seconds: how long each is shown, in hundredths.

    Raises:
      UsageError: for an MP4 without the package that makes it.
    """
    if pathlib.Path(path).suffix == ".mp4":
        _save_video(pathlib.Path(path), images, round(1 / seconds))
        return
    first, *others = (Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x) for x in images)
    duration = round(1000 * seconds)
    options = {"save_all": True, "append_images": others, "duration": duration, "loop": 0}
    _save(pathlib.Path(path), first, **options)


def check_video() -> None:
    """Raises UsageError if no MP4 can be made."""
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        raise UsageError(
            "an .mp4 takes the package imageio-ffmpeg; pip install imageio-ffmpeg, or name a .gif"
        ) from None


def _save_video(path: pathlib.Path, images: np.ndarray, rate: int) -> None:
    check_video()
    import imageio_ffmpeg

    frames = enlarged(images).repeat(3 // images.shape[-1], -1)
    even = [(0, side % 2) for side in frames.shape[1:3]]  # as the format wants its sides
    frames = np.pad(frames, [(0, 0), *even, (0, 0)], mode="edge")
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "video.mp4"
        size = frames.shape[2], frames.shape[1]
        writer = imageio_ffmpeg.write_frames(str(made), size, fps=rate, macro_block_size=2)
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        with files.whole(path, "wb") as file:
            file.write(made.read_bytes())


def _save(path: pathlib.Path, image: Image.Image, **options: Any) -> None:
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in Image.SAVE:
        raise UsageError(f"{path} must end as a picture's name does, in .png, say")
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path, "wb") as file:
        image.save(file, kind, **options)


def save_grid(
    path: str | pathlib.Path,
    images: np.ndarray,
    *,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
) -> None:
    """Writes uint8 images [N, H, W, C] as one file.

    Args:
      path: of the file; its ending says the format, as Pillow knows it.
      images: row by row.
      columns: images in a row; as square as possible by default.
      captions: a text for each row.
    """
    tiled = grid(enlarged(images), columns)
    save_image(pathlib.Path(path), tiled if captions is None else captioned(tiled, captions))
