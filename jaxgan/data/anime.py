"""Anime faces: a folder or zip of pictures that the user brings."""

from pathlib import Path

from jaxgan.data.errors import DataError
from jaxgan.data.folder import load_pictures
from jaxgan.data.paths import default_data_dir
from jaxgan.data.spec import Dataset, Request

_PLACES = ("anime", "anime.zip", "anime-faces", "anime-faces.zip")


def load_anime(request: Request) -> Dataset:
    """Anime faces, RGB, 64x64 unless asked otherwise, without labels.

    Taken from `anime`, `anime-faces` or a .zip of that name in `data_dir`, or from `data_dir`
    itself if it is the folder or zip of the pictures.
    """
    return load_pictures(request, _find(request.data_dir))


def _find(given: Path | None) -> Path:
    data_dir = given or default_data_dir()
    for place in _PLACES:
        if (data_dir / place).exists():
            return data_dir / place
    if given is not None and given.exists():
        return given
    raise DataError(
        f"the pictures of 'anime' are in none of {', '.join(_PLACES)} in {data_dir}; put a folder "
        "or .zip of faces there, or name its place with data_dir or the variable JAXGAN_DATA"
    )
