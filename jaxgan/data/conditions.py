"""What a conditional generator is asked for: label vectors from files and from text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgan.data.errors import DataError
from jaxgan.data.spec import Dataset, DataSpec, require_labels
from jaxgan.data.tagfile import read_json
from jaxgan.errors import unknown


def load_conditions(path: str | Path, names: Sequence[str]) -> np.ndarray:
    """The M conditions in a JSON file, as vectors `[M, K]` float32 with a 1 for each name.

    The file is a list of lists of names, as i-CLEVR's `test.json`. Raises `DataError` if it is
    missing, empty or something else, and for a name that is not one of the K `names`.
    """
    path = Path(path)
    conditions = read_json(path)
    if not isinstance(conditions, list) or not all(map(_is_condition, conditions)):
        raise DataError(f'{path} must be a list of lists of names, [["red cube"], ...]; mend it')
    if not conditions:
        raise DataError(f"{path} holds no condition; write one, or name another file")
    return _vectors(conditions, names, str(path))


def parse_labels(text: str, spec: DataSpec) -> np.ndarray:
    """The M conditions in `text`, as vectors `[M, K]` float32.

    `;` separates conditions and `,` the tags of one: "red cube,blue sphere;gray cylinder". With
    classes each condition is one name: "3;7". Raises `DataError` for data without labels, an
    unknown name, and a condition without a name or, with classes, with several.
    """
    require_labels(spec)
    conditions = [part.strip() for part in text.split(";")]
    if "" in conditions:
        raise DataError(
            f"labels {text!r} have an empty condition; write names between the semicolons, such "
            f"as {';'.join(spec.label_names[:2])!r}"
        )
    if spec.label_kind == "tags":
        split = [[name.strip() for name in part.split(",")] for part in conditions]
        return _vectors(split, spec.label_names, f"labels {text!r}")
    for condition in conditions:
        if condition not in spec.label_names and "," in condition:
            raise DataError(
                f"{condition!r} asks for several classes of data set {spec.name!r} at once and a "
                "picture has exactly one; separate them with ';'"
            )
    return _vectors([[name] for name in conditions], spec.label_names, f"labels {text!r}")


def conditions_to_show(dataset: Dataset, most: int) -> np.ndarray:
    """At most `most` conditions `[M, K]` that a grid of samples shows: the data set's own first
    ones (8 at most), else its classes, else the tags of its first pictures without repetition."""
    if dataset.conditions is not None:
        return dataset.conditions[: min(8, most)]
    if dataset.spec.label_kind == "class":
        return np.eye(len(dataset.spec.label_names), dtype=np.float32)[:most]
    _, first = np.unique(dataset.labels[:1000], axis=0, return_index=True)
    return np.array(dataset.labels[np.sort(first)[: min(8, most)]])


def _is_condition(found) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(name, str) for name in found)


def _vectors(conditions: list[list[str]], names: Sequence[str], source: str) -> np.ndarray:
    number = {name: i for i, name in enumerate(names)}
    vectors = np.zeros((len(conditions), len(names)), np.float32)
    for vector, condition in zip(vectors, conditions, strict=True):
        for name in condition:
            if name not in number:
                raise DataError(f"{source}: {unknown('label', name, names)}")
            vector[number[name]] = 1
    return vectors
