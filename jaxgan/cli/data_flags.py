"""The flags that say which pictures are used, and how they are read."""

from __future__ import annotations

import pathlib
from typing import Any

from absl import flags

from jaxgan import data

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of a data set."""
    names = ", ".join(f"{name}:NAME" if name in ("tfds", "hf") else name for name in data.DATASETS)
    flags.DEFINE_string("dataset", "shapes", f"One of {names}.")
    flags.DEFINE_string(
        "data_dir",
        None,
        "Where the pictures are, a path or an address such as s3://BUCKET/PICTURES. "
        "Default: $JAXGAN_DATA, else a folder in your cache.",
    )
    flags.DEFINE_integer("image_size", None, "Side in pixels. Default: the data set's own.")
    flags.DEFINE_integer(
        "num_examples",
        None,
        "Pictures that a synthetic set draws, or the first of another.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "holdout",
        0.0,
        "The part kept from training, [0, 1), of sets without a held-out part of their own.",
    )
    flags.DEFINE_string(
        "tags",
        None,
        "Labels of --dataset=folder: 'folders' for a class per folder, or a table: .csv, .tsv, "
        ".json, .jsonl. FILE:COLUMN,... names its column of files, if that has no usual name, and "
        "those of labels. Of hf:NAME the columns of labels.",
    )
    flags.DEFINE_enum(
        "label_kind",
        None,
        ["class", "tags"],
        "Whether a picture has one class or many tags. Default: by what the table holds.",
    )
    flags.DEFINE_enum(
        "unlabeled", "refuse", ["refuse", "drop"], "What becomes of pictures without labels."
    )
    flags.DEFINE_enum(
        "channels", None, ["1", "3"], "Gray or RGB. Default: gray if all pictures are."
    )
    flags.DEFINE_integer(
        "max_pixels",
        data.MAX_PIXELS,
        "Pictures in files that have more are not read, since one may fill the memory.",
        lower_bound=1,
    )
    flags.DEFINE_bool("skip_corrupt", False, "Leave out pictures that cannot be read.")


def load(split: str = "train", **changes: Any) -> data.Dataset:
    """Returns the data set that the flags name; `changes` are arguments of `data.load`."""
    asked = {
        "data_dir": FLAGS.data_dir,
        "image_size": FLAGS.image_size,
        "holdout": FLAGS.holdout,
        "skip_corrupt": FLAGS.skip_corrupt,
        "max_pixels": FLAGS.max_pixels,
        "cache_dir": cache_dir(),
        "num_examples": FLAGS.num_examples,
        "tags": FLAGS.tags,
        "label_kind": FLAGS.label_kind,
        "unlabeled": FLAGS.unlabeled,
        "channels": FLAGS.channels and int(FLAGS.channels),
    }
    return data.load(FLAGS.dataset, split=split, **(asked | changes))


def cache_dir() -> pathlib.Path:
    """Returns where prepared pictures are kept."""
    return pathlib.Path(FLAGS.cache_dir or data.default_cache_dir()).expanduser()
