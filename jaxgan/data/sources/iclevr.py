"""i-CLEVR: scenes of one to three solids, with the color and shape of each as tags.

The pictures and label files are those of a course's exercise after El-Nouby et al., "Tell, draw,
and repeat: generating and modifying images based on continual linguistic instruction", 2019,
arXiv:1811.09845, with CLEVR's solids: eight colors of cubes, spheres and cylinders.
"""

import dataclasses
from pathlib import Path

from jaxgan.data.download import default_data_dir
from jaxgan.data.label_files import read_json, read_labels
from jaxgan.data.labels import check_names, load_conditions, match_labels
from jaxgan.data.pictures import stretch
from jaxgan.data.sources.archive import list_pictures
from jaxgan.data.sources.folder import load_pictures
from jaxgan.data.spec import Dataset, Request
from jaxgan.errors import DataError


def load_iclevr(request: Request) -> Dataset:
    """The pictures that `train.json` names, RGB, 64x64 unless asked otherwise, with 24 tags.

    `data_dir`, or `iclevr` in it, holds `images/` or `images.zip`, `objects.json` with the number
    of each tag, and `train.json`. The whole picture is resized and nothing is cropped, because
    objects may be at the edge. What `test.json` asks for, if it is there, are the conditions.
    """
    data_dir = request.data_dir or default_data_dir()
    folder = data_dir / "iclevr" if (data_dir / "iclevr").is_dir() else data_dir
    for file in ("train.json", "objects.json"):
        if not (folder / file).is_file():
            raise _missing(file, folder)
    listing = list_pictures(_find_images(folder), request.reading)
    source, names = folder / "train.json", _names(folder / "objects.json")
    labels = match_labels("tags", read_labels(source, (), "words"), listing.names, source, names)
    dataset = load_pictures(request, listing, labels, fit=stretch)
    if not (folder / "test.json").exists():
        return dataset
    conditions = load_conditions(folder / "test.json", dataset.spec)
    return dataclasses.replace(dataset, conditions=conditions)


def _find_images(folder: Path) -> Path:
    for place in ("images", "images.zip"):
        if (folder / place).exists():
            return folder / place
    raise _missing("images.zip", folder)


def _missing(file: str, folder: Path) -> DataError:
    return DataError(
        f"{file} of 'iclevr' is not in {folder}; put images.zip (or images/), train.json and "
        "objects.json there, or name their place by --data_dir or the variable JAXGAN_DATA"
    )


def _names(path: Path) -> list[str]:
    numbers = read_json(path)
    if not isinstance(numbers, dict) or not all(type(i) is int for i in numbers.values()):
        raise DataError(f'{path} must be an object {{"red cube": 0, ...}}; get it again')
    names = sorted(numbers, key=numbers.get)
    if [numbers[name] for name in names] != list(range(len(names))):
        raise DataError(
            f"{path} must number its {len(names)} names from 0 to {len(names) - 1}, not "
            f"{sorted(numbers.values())}; get it again"
        )
    check_names(names, path)
    return names
