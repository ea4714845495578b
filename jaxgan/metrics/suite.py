"""The metrics by name: what each needs of a generator's pictures, and the numbers that it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxgan.metrics import needs
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
    seed: int
    lengths: Callable[[], np.ndarray]  # of paths between latents


class Metric(NamedTuple):
    """A metric: why it cannot be measured, or None, and how it is."""

    obstacle: Callable[[needs.Facts], str | None]
    measure: Callable[[Evidence], Mapping[str, Measured]]


def frechet(evidence: Evidence) -> Mapping[str, Measured]:
    """FID, or with another network the Fréchet distance of its features."""
    real, fake = evidence.real.moments, evidence.fake.moments

    def distance(rows):
        return frechet_distance(real, Moments.of(evidence.fake.features[rows]))

    rows = len(evidence.fake.features)
    bounds = interval(distance, rows, resamples=FRECHET_RESAMPLES, seed=evidence.seed)
    bounds = bounds.centred()
    value = frechet_distance(real, fake)
    name = "fid" if needs.is_inception(evidence.network) else f"{evidence.network.name}_frechet"
    return {name: Measured(value, bounds.low, bounds.high)}


def kid(evidence: Evidence) -> Mapping[str, Measured]:
    """The kernel distance over subsets; its interval is of their mean."""
    real, fake = evidence.real.features, evidence.fake.features
    fewest = min(len(real), len(fake))
    subsets = max(10, min(100, fewest // SUBSET * 10))
    found = kernel_distance(real, fake, subsets=subsets, subset_size=SUBSET, seed=evidence.seed)
    # Subsets overlap: only so many are independent.
    margin = NORMAL * found.deviation / np.sqrt(fewest // SUBSET)
    name = "kid" if needs.is_inception(evidence.network) else f"{evidence.network.name}_kid"
    return {name: Measured(found.mean, found.mean - margin, found.mean + margin)}


def score(evidence: Evidence) -> Mapping[str, Measured]:
    """Inception Score, or the same with another classifier's classes."""
    probabilities = softmax(evidence.fake.logits)
    order = np.random.default_rng(evidence.seed).permutation(len(probabilities))
    found = inception_score(probabilities[order], splits=needs.SPLITS)
    margin = NORMAL * found.deviation / np.sqrt(needs.SPLITS)
    return {
        f"{evidence.network.name}_score": Measured(
            found.mean, found.mean - margin, found.mean + margin
        )
    }


def prdc(evidence: Evidence) -> Mapping[str, Measured]:
    """Precision, recall, density and coverage."""
    real, fake = evidence.real.features[:MANIFOLD], evidence.fake.features[:MANIFOLD]
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
    found, asked = hits(evidence.fake.logits, evidence.fake.labels)
    bounds = interval(
        lambda rows: found[rows].sum() / asked[rows].sum(), len(found), seed=evidence.seed
    )
    return {"accuracy": Measured(bounds.estimate, bounds.low, bounds.high)}


def ppl(evidence: Evidence) -> Mapping[str, Measured]:
    """The mean length of paths between latents, as the network's features change along them."""
    name = f"{evidence.network.name}_path_length"
    return {name: _mean(evidence.lengths(), evidence.seed)}


def modes(evidence: Evidence) -> Mapping[str, Measured]:
    """StackedMNIST's modes, of 1000, and the divergence from having them all alike."""
    drawn = stacked_modes(evidence.fake.logits.reshape(-1, 3, 10).argmax(-1))
    numbers = {
        "modes": lambda rows: count_modes(drawn[rows]).reached,
        "modes_divergence": lambda rows: count_modes(drawn[rows]).divergence,
    }
    # A resample misses modes that its pictures have.
    bounds = {
        name: interval(number, len(drawn), resamples=100, seed=evidence.seed).centred()
        for name, number in numbers.items()
    }
    return {name: Measured(b.estimate, b.low, b.high) for name, b in bounds.items()}


def _mean(values: np.ndarray, seed: int) -> Measured:
    bounds = interval(lambda rows: values[rows].mean(), len(values), seed=seed)
    return Measured(bounds.estimate, bounds.low, bounds.high)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "frechet": Metric(needs.few_for_frechet, frechet),
        "fid": Metric(needs.without_inception, frechet),
        "kid": Metric(needs.fewer_than(SUBSET, "kid"), kid),
        "is": Metric(needs.without_classes, score),
        "prdc": Metric(needs.fewer_than(100, "prdc"), prdc),
        "accuracy": Metric(needs.without_labels, accuracy),
        "ppl": Metric(needs.without_latents, ppl),
        "modes": Metric(needs.not_stacked, modes),
    }
)
USUAL = ("frechet", "kid", "is", "prdc", "accuracy")
"""What is measured when nothing is asked for, as far as it can be."""


def higher_is_better(name: str) -> bool:
    """Whether a number of this name is to be large."""
    return not name.endswith(("fid", "kid", "frechet", "path_length", "divergence"))
