"""Pictures of the user's own, read as those that a generator draws."""

from __future__ import annotations

import pathlib

import numpy as np
from PIL import Image

from jaxgan import files
from jaxgan.data import MAX_PIXELS
from jaxgan.data.pictures import CorruptPicture, decode, most_bytes, size_of
from jaxgan.data.sources.archive import list_pictures
from jaxgan.errors import UsageError


def read_picture(path: str | pathlib.Path, size: int, channels: int) -> tuple[np.ndarray, str]:
    """Reads a picture as a generator's.

    Args:
      path: any picture.
      size: side in pixels.
      channels: 1 or 3.

    Returns:
      uint8 [size, size, channels], and a sentence that says how it was changed, or "".

    Raises:
      UsageError: if there is no such picture.
    """
    try:
        content = files.content(pathlib.Path(path).expanduser(), most_bytes(MAX_PIXELS))
        image = decode(content, size)
        width, height = size_of(content)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except (CorruptPicture, files.DamagedFile) as error:
        raise UsageError(f"{path} is not a picture: {error}") from None
    if channels == 1:
        image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    if width == height == size:
        return image, ""
    part = "it is" if width == height else "its central square is"
    return image, f"{path} has {width}x{height} pixels; {part} resized to {size}x{size}"


def read_pictures(path: str | pathlib.Path, size: int, channels: int) -> tuple[np.ndarray, str]:
    """Reads a picture, or all in a folder, sorted by name; arguments and errors as `read_picture`.

    Returns:
      uint8 [N, size, size, channels], and a sentence that says how they were changed, or "".

    Raises:
      DataError: if there is no picture in the folder.
    """
    path = pathlib.Path(path).expanduser()
    paths = [path / name for name in list_pictures(path).names] if path.is_dir() else [path]
    images, changes = zip(*(read_picture(each, size, channels) for each in paths), strict=True)
    first, *others = [change for change in changes if change] or [""]
    return np.stack(images), first + f"; so are {len(others)} others" * bool(others)
