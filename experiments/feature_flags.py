"""The flags that say what a generator is measured by, and with which network."""

from __future__ import annotations

import pathlib
import zipfile

import shared
from absl import flags

from jaxgan import data
from jaxgan.errors import UsageError, unknown
from jaxgan.evaluate import Evaluator
from jaxgan.metrics import classifier, inception, random_features
from jaxgan.metrics.network import Network, each_channel
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


def names() -> tuple[str, ...]:
    """Returns the metrics that the flags ask for."""
    for name in FLAGS.metrics or ():
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    return tuple(FLAGS.metrics or USUAL)


def network(spec: data.DataSpec) -> Network:
    """Returns the network that the flags name.

    Raises:
      UsageError: if its file is not there, damaged or another network's.
      DataError: if Inception's weights cannot be fetched.
    """
    if FLAGS.features == "inception":
        return inception.load(inception.download(data.default_cache_dir()))
    path = pathlib.Path(FLAGS.features or shared.classifier_path(spec)).expanduser()
    if FLAGS.features is None and not path.exists():
        print(
            "note: pictures are read by random features, which rank generators only roughly; "
            "train_classifier.py makes better ones for labelled pictures, --features=inception "
            "gives those of FID"
        )
    elif FLAGS.features != "random":
        return _load(path, spec.channels)
    return random_features.make()


def _load(path: pathlib.Path, channels: int) -> Network:
    if path.suffix != ".npz" or "Conv2d_1a_3x3.conv.weight.npy" in _names_in(path):
        return inception.load(path)
    found = classifier.load(path)
    return each_channel(found) if found.channels == 1 < channels else found


def _names_in(path: pathlib.Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as file:
        return file.namelist()


def report_obstacles(evaluator: Evaluator) -> None:
    """Says which of the usual metrics cannot be measured; one that was asked for is an error."""
    for name, why in evaluator.obstacles().items():
        if FLAGS.metrics:
            raise UsageError(why)
        print(f"note: {name} is not measured: {why}")
