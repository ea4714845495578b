"""What a data set is: its description, its pictures in random access, and a request for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgan.data.errors import DataError


class DataSpec(NamedTuple):
    """What a model may know of its data: square pictures `[size, size, channels]` and labels.

    `label_kind` is None, "class" (labels are one-hot) or "tags" (multi-hot); `label_names` has one
    name per entry of a label vector and is empty without labels. `synthetic` marks pictures that
    the library draws itself.
    """

    name: str
    size: int
    channels: int
    label_kind: str | None
    label_names: tuple[str, ...]
    synthetic: bool = False


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures in random access.

    images: `[N, H, W, C]` uint8, in memory or memory-mapped. labels: `[N, K]` float32, one-hot for
    classes and multi-hot for tags, or None. fingerprint: a hash of the pictures' sources, of
    the settings and of labels that the user gave, equal exactly when pictures and labels are the
    same; a resumed run compares it. conditions: `[M, K]` float32, label vectors that the data set
    says to draw from, or None.
    """

    spec: DataSpec
    images: np.ndarray
    labels: np.ndarray | None
    fingerprint: str
    conditions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)


class Request(NamedTuple):
    """The arguments of `jaxgan.data.load`, checked; what every entry of `DATASETS` takes."""

    name: str
    data_dir: Path | None
    image_size: int | None
    split: str
    holdout: float
    skip_corrupt: bool
    cache_dir: Path
    num_examples: int | None
    seed: int
    labels: str | Path | None = None


def require_labels(spec: DataSpec, kind: str | None = None) -> None:
    """Raises `DataError` if the data have no labels, or labels of another `kind`."""
    if spec.label_kind is None:
        raise DataError(
            f"labels were asked for and data set {spec.name!r} has none; labelled ones are "
            "mnist, fashion_mnist, cifar10, shapes, glyphs, iclevr, anime_hair and a folder of "
            "your own with labels (--tags)"
        )
    if kind is not None and spec.label_kind != kind:
        raise DataError(
            f"labels of the kind {kind!r} were asked for and those of data set {spec.name!r} "
            f"are {spec.label_kind!r}"
        )


def one_hot(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Class numbers `[N]` as one-hot vectors `[N, num_classes]` float32."""
    return np.eye(num_classes, dtype=np.float32)[classes]
