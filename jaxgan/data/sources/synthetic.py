"""Pictures that the library draws itself."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxgan.data.cache import Append, digest, in_chunks, prepared
from jaxgan.data.spec import Dataset, DataSpec, Request

_COUNT = {"train": 20_000, "holdout": 5_000}
_FIRST = {"train": 0, "holdout": 1 << 40}  # held-out pictures are numbers that training never has


class Picture(NamedTuple):
    """How pictures are drawn, and what they are."""

    # (seed, i, size) -> picture i [size, size, channels] uint8, its label vector [K] float32
    draw: Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]
    size: int  # unless asked otherwise
    channels: int
    label_kind: str
    label_names: tuple[str, ...]


def load_synthetic(request: Request, picture: Picture, version: object) -> Dataset:
    """Pictures that are drawn once and cached.

    Args:
      request: for `num_examples` pictures; 20,000, or 5,000 held-out ones, if None.
      picture: how they are drawn.
      version: what they depend on besides (seed, i, size), such that JSON can hold it.
    """
    size = request.image_size or picture.size
    count = request.num_examples or _COUNT[request.split]
    seed, first = request.seed % (1 << 64), _FIRST[request.split]
    key = digest(request.name, version, size, count, seed, first)
    build = partial(_draw_all, picture, seed, first, count, size)
    done = prepared(request.cache_dir, request.name, key, build)
    spec = DataSpec(
        request.name, size, picture.channels, picture.label_kind, picture.label_names, True
    )
    return Dataset(spec, done.images, done.labels, key)


def _draw_all(picture: Picture, seed: int, first: int, count: int, size: int, append: Append):
    def draw_some(numbers: Sequence[int]):
        images, labels = zip(*(picture.draw(seed, i, size) for i in numbers), strict=True)
        return np.stack(images), np.stack(labels)

    labels = []
    for images, found in in_chunks(draw_some, range(first, first + count), size, "drawing"):
        append(images)
        labels.append(found)
    return np.concatenate(labels), {}
