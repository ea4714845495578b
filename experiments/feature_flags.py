"""The flag that says which network reads pictures."""

from __future__ import annotations

import pathlib
import zipfile

import shared
from absl import flags

from jaxgan import data
from jaxgan.metrics import classifier, inception, random_features
from jaxgan.metrics.network import Network, each_channel

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "features",
    None,
    "What reads the pictures: 'inception' (fetched once, 91 MiB), a file of its weights or of "
    "train_classifier.py, or 'random'. Default: the classifier of the data set, if there is one.",
)


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
