"""Pictures and labels: where they come from, in which order, and how they reach the training loop.

Nothing here imports JAX or converts to float: the pictures are uint8 until they are on the device.
To add a data set, write a function `Request -> Dataset` in a file of its own and name it in
`DATASETS`; pictures that lie in files go through `folder.load_pictures`, and others that take long
to prepare through `cache.prepared`.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxgan import addresses
from jaxgan.data.cache import digest
from jaxgan.data.download import default_cache_dir, default_data_dir
from jaxgan.data.few_labels import shown, with_few_labels
from jaxgan.data.labels import conditions_to_show, load_conditions, parse_labels
from jaxgan.data.loader import Loader, batches, check_batch, coin_flips, indices
from jaxgan.data.pictures import EARLIER_MAX_PIXELS
from jaxgan.data.sources.anime import load_anime, load_anime_hair
from jaxgan.data.sources.cifar import load_cifar10
from jaxgan.data.sources.folder import load_folder
from jaxgan.data.sources.glyphs import load_glyphs
from jaxgan.data.sources.hf import load_hf
from jaxgan.data.sources.iclevr import load_iclevr
from jaxgan.data.sources.mnist import load_fashion_mnist, load_mnist, load_stacked_mnist
from jaxgan.data.sources.shapes import load_shapes
from jaxgan.data.sources.tfds import load_tfds
from jaxgan.data.spec import MAX_PIXELS, Dataset, DataSpec, Request, require_labels
from jaxgan.errors import DataError, unknown

__all__ = [
    "DATASETS",
    "EARLIER_MAX_PIXELS",
    "MAX_PIXELS",
    "DataError",
    "DataSpec",
    "Dataset",
    "Loader",
    "Request",
    "as_in",
    "batches",
    "check_batch",
    "coin_flips",
    "conditions_to_show",
    "default_cache_dir",
    "default_data_dir",
    "digest",
    "held_out",
    "indices",
    "load",
    "load_conditions",
    "parse_labels",
    "require_labels",
    "shown",
    "with_few_labels",
]

DATASETS: dict[str, Callable[[Request], Dataset]] = {
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
    "stacked_mnist": load_stacked_mnist,
    "cifar10": load_cifar10,
    "tfds": load_tfds,
    "hf": load_hf,
    "anime": load_anime,
    "anime_hair": load_anime_hair,
    "iclevr": load_iclevr,
    "folder": load_folder,
    "shapes": load_shapes,
    "glyphs": load_glyphs,
}

_SIZES = range(8, 1025)


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    split: str = "train",
    holdout: float = 0.0,
    skip_corrupt: bool = False,
    cache_dir: str | Path | None = None,
    num_examples: int | None = None,
    seed: int = 0,
    tags: str | Path | None = None,
    label_kind: str | None = None,
    unlabeled: str = "refuse",
    channels: int | None = None,
    reading: int = 2,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """The data set of a name.

    Args:
      name: one of `DATASETS`, or "tfds:" and a name of TensorFlow Datasets, or "hf:" and one of
        Hugging Face's.
      data_dir: where the files are, a path or an address of fsspec, from which they are copied
        into `cache_dir`; see `default_data_dir` and the entries of `DATASETS`.
      image_size: pixels on a side, from 8 to 1024; the data set's own (64 for folders) if None.
      split: "train" or "holdout".
      holdout: the fraction of the pictures, at least 0 and less than 1, that is held out of sets
        without a held-out part of their own; see `part_of`.
      skip_corrupt: leave out corrupt pictures, with a logged warning, instead of raising.
      cache_dir: where prepared pictures are kept.
      num_examples: how many pictures to draw of a synthetic set; of the others the first so many.
      seed: of the synthetic sets alone.
      tags: the labels of a "folder": "folders", so that the folders in it are the classes, or the
        path of a table that `read_labels` reads, which is also looked for beside the pictures;
        "PATH:COLUMN,..." names columns of it. Of "hf:" the columns of pictures or labels.
      label_kind: "class" or "tags", what that table's labels are; see `label_by_table`.
      unlabeled: "refuse" pictures that the table does not name, or "drop" them.
      channels: 1 or 3, of pictures in files; None for 1 if all are gray, else 3.
      reading: 1 reads files as jaxgan 0.1 did, for runs of then: fewer formats, always RGB, labels
        always tags, which are the same in all columns.
      max_pixels: what a picture in a file may have, up to 178,956,970; larger ones are corrupt.

    Raises:
      DataError: for an unknown name, missing or damaged files and settings out of range.
    """
    source, _, rest = name.partition(":")
    if source not in DATASETS or bool(rest) != (source in ("tfds", "hf")):
        raise _unknown(name)
    if image_size is not None and image_size not in _SIZES:
        raise DataError(f"image_size must be an integer from 8 to 1024, not {image_size!r}")
    if split not in ("train", "holdout"):
        raise DataError(f"split must be 'train' or 'holdout', not {split!r}")
    if not 0 <= holdout < 1:
        raise DataError(f"holdout is a fraction, at least 0 and less than 1, not {holdout}")
    if num_examples is not None and num_examples < 1:
        raise DataError(f"num_examples must be at least 1, not {num_examples}")
    if channels not in (None, 1, 3):
        raise DataError(f"channels must be 1 or 3, not {channels}")
    if label_kind not in (None, "class", "tags"):
        raise DataError(f"label_kind must be 'class' or 'tags', not {label_kind!r}")
    if unlabeled not in ("refuse", "drop"):
        raise DataError(f"unlabeled must be 'refuse' or 'drop', not {unlabeled!r}")
    if not 1 <= max_pixels <= EARLIER_MAX_PIXELS:
        raise DataError(f"max_pixels must be from 1 to {EARLIER_MAX_PIXELS}, not {max_pixels}")
    if tags is not None and source not in ("folder", "hf"):
        raise DataError(
            f"--tags={tags} is for data set 'folder' and {name!r} was asked for; leave it out, or "
            "give the pictures as 'folder'"
        )
    cache = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
    request = Request(
        name=name,
        data_dir=None if data_dir is None else addresses.fetched(data_dir, cache),
        image_size=None if image_size is None else int(image_size),
        split=split,
        holdout=holdout,
        skip_corrupt=skip_corrupt,
        cache_dir=cache,
        num_examples=num_examples,
        seed=seed,
        tags=tags,
        label_kind=label_kind,
        unlabeled=unlabeled,
        channels=channels,
        reading=reading,
        max_pixels=max_pixels,
        address=str(data_dir) if addresses.is_address(data_dir) else None,
    )
    dataset = DATASETS[source](request)
    if channels not in (None, dataset.spec.channels):
        raise DataError(
            f"--channels={channels} is for pictures in files, and those of {name!r} have "
            f"{dataset.spec.channels}; leave it out"
        )
    dataset = dataset if num_examples is None else _first(dataset, num_examples)
    return dataclasses.replace(dataset, request=request)


def held_out(dataset: Dataset) -> Dataset:
    """The held-out part of the set of which `dataset` is the other one.

    Raises:
      DataError: if it was not loaded by name, or nothing is held out.
    """
    asked, spec = dataset.request, dataset.spec
    if asked is None:
        raise DataError(f"the pictures of {spec.name!r} were given from Python, not loaded by name")
    request = asked._replace(
        image_size=spec.size,
        split="holdout",
        num_examples=asked.num_examples if spec.synthetic else None,
        **as_in(spec),
    )
    return DATASETS[asked.name.partition(":")[0]](request)


def as_in(spec: DataSpec) -> dict[str, Any]:
    """What `load` takes so that another part of a data set has the channels of one part.

    Of sets whose channels are always the same, nothing."""
    chosen = spec.name.partition(":")[0] in ("folder", "anime", "anime_hair", "iclevr", "hf")
    return {"channels": spec.channels} if chosen else {}


def _first(dataset: Dataset, count: int) -> Dataset:
    if len(dataset) < count:
        raise DataError(
            f"--num_examples={count} were asked for and data set {dataset.spec.name!r} has "
            f"{len(dataset)}; lower it"
        )
    if len(dataset) == count:
        return dataset
    return dataclasses.replace(
        dataset,
        images=dataset.images[:count],
        labels=None if dataset.labels is None else dataset.labels[:count],
        fingerprint=digest(dataset.fingerprint, count),
    )


def _unknown(name: str) -> DataError:
    valid = [f"{known}:<name>" if known in ("tfds", "hf") else known for known in DATASETS]
    return DataError(str(unknown("data set", name, valid)))
