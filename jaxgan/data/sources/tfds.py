"""Pictures from TensorFlow Datasets, without TensorFlow.

TFDS imports no TensorFlow as long as the data are array_record files and are read in random access.
Preparing a set is another matter: where TFDS's code for it calls TensorFlow (as for MNIST and
CIFAR-10, which therefore have files of their own here), only data prepared elsewhere can be read.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgan.data.cache import Append, digest, in_chunks, prepared_files
from jaxgan.data.download import default_data_dir, require_reachable
from jaxgan.data.pictures import resize_one, warn_of_enlarged
from jaxgan.data.spec import Dataset, DataSpec, Request, one_hot, part_of
from jaxgan.errors import DataError, nearest

_VERSION = 1  # raise it when the pixels change
_NOTES = 2  # and this when `_decode_all` notes other things
_HELD_OUT = ("test", "validation")  # how TFDS calls such parts


class _Fields(NamedTuple):
    image: str
    shape: tuple[int | None, ...]
    label: str | None
    label_names: tuple[str, ...]


def load_tfds(request: Request) -> Dataset:
    """`tfds:<name>`, where a name may have a configuration, as `tfds:<name>/<configuration>`.

    Pictures `[N, size, size, C]`, gray if TFDS has them so, else RGB, with class labels if it has
    them. The size is the one that TFDS says, or 64 if theirs differ, unless asked otherwise. The
    held-out part is TFDS's "test" or "validation", else a fraction `holdout` of "train".

    Raises:
      DataError: if TFDS has no such set, it is not in `data_dir` and cannot be prepared there, or
        it has no pictures or no such part.
    """
    name = request.name.removeprefix("tfds:")
    data_dir = request.data_dir or default_data_dir()
    builder = _builder(name, data_dir)
    fields = _fields(builder, request.name)
    part, numbers = _part(builder, request)
    fixed = fields.shape[0] if fields.shape[0] == fields.shape[1] else None
    size = request.image_size or fixed or 64
    channels = 1 if fields.shape[2] == 1 else 3

    info = builder.info.splits[part]
    identity = [builder.info.full_name, part, list(info.shard_lengths), info.num_bytes]
    chosen = None if numbers is None else [request.split, request.holdout]
    fingerprint = digest(identity, chosen, size, channels, fields.label)
    paths = [Path(path) for path in info.filepaths]
    stamps = [(path.name, path.stat().st_mtime_ns) for path in paths]
    source = _open(builder, part)
    numbers = range(len(source)) if numbers is None else numbers
    build = partial(_decode_all, source, numbers, fields, size)
    stem = "tfds-" + re.sub(r"\W+", "-", name)
    key = digest("tfds", _VERSION, _NOTES, fingerprint, stamps)
    done = prepared_files(request.cache_dir, stem, key, build, paths)
    warn_of_enlarged(done.notes["enlarged"], len(done.images), request.name, size)
    kind = None if fields.label is None else "class"
    labels = None if done.labels is None else one_hot(done.labels, len(fields.label_names))
    spec = DataSpec(request.name, size, channels, kind, fields.label_names)
    return Dataset(spec, done.images, labels, fingerprint)


def _builder(name: str, data_dir: Path):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=str(data_dir), file_format="array_record")
    except tfds.core.DatasetNotFoundError as reason:
        near = nearest(name, tfds.list_builders(with_community_datasets=False))
        raise DataError(
            f"TensorFlow Datasets has no data set {name!r}{near}, "
            f"and none is prepared in {data_dir}"
        ) from reason
    if not builder.is_prepared():
        _prepare(builder, name, data_dir)
    return builder


def _prepare(builder, name: str, data_dir: Path) -> None:
    import tensorflow_datasets as tfds

    remedy = (
        f"prepare {name!r} on a machine that can, with file_format='array_record', and copy it "
        f"into {data_dir}"
    )
    # TFDS would go on trying for minutes.
    for url in list(builder.url_infos)[:1]:
        require_reachable(url, remedy)
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except ImportError as reason:
        raise DataError(
            f"TensorFlow Datasets cannot prepare {name!r} without {reason.name}; {remedy}"
        ) from reason


def _fields(builder, name: str) -> _Fields:
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    images = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, tfds.features.ClassLabel)]
    if not images:
        raise DataError(f"data set {name!r} holds no pictures but {', '.join(features)}")
    image = "image" if "image" in images else images[0]
    label = "label" if "label" in labels else (labels + [None])[0]
    names = () if label is None else tuple(features[label].names)
    return _Fields(image, tuple(features[image].shape), label, names)


def _part(builder, request: Request) -> tuple[str, list[int] | None]:
    """The split of TFDS's, and the numbers of its examples; None for all of them."""
    splits = builder.info.splits
    held_out = [part for part in _HELD_OUT if part in splits]
    if request.split == "holdout" and held_out:
        return held_out[0], None
    if "train" not in splits:
        raise DataError(f"data set {request.name!r} has no part 'train' but {', '.join(splits)}")
    if request.split == "train" and (held_out or request.holdout == 0):
        return "train", None
    return "train", part_of(request, map(str, range(splits["train"].num_examples)))


def _open(builder, part: str) -> Sequence:
    try:
        return builder.as_data_source(part)
    except NotImplementedError as reason:
        raise DataError(
            f"{builder.data_path} is not in array_record format, which reading without TensorFlow "
            "needs; prepare it with file_format='array_record'"
        ) from reason


def _decode_all(
    source: Sequence, numbers: Sequence[int], fields: _Fields, size: int, append: Append
):
    def decode_some(some: Sequence[int]):
        images, labels, enlarged = [], [], 0
        for i in some:
            example = source[i]
            images.append(resize_one(example[fields.image], size))
            labels.append(0 if fields.label is None else int(example[fields.label]))
            enlarged += min(example[fields.image].shape[:2]) < size
        return np.stack(images), labels, enlarged

    labels, enlarged = [], 0
    for images, found, small in in_chunks(decode_some, numbers, size, "preparing"):
        append(images)
        labels += found
        enlarged += small
    notes = {"enlarged": enlarged}
    return None if fields.label is None else np.array(labels, np.int64), notes
