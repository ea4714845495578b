"""What samples say beside real pictures: unlike them, copies, repeats, classes that are missing."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgan.data import Dataset
from jaxgan.evaluation.distances.frechet import Moments
from jaxgan.evaluation.distances.manifold import prdc
from jaxgan.evaluation.distances.neighbors import nearest
from jaxgan.evaluation.evaluator import read_reference, reference_order
from jaxgan.evaluation.metrics import Comparison, measure
from jaxgan.evaluation.networks.network import Network, Reading
from jaxgan.evaluation.picture_verdicts import AVERAGE, SHRUNK, judge_likeness, judge_pixels
from jaxgan.evaluation.verdicts import (
    Finding,
    class_histogram,
    duplicates,
    memorization,
    tag_rates,
)

FEW = 100  # pictures, of which shares are too rough
SAMPLES = 1000  # generated pictures that are looked at, and as many held-out ones
SHOWN, NEAREST_SHOWN = 8, 3  # samples beside their neighbors


class NearestPictures(NamedTuple):
    """Samples beside the training pictures that are nearest to them."""

    space: str  # what nearness was measured on: "pixels" or "features"
    samples: np.ndarray  # [N, H, W, C] uint8
    nearest: np.ndarray  # [N, k, H, W, C] uint8, the nearest first


class Drawn(NamedTuple):
    """Pictures, and the labels that they have if there are any."""

    images: np.ndarray  # [N, H, W, C] uint8
    labels: np.ndarray | None  # [N, K]

    @classmethod
    def of(cls, dataset: Dataset) -> Drawn:
        """Draws pictures at random: a folder's lie class by class."""
        order = reference_order(dataset, SAMPLES)
        labels = None if dataset.labels is None else dataset.labels[order]
        return cls(dataset.images[order], labels)


class Judgment(NamedTuple):
    """What was found."""

    findings: Sequence[Finding]
    neighbors: Sequence[NearestPictures]


class Scale(NamedTuple):
    """What real pictures reach where samples are measured, by number."""

    held_out: Mapping[str, float]  # against the training's; empty if there are none
    num_held_out: int
    floor: Mapping[str, float]  # one part of the training's against another: its noise
    num_floor: int  # pictures in each

    def columns(self, name: str) -> tuple[float | None, float | None]:
        """A number of both, None where it cannot be had."""
        return self.held_out.get(name), self.floor.get(name)


class Space(NamedTuple):
    """Where pictures lie near each other or apart."""

    name: str  # "pixels" or "features"
    training: np.ndarray  # [M, F]
    places: np.ndarray  # [M] of which of the training's pictures
    unseen: np.ndarray  # how far real pictures are from the training's
    apart: np.ndarray  # how far each of some training pictures is from the nearest other of them


