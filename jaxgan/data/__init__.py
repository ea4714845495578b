"""Pictures: where they come from, in which order, and how they reach the training loop.

Nothing here imports JAX or converts to float: the pictures are uint8 until they are on the device.
To add a data set, write a function `Request -> Dataset` in a file of its own and name it in
`DATASETS`; pictures that lie in files go through `folder.load_pictures`, and others that take long
to prepare through `cache.prepared`.
"""

from collections.abc import Callable
from pathlib import Path

from jaxgan.data.anime import load_anime, load_anime_hair
from jaxgan.data.cache import digest
from jaxgan.data.cifar import load_cifar10
from jaxgan.data.conditions import conditions_to_show, load_conditions, parse_labels
from jaxgan.data.errors import DataError
from jaxgan.data.folder import load_folder
from jaxgan.data.glyphs import load_glyphs
from jaxgan.data.iclevr import load_iclevr
from jaxgan.data.idx import load_fashion_mnist, load_mnist
from jaxgan.data.loader import Loader, batches, check_batch
from jaxgan.data.order import indices
from jaxgan.data.paths import default_cache_dir, default_data_dir
from jaxgan.data.shapes import load_shapes
from jaxgan.data.spec import Dataset, DataSpec, Request, require_labels
from jaxgan.data.stacked import load_stacked_mnist
from jaxgan.data.tfds_source import load_tfds
from jaxgan.errors import unknown

__all__ = [
    "DATASETS",
    "DataError",
    "DataSpec",
    "Dataset",
    "Loader",
    "Request",
    "batches",
    "check_batch",
    "conditions_to_show",
    "default_cache_dir",
    "default_data_dir",
    "indices",
    "load",
    "load_conditions",
    "parse_labels",
    "require_labels",
]

DATASETS: dict[str, Callable[[Request], Dataset]] = {
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
    "stacked_mnist": load_stacked_mnist,
    "cifar10": load_cifar10,
    "tfds": load_tfds,
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
    labels: str | Path | None = None,
) -> Dataset:
    """The data set `name`, one of `DATASETS` (or "tfds:" and a name of TensorFlow Datasets).

    data_dir: where the files are; see `default_data_dir` and the entries of `DATASETS`.
    image_size: pixels on a side, from 8 to 1024; the data set's own (64 for folders) if None.
    split: "train" or "holdout". Sets without a held-out part of their own set aside the fraction
    `holdout` of the pictures, chosen by their names. skip_corrupt: leave out corrupt pictures, with
    a logged warning, instead of raising. cache_dir: where prepared pictures are kept.
    num_examples: how many pictures to draw of a synthetic set, and of the others only the first so
    many. seed: of the synthetic sets alone. labels: of a "folder" alone: "folders", so that the
    folders in it are the classes, or the path of a .csv or .json file of tags (see `read_tags`),
    which is also looked for beside the pictures.

    Raises `DataError` for an unknown name, missing or damaged files and settings out of range.
    """
    source, _, rest = name.partition(":")
    if source not in DATASETS or bool(rest) != (source == "tfds"):
        raise _unknown(name)
    if image_size is not None and image_size not in _SIZES:
        raise DataError(f"image_size must be an integer from 8 to 1024, not {image_size!r}")
    if split not in ("train", "holdout"):
        raise DataError(f"split must be 'train' or 'holdout', not {split!r}")
    if not 0 <= holdout < 1:
        raise DataError(f"holdout is a fraction, at least 0 and less than 1, not {holdout}")
    if num_examples is not None and num_examples < 1:
        raise DataError(f"num_examples must be at least 1, not {num_examples}")
    if labels is not None and source != "folder":
        raise DataError(
            f"labels={str(labels)!r} is for data set 'folder' and {name!r} was asked for; leave it "
            "out, or give the pictures as 'folder'"
        )
    dataset = DATASETS[source](
        Request(
            name=name,
            data_dir=None if data_dir is None else Path(data_dir).expanduser(),
            image_size=None if image_size is None else int(image_size),
            split=split,
            holdout=holdout,
            skip_corrupt=skip_corrupt,
            cache_dir=default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser(),
            num_examples=num_examples,
            seed=seed,
            labels=labels,
        )
    )
    return dataset if num_examples is None else _first(dataset, num_examples)


def _first(dataset: Dataset, count: int) -> Dataset:
    if len(dataset) < count:
        raise DataError(
            f"num_examples={count} were asked for and data set {dataset.spec.name!r} has "
            f"{len(dataset)}; lower num_examples"
        )
    if len(dataset) == count:
        return dataset
    labels = None if dataset.labels is None else dataset.labels[:count]
    fingerprint = digest(dataset.fingerprint, count)
    return Dataset(dataset.spec, dataset.images[:count], labels, fingerprint, dataset.conditions)


def _unknown(name: str) -> DataError:
    valid = ["tfds:<name>" if known == "tfds" else known for known in DATASETS]
    return DataError(str(unknown("data set", name, valid)))
