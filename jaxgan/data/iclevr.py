"""i-CLEVR: scenes of one to three solids, with the colour and shape of each as tags.

The pictures and label files are those of a course's exercise after El-Nouby et al., "Tell, draw,
and repeat: generating and modifying images based on continual linguistic instruction", 2019,
arXiv:1811.09845, with CLEVR's solids: eight colours of cubes, spheres and cylinders.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jaxgan.data.conditions import load_conditions
from jaxgan.data.errors import DataError
from jaxgan.data.folder import load_pictures
from jaxgan.data.labels import Labels, check_names, match_files, number_labels
from jaxgan.data.paths import default_data_dir
from jaxgan.data.pictures import stretch
from jaxgan.data.spec import Dataset, Request
from jaxgan.data.tagfile import read_json, read_tags
from jaxgan.errors import unknown


def load_iclevr(request: Request) -> Dataset:
    """The pictures that `train.json` names, RGB, 64x64 unless asked otherwise, with 24 tags.

    `data_dir`, or `iclevr` in it, holds `images/` or `images.zip`, `objects.json` with the number
    of each tag, and `train.json`. The whole picture is resized and nothing is cropped, for its
    objects may be at the edge. Those of `test.json`, if it is there, are its conditions.
    """
    data_dir = request.data_dir or default_data_dir()
    folder = data_dir / "iclevr" if (data_dir / "iclevr").is_dir() else data_dir
    for file in ("train.json", "objects.json"):
        if not (folder / file).is_file():
            raise _missing(file, folder)
    dataset = load_pictures(request, _find_images(folder), partial(_label, folder), fit=stretch)
    if not (folder / "test.json").exists():
        return dataset
    conditions = load_conditions(folder / "test.json", dataset.spec.label_names)
    return dataclasses.replace(dataset, conditions=conditions)


def _find_images(folder: Path) -> Path:
    for place in ("images", "images.zip"):
        if (folder / place).exists():
            return folder / place
    raise _missing("images.zip", folder)


def _missing(file: str, folder: Path) -> DataError:
    return DataError(
        f"{file} of 'iclevr' is not in {folder}; put images.zip (or images/), train.json and "
        "objects.json there, or name their place with data_dir or the variable JAXGAN_DATA"
    )


def _label(folder: Path, files: Sequence[str]) -> Labels:
    names = _names(folder / "objects.json")
    source = folder / "train.json"
    tags = match_files(read_tags(source), files, source)
    for tag in sorted(set().union(*tags.values()) - set(names)):
        raise DataError(f"{source}: {unknown('tag', tag, names)}")
    return number_labels("tags", tags, names)


def _names(path: Path) -> list[str]:
    numbers = read_json(path)
    if not isinstance(numbers, dict) or not all(type(i) is int for i in numbers.values()):
        raise DataError(f'{path} must be an object {{"red cube": 0, ...}}; get it anew')
    names = sorted(numbers, key=numbers.get)
    if [numbers[name] for name in names] != list(range(len(names))):
        raise DataError(
            f"{path} must number its {len(names)} names from 0 to {len(names) - 1}, not "
            f"{sorted(numbers.values())}; get it anew"
        )
    check_names(names, path)
    return names
