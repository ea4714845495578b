"""Pictures of any shape and kind, made square, uint8."""

import io
import logging
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from jaxgan.data.cache import ordered_map
from jaxgan.data.spec import MAX_PIXELS

SUFFIXES_1 = (".jpg", ".jpeg", ".png", ".webp", ".bmp")  # what jaxgan 0.1 read
SUFFIXES = (*SUFFIXES_1, ".tif", ".tiff", ".gif", *[".avif"] * features.check("avif"))
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", *["AVIF"] * features.check("avif"))
"""What a file may hold, whatever its name: Pillow knows others that start programs."""
PASSED_OVER = {".avif", ".heic", ".heif", ".jxl", ".jp2", ".svg", ".psd", ".tga", ".ico", ".dng"}
"""Endings of pictures that are not read, unless they are in `SUFFIXES`; so that they are said."""
EARLIER_MAX_PIXELS = 178_956_970
"""How many pixels a picture had at most in runs that do not say; at that many Pillow stops."""

# What Pillow is known to raise on damaged pictures.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,  # where warnings are errors
)
_LARGE = 1 << 24  # pixels; such pictures are decoded one at a time, since each takes much memory
_one_at_a_time = threading.Lock()
_STRIP = 1 << 21  # pixels that are converted at a time

_log = logging.getLogger(__name__)

# How a picture of any shape becomes a square one of a size in pixels.
Fit = Callable[[Image.Image, int], Image.Image]


class CorruptPicture(Exception):
    """Bytes that are not a picture."""


def square(picture: Image.Image, size: int) -> Image.Image:
    """The central square of `picture`, resized to `size`."""
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return _resize(picture, size, (left, top, left + side, top + side))


def stretch(picture: Image.Image, size: int) -> Image.Image:
    """All of `picture`, resized to `size` in both directions, so that nothing is cut off."""
    return _resize(picture, size, (0, 0, *picture.size))


def looks_like_picture(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Whether a file's name ends as a picture's does."""
    return name.lower().endswith(suffixes)


def most_bytes(max_pixels: int) -> int:
    """How long the file of a picture may be: 16 bits of four channels, unpacked, and more."""
    return 8 * max_pixels + (16 << 20)


def decode(
    data: bytes,
    size: int,
    fit: Fit = square,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """A picture as RGB or gray, `[size, size, channels]` uint8.

    Of an animation it is the first frame. The picture is turned as its EXIF orientation says,
    transparency is laid over white, 16 bits are scaled to 8, and gray, palette and CMYK converted.

    Args:
      data: the bytes of a file.
      size: pixels on a side.
      fit: how the picture becomes square: `square` or `stretch`.
      channels: 3, or 1 for its luminance.
      max_pixels: of a picture that is decoded.

    Raises:
      CorruptPicture: with the reason, if the bytes are not a whole picture, or one too large.
    """
    with _opened(data, max_pixels) as picture:
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. Not below twice the wanted one, so
        # that the averaging still does the last step.
        picture.draft(None, (2 * size, 2 * size))
        large = picture.width * picture.height > _LARGE
        with _one_at_a_time if large else nullcontext():
            ImageOps.exif_transpose(picture, in_place=True)
            rgb = _to_rgb(picture)
            if channels == 1:
                return np.asarray(fit(rgb.convert("L"), size))[..., None]
            return np.asarray(fit(rgb, size))


def size_of(data: bytes) -> tuple[int, int]:
    """The width and height in pixels of a picture that `decode` takes."""
    with _opened(data, EARLIER_MAX_PIXELS) as picture:
        return picture.size


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    if not data:
        raise CorruptPicture("zero bytes")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            pixels = picture.width * picture.height
            if pixels > max_pixels:
                raise CorruptPicture(f"{pixels:,} pixels, more than --max_pixels={max_pixels}")
            yield picture
    except UnidentifiedImageError as reason:
        raise CorruptPicture("no known kind of picture") from reason
    except _DAMAGE as reason:
        # Without the place in memory where the bytes are.
        text = re.sub(r"<\S+ object at \w+>", "it", str(reason))
        raise CorruptPicture(f"{type(reason).__name__}: {text}") from reason


def warn_of_enlarged(count: int, total: int, source: object, size: int) -> None:
    """Warns that `count` of a source's `total` pictures are smaller than `size`, if any are."""
    if count:
        _log.warning(
            "%d of %d pictures in %s are smaller than %d px and are enlarged: they stay blurred, "
            "and so will samples; a smaller image_size costs less and shows as much",
            *(count, total, source, size),
        )


def resize_one(image: np.ndarray, size: int) -> np.ndarray:
    """The central square of an array `[H, W, C]` uint8, resized; 4 channels are laid over white.

    Returns:
      `[size, size, 1]` uint8 for one channel, `[size, size, 3]` for 3 or 4.
    """
    if image.shape[-1] == 1:
        return np.asarray(square(Image.fromarray(image[..., 0]), size))[..., None]
    return np.asarray(square(_to_rgb(Image.fromarray(image)), size))


def resize_all(images: np.ndarray, size: int, source: object) -> np.ndarray:
    """`resize_one` for `[N, H, W, C]`; `source` names them in a warning if they are enlarged."""
    if images.shape[1:3] == (size, size):
        return images
    if min(images.shape[1:3]) < size:
        warn_of_enlarged(len(images), len(images), source, size)
    return np.stack(list(ordered_map(partial(resize_one, size=size), images)))


def _resize(picture: Image.Image, size: int, box: tuple[int, int, int, int]) -> Image.Image:
    """Shrinking averages with Hamming windows as wide as the ratio: no ringing, which a GAN would
    learn, and no uneven steps at broken ratios, as Pillow's BOX has them. Enlarging is bicubic."""
    width, height = box[2] - box[0], box[3] - box[1]
    if width == height == size:
        return picture.crop(box)
    larger = max(width, height) > size
    filter_ = Image.Resampling.HAMMING if larger else Image.Resampling.BICUBIC
    return picture.resize((size, size), filter_, box=box)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("its numbers are floats; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        return _in_strips(picture, _from_16_bits)
    if picture.has_transparency_data:
        return _in_strips(picture, _over_white)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _from_16_bits(picture: Image.Image) -> Image.Image:
    """Pillow's own conversion clips at 255 instead of scaling."""
    deep = np.asarray(picture).astype(np.int64)
    return Image.fromarray(np.clip((deep * 255 + 32767) // 65535, 0, 255).astype(np.uint8))


def _over_white(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _in_strips(picture: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """What `convert` makes of each pixel, as RGB, a strip at a time, which takes less memory."""
    width, height = picture.size
    result, rows = Image.new("RGB", picture.size), max(1, _STRIP // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(height, top + rows))
        result.paste(convert(picture.crop(box)).convert("RGB"), box)
    return result
