"""The metrics by name: what each needs of a generator's pictures, and the numbers that it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxgan.errors import UsageError
from jaxgan.metrics.accuracy import hits
from jaxgan.metrics.bootstrap import interval
from jaxgan.metrics.frechet import Moments, frechet_distance
from jaxgan.metrics.inception_score import inception_score, softmax
from jaxgan.metrics.kernel import kernel_distance
from jaxgan.metrics.manifold import membership
from jaxgan.metrics.modes import count_modes, stacked_modes
from jaxgan.metrics.network import Network
from jaxgan.metrics.protocol import Measured

NORMAL = 1.96  # standard deviations that hold 95 %
FRECHET_RESAMPLES = 20  # each takes as long as the distance itself
SUBSET = 1000  # pictures in a block of KID's, as in its code
MANIFOLD = 10_000  # pictures that precision and the others look at: 50,000 take 25 times as long


class NotMeasurable(UsageError):
    """A metric needs something that is not there; the message says what."""


class Seen(NamedTuple):
    """Pictures as a network reads them."""

    moments: Moments  # of all N
    features: np.ndarray  # [n, F], of the first n
    logits: np.ndarray | None  # [N, K]
    labels: np.ndarray | None = None  # [N, K], what they show or were asked to


class Evidence(NamedTuple):
    """All that a metric may look at."""

    network: Network
    real: Seen
    fake: Seen
    same_labels: bool  # whether the network's labels are the data's
    seed: int
    lengths: Callable[[], np.ndarray] | None = None  # of paths between latents, if there are any


def frechet(evidence: Evidence) -> Mapping[str, Measured]:
    """FID, or with another network the Fréchet distance of its features."""
    real, fake = evidence.real.moments, evidence.fake.moments
    fewest, size = min(real.count, fake.count), len(real.mean)
    if fewest <= size:
        raise NotMeasurable(
            f"a Fréchet distance of {size} features needs more than {size} pictures on either side "
            f"and one has {fewest}; try --num_images={size + 1} or more, or kid, which is unbiased"
        )

    def distance(rows):
        return frechet_distance(real, Moments.of(evidence.fake.features[rows]))

    rows = len(evidence.fake.features)
    bounds = interval(distance, rows, resamples=FRECHET_RESAMPLES, seed=evidence.seed)
    bounds = bounds.centred()
    value = frechet_distance(real, fake)
    name = "fid" if _is_inception(evidence) else f"{evidence.network.name}_frechet"
    return {name: Measured(value, bounds.low, bounds.high)}


def fid(evidence: Evidence) -> Mapping[str, Measured]:
    """`frechet`, but only with the features that give it its name."""
    if not _is_inception(evidence):
        raise NotMeasurable(
            f"fid is the Fréchet distance of Inception's features and these are of the network "
            f"{evidence.network.name!r}; give --features=inception, or ask for frechet"
        )
    return frechet(evidence)


def kid(evidence: Evidence) -> Mapping[str, Measured]:
    """The kernel distance over subsets; its interval is of their mean."""
    real, fake = evidence.real.features, evidence.fake.features
    fewest = min(len(real), len(fake))
    if fewest < SUBSET:
        raise NotMeasurable(
            f"kid compares subsets of {SUBSET} pictures and one side has {fewest}; try "
            f"--num_images={SUBSET} or more"
        )
    subsets = max(10, min(100, fewest // SUBSET * 10))
    found = kernel_distance(real, fake, subsets=subsets, subset_size=SUBSET, seed=evidence.seed)
    # Subsets overlap: only so many are independent.
    margin = NORMAL * found.deviation / np.sqrt(fewest // SUBSET)
    name = "kid" if _is_inception(evidence) else f"{evidence.network.name}_kid"
    return {name: Measured(found.mean, found.mean - margin, found.mean + margin)}


def score(evidence: Evidence) -> Mapping[str, Measured]:
    """Inception Score, or the same with another classifier's classes."""
    if not _is_inception(evidence) and evidence.network.label_kind != "class":
        raise NotMeasurable(
            f"an Inception Score needs the probabilities of classes, and the network "
            f"{evidence.network.name!r} gives none; give --features=inception or a classifier"
        )
    probabilities = softmax(evidence.fake.logits)
    if len(probabilities) < 10:
        raise NotMeasurable("an Inception Score over 10 splits needs 10 pictures or more")
    order = np.random.default_rng(evidence.seed).permutation(len(probabilities))
    found = inception_score(probabilities[order])
    margin = NORMAL * found.deviation / np.sqrt(10)
    name = "inception_score" if _is_inception(evidence) else f"{evidence.network.name}_score"
    return {name: Measured(found.mean, found.mean - margin, found.mean + margin)}


