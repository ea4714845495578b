"""Synthetic: digits in the text fonts that come with Matplotlib, in the style of MNIST."""

import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxgan.data.sources.synthetic import Picture, load_synthetic
from jaxgan.data.spec import Dataset, Request

# Text fonts whose digits are of one height; the symbol fonts and old-style digits are left out.
_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmti10",
    "cmtt10",
)
_DIGITS = tuple("0123456789")
_BOX = 96  # pixels of a stencil; the digit fills the middle 5/7, as in MNIST
_THIN = 6.0  # pixels; a stroke with a smaller radius has hairlines that must not get thinner
_VERSION = 1  # raise it when the pictures change


def load_glyphs(request: Request) -> Dataset:
    """Digits in white on black, `[N, 28, 28, 1]` unless asked otherwise, 10 classes. Synthetic.

    Picture i depends on (seed, i) and on the font files alone.
    """
    picture = Picture(draw, size=28, channels=1, label_kind="class", label_names=_DIGITS)
    return load_synthetic(request, picture, version=[_VERSION, _fonts_checksum()])


def draw(seed: int, i: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture i, `[size, size, 1]` uint8, and its class, one-hot `[10]` float32."""
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, i], np.uint64)))
    digit, font = int(10 * rng.random()), int(len(_FONTS) * rng.random())
    label = np.zeros(10, np.float32)
    label[digit] = 1
    u, v = _warp(rng, size)
    stencil = _stencils()[font, digit]
    radius = stencil.max()
    growth = np.clip(_around(rng, 4.6, 1.8) - radius, 0.6 if radius < _THIN else -1.5, 3.5)
    ink = _sample(stencil, u, v) + np.float32(growth)
    ink = np.clip(ink * np.float32(0.3 + 0.2 * rng.random()) + np.float32(0.5), 0, 1)
    image = ink.reshape(size, 2, size, 2).mean((1, 3))
    return (255 * image + 0.5).astype(np.uint8)[..., None], label


def _warp(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels lie on the stencil, in [-1, 1]: an affine map and a slow wave."""
    turn, slant = _around(rng, 0, 0.22), _around(rng, 0.0, 0.3)
    wide, high = _around(rng, 1, 0.18), _around(rng, 1, 0.12)
    shift_u, shift_v = _around(rng, 0, 0.12), _around(rng, 0, 0.12)
    axis = ((np.arange(2 * size) + 0.5) / size - 1).astype(np.float32)
    x, y = axis[None, :] - np.float32(shift_u), axis[:, None] - np.float32(shift_v)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u = (cos * x + sin * y + np.float32(slant) * y) / np.float32(wide)
    v = (cos * y - sin * x) / np.float32(high)
    phase = (2 * np.pi * rng.random(4)).astype(np.float32)
    pace = (1.5 + 2 * rng.random(4)).astype(np.float32)
    reach = np.float32(0.05 * rng.random())
    wave_u = np.sin(pace[0] * v + phase[0]) + np.sin(pace[1] * u + phase[1])
    wave_v = np.sin(pace[2] * u + phase[2]) + np.sin(pace[3] * v + phase[3])
    return u + reach * wave_u, v + reach * wave_v


def _sample(stencil: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Bilinear; the stencil's edge, which is black, goes on outside."""
    column = np.clip((u + 1) * np.float32(_BOX / 2) - np.float32(0.5), 0, _BOX - 1.001)
    row = np.clip((v + 1) * np.float32(_BOX / 2) - np.float32(0.5), 0, _BOX - 1.001)
    left, top = column.astype(np.intp), row.astype(np.intp)
    across, down = column - left, row - top
    flat, corner = stencil.ravel(), top * _BOX + left
    upper = flat[corner] * (1 - across) + flat[corner + 1] * across
    lower = flat[corner + _BOX] * (1 - across) + flat[corner + _BOX + 1] * across
    return upper * (1 - down) + lower * down


@cache
def _stencils() -> np.ndarray:
    """How many pixels inside the outline each place is, `[fonts, 10, box, box]` float32."""
    fonts = [ImageFont.truetype(str(path), 4 * _BOX) for path in _font_paths()]
    return np.stack([[_stencil(font, digit) for digit in _DIGITS] for font in fonts])


def _stencil(font: ImageFont.FreeTypeFont, digit: str) -> np.ndarray:
    left, top, right, bottom = font.getbbox(digit)
    canvas = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(canvas).text((-left, -top), digit, fill=255, font=font)
    scale = 5 / 7 * _BOX / max(canvas.size)
    width, height = (max(1, round(side * scale)) for side in canvas.size)
    canvas = canvas.resize((width, height), Image.Resampling.BOX)
    stencil = Image.new("L", (_BOX, _BOX))
    stencil.paste(canvas, ((_BOX - width) // 2, (_BOX - height) // 2))
    inside = np.asarray(stencil) >= 128
    return _distance_to(~inside) - _distance_to(inside)


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """The distance of every pixel from the mask (Felzenszwalb and Huttenlocher, 2012, eq. 3)."""
    place = np.arange(_BOX, dtype=np.float32)
    last = np.where(mask, place[:, None], np.float32(-1e3))  # the mask's rows in each column
    above = place[:, None] - np.maximum.accumulate(last, 0)
    following = np.where(mask, place[:, None], np.float32(1e3))
    below = np.minimum.accumulate(following[::-1], 0)[::-1] - place[:, None]
    in_column = np.minimum(above, below) ** 2
    across = (place[:, None] - place) ** 2
    return np.sqrt((in_column[:, None, :] + across).min(2))


def _font_paths() -> list[Path]:
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return [folder / f"{name}.ttf" for name in _FONTS]


def _fonts_checksum() -> list[int]:
    return [zlib.crc32(path.read_bytes()) for path in _font_paths()]


def _around(rng: np.random.Generator, middle: float, reach: float) -> float:
    return middle + reach * (2 * rng.random() - 1)
