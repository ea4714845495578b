"""The flags that say what a generator is measured by, and with which network."""

from __future__ import annotations

import pathlib

import numpy as np
from absl import flags

from jaxgan import data
from jaxgan.errors import UsageError, unknown
from jaxgan.metrics.suite import METRICS, USUAL

FLAGS = flags.FLAGS

flags.DEFINE_list(
    "metrics", None, f"Of {', '.join(METRICS)}. Default: {', '.join(USUAL)}, as far as possible."
)
flags.DEFINE_string(
    "features",
    None,
    "What reads the pictures: 'inception' (fetched once, 91 MiB), a file of its weights or of "
    "train_classifier.py, or 'random'. Default: the classifier of the data set, if there is one.",
)


def classifier_path(spec: data.DataSpec) -> pathlib.Path:
    """Returns where train_classifier.py puts the classifier of a data set if not told otherwise."""
    name = spec.name.replace(":", "_").replace("/", "_")
    return data.default_cache_dir() / "classifiers" / f"{name}_{spec.size}.npz"


def names() -> tuple[str, ...]:
    """Returns the metrics that the flags ask for."""
    for name in FLAGS.metrics or ():
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    return tuple(FLAGS.metrics or USUAL)


def network(spec: data.DataSpec) -> Network:
    """Returns the network that the flags name."""
    if FLAGS.features == "random":
        return random_features.network(spec.channels)
    if FLAGS.features == "inception":
        return inception.load(inception.download(data.default_cache_dir()))
    path = pathlib.Path(FLAGS.features or classifier_path(spec))
    if FLAGS.features is None and not path.exists():
        print(
            "note: pictures are read by random features, which rank generators only roughly; "
            "train_classifier.py makes better ones for labelled pictures, --features=inception "
            "gives those of FID"
        )
        return random_features.network(spec.channels)
    return load(path)