def prdc(evidence: Evidence) -> Mapping[str, Measured]:
    """Precision, recall, density and coverage."""
    real, fake = evidence.real.features[:MANIFOLD], evidence.fake.features[:MANIFOLD]
    if min(len(real), len(fake)) < 100:
        raise NotMeasurable("precision and recall of fewer than 100 pictures say nothing")
    found = membership(real, fake)
    shares = {
        "precision": found.held > 0,
        "recall": found.recalled,
        "density": found.held / found.neighbours,
        "coverage": found.covered,
    }
    return {name: _mean(values, evidence.seed) for name, values in shares.items()}


def accuracy(evidence: Evidence) -> Mapping[str, Measured]:
    """The share of labels that the classifier reads as asked."""
    if evidence.fake.labels is None:
        raise NotMeasurable(
            "accuracy compares pictures with the labels that they were asked to show, and this "
            "model takes none; train one that does"
        )
    if evidence.fake.logits is None or not evidence.same_labels:
        raise NotMeasurable(
            f"accuracy needs a classifier of the data's own labels and {evidence.network.name!r} "
            "is none; make one with train_classifier.py and give it as --features"
        )
    found, asked = hits(evidence.fake.logits, evidence.fake.labels)
    bounds = interval(
        lambda rows: found[rows].sum() / asked[rows].sum(), len(found), seed=evidence.seed
    )
    return {"accuracy": Measured(bounds.estimate, bounds.low, bounds.high)}


def ppl(evidence: Evidence) -> Mapping[str, Measured]:
    """The mean length of paths between latents, as the network's features change along them."""
    if evidence.lengths is None:
        raise NotMeasurable("ppl walks between latents, and this model maps images to images")
    name = f"{evidence.network.name}_path_length"
    return {name: _mean(evidence.lengths(), evidence.seed)}


def modes(evidence: Evidence) -> Mapping[str, Measured]:
    """StackedMNIST's modes, of 1000, and the divergence from having them all alike."""
    logits = evidence.fake.logits
    if logits is None or logits.shape[-1] != 30:
        raise NotMeasurable(
            "modes are those of stacked_mnist as a classifier of MNIST reads them; train on that "
            "data set and give such a classifier as --features"
        )
    found = count_modes(stacked_modes(logits.reshape(-1, 3, 10).argmax(-1)))
    return {"modes": Measured(found.reached), "modes_divergence": Measured(found.divergence)}


def _mean(values: np.ndarray, seed: int) -> Measured:
    bounds = interval(lambda rows: values[rows].mean(), len(values), seed=seed)
    return Measured(bounds.estimate, bounds.low, bounds.high)


def _is_inception(evidence: Evidence) -> bool:
    return evidence.network.name == "inception"


Metric = Callable[[Evidence], Mapping[str, Measured]]
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "frechet": frechet,
        "fid": fid,
        "kid": kid,
        "is": score,
        "prdc": prdc,
        "accuracy": accuracy,
        "ppl": ppl,
        "modes": modes,
    }
)
USUAL = ("frechet", "kid", "is", "prdc", "accuracy")
"""What is measured when nothing is asked for, as far as it can be."""


def higher_is_better(name: str) -> bool:
    """Whether a number of this name is to be large."""
    return not name.endswith(("fid", "kid", "frechet", "path_length", "divergence"))
