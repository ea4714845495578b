"""Anime faces: a folder or zip of pictures that the user brings."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jaxgan.data.errors import DataError
from jaxgan.data.folder import load_pictures
from jaxgan.data.labels import Labels, check_names, match_files, number_labels
from jaxgan.data.paths import default_data_dir
from jaxgan.data.spec import Dataset, Request
from jaxgan.data.tagfile import read_column

_PLACES = ("anime", "anime.zip", "anime-faces", "anime-faces.zip")


def load_anime(request: Request) -> Dataset:
    """Anime faces, RGB, 64x64 unless asked otherwise, without labels.

    Taken from `anime`, `anime-faces` or a .zip of that name in `data_dir`, or from `data_dir`
    itself if it is the folder or zip of the pictures.
    """
    return load_pictures(request, _find(request.data_dir))


def load_anime_hair(request: Request) -> Dataset:
    """The anime faces whose colour of hair is known, with that colour as their class.

    The pictures are those of `load_anime`; the colours stand in the column `hair` of the only
    `*tags*.csv` among or beside them, whose column `file` names the pictures. The classes are the
    colours as written there ("aqua", "black", ...), sorted. Pictures without a colour are left
    out, and other columns, such as `eyes`, are passed over.
    """
    root = _find(request.data_dir)
    return load_pictures(request, root, partial(_label_hair, root))


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


def _label_hair(root: Path, files: Sequence[str]) -> Labels:
    path = _find_tags(root)
    colours = match_files(read_column(path, "hair"), files, path)
    names = sorted(set().union(*colours.values()))
    check_names(names, path)
    return number_labels("class", colours, names)


def _find_tags(root: Path) -> Path:
    found = sorted(root.glob("*tags*.csv")) or sorted(root.parent.glob("*tags*.csv"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found)
    raise DataError(
        f"'anime_hair' needs one file *tags*.csv with columns file and hair beside the pictures in "
        f"{root}, and there {f'are {names}; keep one' if found else 'is none; put it there'}"
    )
