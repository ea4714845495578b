"""Pictures that the library draws itself."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from jaxgan.data.cache import Append, chunked, digest, prepared
from jaxgan.data.parallel import ordered_map
from jaxgan.data.spec import Dataset, DataSpec, Request

_COUNT = {"train": 20_000, "holdout": 5_000}
_FIRST = {"train": 0, "holdout": 1 << 40}  # held-out pictures are numbers that training never has


class Picture(NamedTuple):
    """How a picture is drawn: (seed, i, size) -> image `[size, size, channels]`, label `[K]`."""

    draw: Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]
    size: int
    channels: int
    label_kind: str
    label_names: tuple[str, ...]


def load_synthetic(request: Request, picture: Picture, version) -> Dataset:
    """`num_examples` pictures (20,000, or 5,000 held-out ones, if None), drawn once and cached.

    `version` is anything besides (seed, i, size) that the pictures depend on.
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
    def draw_some(numbers: range):
        images, labels = zip(*(picture.draw(seed, i, size) for i in numbers), strict=True)
        return np.stack(images), np.stack(labels)

    labels = []
    with tqdm(total=count, desc="drawing", unit="img", disable=None) as bar:
        for images, some in ordered_map(draw_some, chunked(range(first, first + count), size)):
            append(images)
            labels.append(some)
            bar.update(len(images))
    return np.concatenate(labels), {}
