"""Any picture, as a square of uint8."""

import io
import logging
import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, ImageOps

from jaxgan.data.parallel import ordered_map

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

# What Pillow is known to raise on damaged pictures (UnidentifiedImageError is an OSError).
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


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


def decode(data: bytes, size: int, fit: Fit = square) -> np.ndarray:
    """The picture in `data` as RGB, `[size, size, 3]` uint8.

    The first frame of an animation, turned as its EXIF orientation says; transparency over white;
    16 bits scaled to 8; grey, palette and CMYK converted; made square by `fit`: the
    central square resized, or the whole with `stretch`. Raises `CorruptPicture`, with the reason.
    """
    if not data:
        raise CorruptPicture("zero bytes")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. Not below twice the wanted one,
            # so that the averaging still does the last step.
            picture.draft(None, (2 * size, 2 * size))
            picture = ImageOps.exif_transpose(picture)
            return np.asarray(fit(_to_rgb(picture), size))
    except _DAMAGE as reason:
        raise CorruptPicture(f"{type(reason).__name__}: {reason}") from reason


def shorter_side(data: bytes) -> int:
    """Its length in pixels, for a picture that `decode` takes."""
    with Image.open(io.BytesIO(data)) as picture:
        return min(picture.size)


def warn_of_enlarged(count: int, total: int, source: object, size: int) -> None:
    """Says that `count` of the `total` pictures of a source are smaller than `size`, if any are."""
    if count:
        _log.warning(
            "%d of %d pictures in %s are smaller than %d px and are enlarged: they stay blurred, "
            "and so will samples; a smaller image_size costs less and shows as much",
            *(count, total, source, size),
        )


def resize_one(image: np.ndarray, size: int) -> np.ndarray:
    """`square` for an array `[H, W, C]` uint8 with 1, 3 or 4 channels; 4 go over white."""
    if image.shape[-1] == 1:
        return np.asarray(square(Image.fromarray(image[..., 0]), size))[..., None]
    return np.asarray(square(_to_rgb(Image.fromarray(image)), size))


def resize_all(images: np.ndarray, size: int, source: object) -> np.ndarray:
    """`resize_one` for `[N, H, W, C]`, of which `source` says where they are from."""
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
    if picture.mode.startswith("I"):  # Pillow's own conversion clips at 255 instead of scaling
        deep = np.asarray(picture).astype(np.int64)
        return Image.fromarray(
            np.clip((deep * 255 + 32767) // 65535, 0, 255).astype(np.uint8)
        ).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")
