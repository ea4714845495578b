"""Which network reads pictures, and an evaluator with it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from jaxgan import data, files
from jaxgan.data import Dataset, DataSpec, default_cache_dir
from jaxgan.errors import DataError, UsageError, unknown
from jaxgan.evaluation.evaluator import Evaluator, inputs_from, labels_as_in, read_reference
from jaxgan.evaluation.metrics import METRICS, TRANSLATION, USUAL
from jaxgan.evaluation.networks import classifier, inception, random_features
from jaxgan.evaluation.networks.network import Network, each_channel
from jaxgan.runs.settings import classifier_path
from jaxgan.stages import Stages

Say = Callable[[str], object]


def network(
    spec: DataSpec,
    features: str | None = None,
    *,
    cache_dir: str | pathlib.Path | None = None,
    say: Say = print,
) -> Network:
    """Returns the network that reads pictures.

    Args:
      spec: the data's.
      features: "inception", a file of weights, or "random"; None for the data set's classifier if
        there is one.
      cache_dir: where classifiers and Inception's weights are.
      say: is told what a user should know.

    Raises:
      UsageError: if its file is not there, damaged or another network's.
      DataError: if Inception's weights cannot be fetched.
    """
    if features == "inception":
        return inception.load(inception.download(cache_dir or default_cache_dir()))
    path = pathlib.Path(features or classifier_path(spec, cache_dir)).expanduser()
    if features is None and not path.exists():
        say(
            "note: pictures are read by random features, which rank generators only roughly; "
            "jaxgan classify makes better ones for labeled pictures, --features=inception "
            "gives those of FID"
        )
    elif features != "random":
        return _load(path, spec.channels)
    return random_features.make()


def inputs_of(dataset: Dataset, *, say: Say = print) -> Dataset:
    """Returns what a method that translates is shown at work on: the pictures held out of those of
    a training, or these if there are none; `say` is told why."""
    try:
        return data.held_out(dataset)
    except DataError as error:
        say(f"note: pictures of the training are translated, since none are held out: {error}")
        return dataset


def _held_out(dataset):
    try:
        return data.held_out(dataset)
    except DataError:  # which is told by the metric that needs them
        return None


def _load(path, channels):
    if path.suffix != ".npz" or "Conv2d_1a_3x3.conv.weight.npy" in _names_in(path):
        return inception.load(path)
    found = classifier.load(path)
    return each_channel(found) if found.channels == 1 < channels else found


def _names_in(path):
    try:
        with files.regular(path) as file, files.open_zip(file) as archive:
            return archive.namelist()
    except (OSError, files.DamagedFile):  # which is told by who reads it
        return []


def metric_names(metrics: Sequence[str] | None, dataset: Dataset | None = None) -> tuple[str, ...]:
    """Returns the metrics; for None the usual ones, and "errors" where few labels were shown.

    Raises UsageError for an unknown one.
    """
    for name in metrics or ():
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    few = dataset is not None and dataset.labeled is not None
    return tuple(metrics or (*USUAL, *["errors"] * few))


def evaluator(
    stages: Stages,
    dataset: Dataset,
    num_images: int,
    *,
    metrics: Sequence[str] | None = None,
    features: str | None = None,
    num_reference: int = 50_000,
    conditions: tuple[np.ndarray, str] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    cache_dir: str | pathlib.Path | None = None,
    progress: bool = False,
    say: Say = print,
) -> Evaluator:
    """Returns what measures a method's generators.

    Args:
      stages: the method.
      dataset: the real pictures.
      num_images: how many pictures are drawn.
      metrics: names in `METRICS`; None for the usual ones, as far as they can be measured.
      features: as in `network`.
      num_reference: how many real pictures they are compared with, at most.
      conditions: what is asked for, [M, K], and a text that says from where; None for the data's
        labels.
      seed: chooses the latents.
      batch_size: pictures computed at a time.
      cache_dir: where classifiers, and readings of the real pictures, are kept.
      progress: whether to show how far it is.
      say: is told what a user should know.

    Raises:
      UsageError: if a metric that was asked for cannot be measured.
    """
    names = metric_names(metrics, dataset)
    reader = network(dataset.spec, features, cache_dir=cache_dir, say=say)
    labels = where = inputs = None
    if stages[0].gan.targets is not None:
        inputs = inputs_from(inputs_of(dataset, say=say), num_images, seed)
        names = names if metrics else (*names, *TRANSLATION)
    if stages[0].gan.conditional and conditions is None:
        labels = labels_as_in(dataset, num_images, seed)
    elif stages[0].gan.conditional:
        asked, where = conditions
        labels = np.resize(asked, (num_images, asked.shape[1]))
    reference = read_reference(
        reader,
        dataset,
        num_reference,
        batch_size=batch_size,
        cache_dir=None if cache_dir is None else pathlib.Path(cache_dir),
        title="real pictures" if progress else None,
    )
    made = Evaluator(
        stages,
        reader,
        dataset,
        reference,
        names,
        num_images,
        labels,
        where,
        inputs,
        seed,
        batch_size,
        progress=progress,
        held_out=_held_out(dataset) if "errors" in names else None,
    )
    for name, why in made.obstacles().items():
        if metrics:
            raise UsageError(why)
        say(f"note: {name} is not measured: {why}")
    return made