@dataclasses.dataclass(frozen=True)
class PictureJudge:
    """Says in words how samples are beside real pictures, of which all is found once.

    Args:
      network: reads the pictures.
      dataset: the real ones, those of the training; `reference` are they as `network` reads them.
      num: how many samples there are.
      held_out: pictures of the same kind that were not trained on, if there are any.
      batch_size: pictures read at a time.
      cache_dir: where readings of real pictures are kept.
    """

    network: Network
    dataset: Dataset
    reference: Reading
    num: int
    held_out: Dataset | None = None
    batch_size: int = 64
    cache_dir: pathlib.Path | None = None

    def __call__(self, images: np.ndarray, fake: Reading, *, like_data: bool = True) -> Judgment:
        """Returns what is to be said of samples, and some beside their nearest pictures.

        Args:
          images: the first of the samples, uint8 [N, H, W, C].
          fake: all of them as the network reads them.
          like_data: whether they are to show what the data show, each thing as often.
        """
        images, features = images[:SAMPLES], fake.features[:SAMPLES]
        look = judge_pixels(images, self.training.images)
        found, beside = [look], []
        if self._likeness is not None:
            of_real, count = self._likeness
            found += judge_likeness(_prdc(self.reference.features, features[:count]), of_real)
        for space, samples in zip(self._spaces, (_flat(images), features), strict=True):
            near = nearest(samples, space.training, min(NEAREST_SHOWN, len(space.training)))
            found += memorization(near.distances[:, 0], space.unseen, space.name)
            found.append(duplicates(_apart(samples[: len(space.apart)]), space.apart, space.name))
            rows = space.places[near.indices[:SHOWN]]
            pictures = self.dataset.images[rows]
            beside.append(NearestPictures(space.name, images[:SHOWN], pictures))
        if like_data:
            found += _labels(self.network, fake, self.reference)
        return Judgment(_without_what_follows(found, look), beside)

    @functools.cached_property
    def training(self) -> Drawn:
        return Drawn.of(self.dataset)

    @functools.cached_property
    def unseen(self) -> Drawn | None:
        return None if self.held_out is None else Drawn.of(self.held_out)

    @functools.cached_property
    def _unseen_reading(self) -> Reading | None:
        if self.held_out is None:
            return None
        how: dict[str, Any] = {"batch_size": self.batch_size, "cache_dir": self.cache_dir}
        return read_reference(self.network, self.held_out, self.num, **how)

    @property
    def _unseen_features(self) -> np.ndarray | None:
        seen = self._unseen_reading
        return None if seen is None else seen.features[:SAMPLES]

    def scale(self, metrics: Sequence[str], seed: int = 0) -> Scale:
        """Returns what real pictures reach by some metrics."""
        same_labels = self.network.label_names == self.dataset.spec.label_names

        def beside(real: Reading, other: Reading) -> Mapping[str, float]:
            names = self.dataset.spec.label_names
            seen = Comparison(self.network, real, other, seed, intervals=False, label_names=names)
            numbers = measure(metrics, seen, same_labels=same_labels)
            return {name: number.value for name, number in numbers.items()}

        half = min(self.num, len(self.reference.features) // 2)
        halves = [_part(self.reference, slice(k * half, (k + 1) * half)) for k in (0, 1)]
        unseen = self._unseen_reading
        return Scale(
            {} if unseen is None else beside(self.reference, unseen),
            0 if unseen is None else unseen.moments.count,
            beside(*halves),
            half,
        )

    @functools.cached_property
    def _likeness(self) -> tuple[Mapping[str, float], int] | None:
        """What other real pictures reach, and how many are compared; None for too few."""
        reference, others = self.reference.features, self._unseen_features
        if others is None:  # one half of the training's against the other
            reference, others = np.array_split(reference[: 2 * SAMPLES], 2)
        count = min(SAMPLES, self.num, len(reference), len(others))
        return None if count < FEW else (_prdc(reference, others[:count]), count)

    @functools.cached_property
    def _spaces(self) -> tuple[Space, ...]:
        dataset, features = self.dataset, self.reference.features
        order = reference_order(dataset, len(features))
        drawn = _flat(self.training.images)
        held_out = None if self.unseen is None else _flat(self.unseen.images)
        everywhere = np.arange(len(dataset))
        return (
            self._space("pixels", _flat(dataset.images), everywhere, drawn, held_out),
            self._space("features", features, order, features[:SAMPLES], self._unseen_features),
        )

    def _space(self, name, training, places, drawn, held_out) -> Space:
        if held_out is not None:
            unseen = nearest(held_out, training, 1).distances[:, 0]
        else:  # how far the training's are from each other
            unseen = nearest(drawn, training, 2).distances[:, 1]
        return Space(name, training, places, unseen, _apart(drawn[: self.num]))


def _part(reading: Reading, rows: slice) -> Reading:
    features = reading.features[rows]
    logits, labels = (None if x is None else x[rows] for x in (reading.logits, reading.labels))
    return Reading(features, logits, Moments.of(features), labels)


def _without_what_follows(found: Sequence[Finding], look: Finding) -> list[Finding]:
    """Leaves out what is said of variety where it only follows from what is plainly wrong."""
    broken = look.verdict == "bad" and look.name != AVERAGE
    unlike = broken or any(f.name == "likeness" and f.verdict == "bad" for f in found)

    def follows(finding):
        if finding.name.startswith("duplicates"):
            return look.name in SHRUNK or (unlike and finding.verdict == "good")
        return unlike and finding.name in ("variety", "classes", "tags")

    return [finding for finding in found if not follows(finding)]


def _prdc(reference: np.ndarray, features: np.ndarray) -> dict[str, float]:
    return {name: x.mean() for name, x in prdc(reference[: len(features)], features).items()}


def _apart(x: np.ndarray) -> np.ndarray:
    """How far each is from the nearest other."""
    return nearest(x, x, 2).distances[:, 1]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _labels(network: Network, fake: Reading, real: Reading) -> Iterator[Finding]:
    """What the classes or tags say that a classifier reads in both sets of pictures."""
    names = network.label_names
    if fake.logits is None or real.logits is None or len(names) != fake.logits.shape[-1]:
        return
    both = fake.logits, real.logits
    if network.label_kind == "class":
        drawn, there = (np.bincount(x.argmax(-1), minlength=len(names)) for x in both)
        yield class_histogram(drawn, there, names)
    else:
        (drawn, count), (there, size) = (((x > 0).sum(0), len(x)) for x in both)
        yield tag_rates(drawn, count, there, size, names)
