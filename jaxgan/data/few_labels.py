"""Training with the labels of a few pictures: which ones, and what a batch then holds."""

import dataclasses
from functools import lru_cache

import numpy as np

from jaxgan.data.spec import Dataset, require_labels
from jaxgan.errors import DataError

_WORD = (1 << 64) - 1


def with_few_labels(dataset: Dataset, count: int) -> Dataset:
    """Returns the data set whose loader shows the labels of `count` pictures alone, as many of each
    class. A run's seed chooses them.

    Raises:
      DataError: if the pictures have no classes, or classes have too few pictures for it.
    """
    require_labels(dataset.spec, "class", model="--labeled")
    names = dataset.spec.label_names
    there = dataset.labels.sum(0).astype(int)
    most, per_class = int(there.min()) * len(names), count // len(names)
    if count < 1 or count % len(names):
        near = min(most, max(1, round(count / len(names))) * len(names))
        raise DataError(
            f"--labeled={count} cannot be divided among the {len(names)} classes of data set "
            f"{dataset.spec.name!r}; try --labeled={near}"
        )
    if per_class > there.min():
        raise DataError(
            f"--labeled={count} asks for {per_class} pictures of each class and {there.min()} show "
            f"{names[there.argmin()]!r}; try --labeled={most}"
        )
    return dataclasses.replace(dataset, labeled=count)


def labeled_examples(dataset: Dataset, seed: int) -> np.ndarray:
    """The numbers `[n]` int64 of the pictures whose labels are shown, class after class."""
    return _labeled_examples(dataset, seed & _WORD)


@lru_cache(maxsize=4)
def _labeled_examples(dataset, seed):
    # Raw words, as in the loader; its epochs never get to this stream.
    words = np.random.Philox(key=np.array([seed, _WORD], np.uint64)).random_raw(len(dataset))
    order = np.argsort(words, kind="stable")
    classes = dataset.labels[order].argmax(1)
    each = dataset.labeled // dataset.labels.shape[1]
    return np.concatenate([order[classes == k][:each] for k in range(dataset.labels.shape[1])])


def shown(dataset: Dataset, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the arrays `[N, ...]` whose rows make a batch, by name, and those `[n, ...]` of the
    labeled examples, if few are, whose rows come in an order of their own."""
    if dataset.labels is None:
        return {"image": dataset.images}, {}
    if dataset.labeled is None:
        return {"image": dataset.images, "label": dataset.labels}, {}
    chosen = labeled_examples(dataset, seed)
    few = {"labeled": dataset.images[chosen], "label": dataset.labels[chosen]}
    return {"image": dataset.images}, few
