"""What a data set is: its description, its pictures in random access, and a request for it."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgan.errors import DataError

MAX_PIXELS = 50_000_000
"""How many pixels a picture in a file has at most, unless said otherwise."""


class DataSpec(NamedTuple):
    """What a model may know of its data: square pictures `[size, size, channels]` and labels."""

    name: str
    size: int
    channels: int
    label_kind: str | None  # "class" (labels are one-hot), "tags" (multi-hot) or None
    label_names: tuple[str, ...]  # one for each entry of a label vector; empty without labels
    synthetic: bool = False  # drawn by the library itself


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
    tags: str | Path | None = None
    label_kind: str | None = None
    unlabeled: str = "refuse"
    channels: int | None = None
    reading: int = 2
    max_pixels: int = MAX_PIXELS
    address: str | None = None  # where `data_dir` is a copy of, if that was an address of fsspec


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures in random access.

    The fingerprint is a hash of the pictures' sources, of the settings, and of labels that the user
    gave. It is equal exactly when pictures and labels are the same; a resumed run compares it.
    """

    spec: DataSpec
    images: np.ndarray  # [N, H, W, C] uint8, in memory or memory-mapped
    labels: np.ndarray | None  # [N, K] float32
    fingerprint: str
    conditions: np.ndarray | None = None  # [M, K] float32, what the data set says to draw
    request: Request | None = None  # how it was asked for, if it was loaded by name
    labeled: int | None = None  # of how many pictures training sees the label; None: of all

    def __len__(self) -> int:
        return len(self.images)


def part_of(request: Request, names: Iterable[str]) -> list[int]:
    """The numbers of the pictures in the part `request.split` of a set without parts of its own.

    A picture is held out if a hash of its name falls below the fraction `request.holdout`, so it
    stays where it is when others are added or taken away.

    Raises:
      DataError: if held-out pictures are asked for and the fraction is 0.
    """
    if request.split == "holdout" and request.holdout == 0:
        raise DataError(
            f"data set {request.name!r} has no held-out part of its own; ask for one with "
            "--holdout=0.1, say, in training and in evaluation"
        )
    return [i for i, name in enumerate(names) if in_part(request, name)]


def in_part(request: Request, name: str) -> bool:
    """Whether the picture of a name is in the part `request.split`."""
    held_out = zlib.crc32(name.encode("utf-8", "surrogateescape")) < request.holdout * 2**32
    return held_out == (request.split == "holdout")


def require_labels(spec: DataSpec, kind: str | None = None, model: str | None = None) -> None:
    """Raises `DataError` if the data have no labels, or others than of the `kind` a model wants."""
    if spec.label_kind is None:
        wanted = f"{model} needs labels" if model else "labels were asked for"
        other = "; or try --model=dcgan, which needs none" * (model is not None)
        raise DataError(
            f"{wanted} and data set {spec.name!r} has none; labeled ones are mnist, fashion_mnist, "
            f"cifar10, shapes, glyphs, iclevr, anime_hair and a folder of your own with labels "
            f"(--tags){other}"
        )
    if kind is not None and spec.label_kind != kind:
        raise DataError(
            f"{model or 'this'} needs labels of the kind {kind!r} and those of data set "
            f"{spec.name!r} are {spec.label_kind!r}; where each picture has one, "
            f"--label_kind={kind} reads them so, and acgan, dcgan and others take both kinds"
        )


def one_hot(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Class numbers `[N]` as label vectors `[N, num_classes]` float32."""
    return np.eye(num_classes, dtype=np.float32)[classes]


def multi_hot(numbers: Sequence[Sequence[int]], num_labels: int) -> np.ndarray:
    """The label numbers of N pictures as label vectors `[N, num_labels]` float32."""
    vectors = np.zeros((len(numbers), num_labels), np.float32)
    for vector, on in zip(vectors, numbers, strict=True):
        vector[list(on)] = 1
    return vectors
