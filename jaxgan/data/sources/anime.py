"""Anime faces: a folder or zip of pictures of the user's own."""

from pathlib import Path

from jaxgan.data.download import default_data_dir
from jaxgan.data.label_files import read_labels
from jaxgan.data.labels import match_labels
from jaxgan.data.sources.archive import list_pictures
from jaxgan.data.sources.folder import load_pictures
from jaxgan.data.spec import Dataset, Request
from jaxgan.errors import DataError

_PLACES = ("anime", "anime.zip", "anime-faces", "anime-faces.zip")


def load_anime(request: Request) -> Dataset:
    """Anime faces, RGB, 64x64 unless asked otherwise, without labels.

    Taken from `anime`, `anime-faces` or a .zip of that name in `data_dir`, or from `data_dir`
    itself if it is the folder or zip of the pictures.
    """
    return load_pictures(request, list_pictures(_find(request.data_dir), request.reading))


def load_anime_hair(request: Request) -> Dataset:
    """The anime faces whose hair color is known, with that color as their class.

    The pictures are those of `load_anime`. The only file `*tags*.csv` in or next to their folder
    names the pictures in its column `file` and their colors in `hair`; other columns are ignored.
    The classes are the colors as written there ("aqua", "black", ...), sorted. Pictures without a
    color are left out.
    """
    listing = list_pictures(_find(request.data_dir), request.reading)
    path = _find_table(listing.root)
    colors = read_labels(path, ("hair",), "class")
    known = {name: words for name, words in colors.items() if words}
    labels = match_labels("class", known, listing.names, path)
    return load_pictures(request, listing, labels)


def _find(given: Path | None) -> Path:
    data_dir = given or default_data_dir()
    for place in _PLACES:
        if (data_dir / place).exists():
            return data_dir / place
    if given is not None and given.exists():
        return given
    raise DataError(
        f"the pictures of 'anime' are in none of {', '.join(_PLACES)} in {data_dir}; put a folder "
        "or .zip of faces there, or name its place by --data_dir or the variable JAXGAN_DATA"
    )


def _find_table(root: Path) -> Path:
    found = sorted(root.glob("*tags*.csv")) or sorted(root.parent.glob("*tags*.csv"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found)
    raise DataError(
        f"'anime_hair' needs one file *tags*.csv with columns file and hair beside the pictures in "
        f"{root}, and there {f'are {names}; keep one' if found else 'is none; put it there'}"
    )
