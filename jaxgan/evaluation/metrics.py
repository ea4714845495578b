"""The metrics by name: what each needs, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxgan.evaluation.distances.accuracy import hits
from jaxgan.evaluation.distances.bootstrap import interval
from jaxgan.evaluation.distances.frechet import Moments, frechet_distance
from jaxgan.evaluation.distances.inception_score import inception_score, softmax
from jaxgan.evaluation.distances.kernel import kernel_distance, kernel_estimates
from jaxgan.evaluation.distances.manifold import prdc
from jaxgan.evaluation.distances.modes import count_modes, stacked_modes
from jaxgan.evaluation.networks.network import Network, Reading
from jaxgan.evaluation.protocol import Measured

FRECHET_RESAMPLES = 20  # each takes as long as the distance itself; of the Inception Score, too
SUBSET = 1000  # pictures in a block of KID's, as in its code
SPLITS = 10  # of the Inception Score, as in its code
MANIFOLD = 10_000  # pictures that precision and the others look at: 50,000 take 25 times as long


class Setup(NamedTuple):
    """What is known before anything is drawn."""

    network: Network
    full_rank: int  # pictures whose covariance can have full rank: one more than features
    real: int  # pictures
    fake: int
    asked: bool  # whether the generator is told what to draw
    same_labels: bool  # whether the network's labels are the data's
    latents: bool  # whether the generator draws from latents
    translates: bool = False  # whether it turns pictures into others
    names_classes: bool = False  # whether the discriminator does, of the data's
    held_out: bool = False  # whether there are labeled pictures that training has not seen
    labels: tuple[int, ...] = ()  # which of the data's have pictures enough for a full rank


class Changes(NamedTuple):
    """How far N pictures are from what was made of them: mean absolute differences of pixels in
    [-1, 1], each [N]."""

    translated: np.ndarray  # from their translations
    reconstructed: np.ndarray  # from these translated back


class Comparison(NamedTuple):
    """What a metric looks at: real and generated pictures as a network reads them."""

    network: Network
    real: Reading
    fake: Reading
    seed: int
    path_lengths: Callable[[], np.ndarray] | None = None
    changes: Callable[[], Changes] | None = None
    label_errors: Callable[[], Mapping[str, np.ndarray]] | None = None
    labels: tuple[int, ...] = ()  # as in `Setup`
    label_names: tuple[str, ...] = ()  # the data's
    intervals: bool = True

    def interval(
        self,
        statistic: Callable[[np.ndarray], float],
        num: int,
        *,
        resamples: int = 1000,
        centered: bool = False,
    ) -> Measured:
        """As `bootstrap.interval`; the number alone where no interval is wanted."""
        if not self.intervals:
            return Measured(float(statistic(np.arange(num))))
        return interval(statistic, num, resamples=resamples, centered=centered, seed=self.seed)


class Need(NamedTuple):
    """What a metric cannot do without."""

    met: Callable[[Setup], bool]
    error: str  # with the fields of `Setup`, and the metric's name as {metric}


class Metric(NamedTuple):
    """A metric: the numbers that it gives, by name, and what it needs."""

    measure: Callable[[Comparison], Mapping[str, Measured]]
    number: str  # the name of the first one, with the network's in the place of {}
    needs: tuple[Need, ...]


def obstacle(name: str, setup: Setup) -> str | None:
    """Returns why a metric cannot be measured, or None if it can be."""
    for need in METRICS[name].needs:
        if not need.met(setup):
            return need.error.format(metric=name, **setup._asdict())
    return None


def first_number(metric: str, network: Network) -> str:
    """Returns what the first number of a metric is called; FID and KID are Inception's alone."""
    name = METRICS[metric].number.format(network.name)
    return {"inception_frechet": "fid", "inception_kid": "kid"}.get(name, name)


def setup_of(seen: Comparison, *, same_labels: bool = False) -> Setup:
    """Returns what is known of two sets that were read."""
    return Setup(
        seen.network,
        len(seen.real.moments.mean) + 1,
        seen.real.moments.count,
        seen.fake.moments.count,
        asked=seen.fake.labels is not None,
        same_labels=same_labels,
        latents=seen.path_lengths is not None,
        translates=seen.changes is not None,
        names_classes=seen.label_errors is not None,
        held_out=seen.label_errors is not None,
        labels=seen.labels,
    )


def measure(
    names: Sequence[str], seen: Comparison, *, same_labels: bool = False
) -> dict[str, Measured]:
    """Returns the numbers of metrics, without those that have an obstacle.

    Args:
      names: in `METRICS`.
      seen: what they look at.
      same_labels: whether the network's labels are those of the pictures.
    """
    setup = setup_of(seen, same_labels=same_labels)
    measured: dict[str, Measured] = {}
    for name in names:
        if obstacle(name, setup) is None:
            measured |= METRICS[name].measure(seen)
    return measured


def _frechet(seen: Comparison) -> Mapping[str, Measured]:
    """FID, or with another network the Fréchet distance of its features."""
    real, features = seen.real.moments, seen.fake.features
    bounds = seen.interval(
        lambda rows: frechet_distance(real, Moments.of(features[rows])),
        len(features),
        resamples=FRECHET_RESAMPLES,
        centered=True,
    )
    name = first_number("frechet", seen.network)
    return {name: bounds._replace(value=frechet_distance(real, seen.fake.moments))}


def _frechet_by_label(seen: Comparison) -> Mapping[str, Measured]:
    """The Fréchet distance of the pictures asked to show a label from the real ones that do."""

    def showing(reading, label):
        return Moments.of(reading.features[reading.labels[: len(reading.features), label] > 0])

    return {
        f"{seen.label_names[label]}_{seen.network.name}_frechet": Measured(
            frechet_distance(showing(seen.real, label), showing(seen.fake, label))
        )
        for label in seen.labels
    }


def _changes(seen: Comparison) -> Mapping[str, Measured]:
    """How far pictures are from their translations, and from these translated back."""
    translated, reconstructed = seen.changes()
    return {
        "translation_distance": _mean(seen, translated),
        "reconstruction_distance": _mean(seen, reconstructed),
    }


def _kid(seen: Comparison) -> Mapping[str, Measured]:
    """KID, or the same of another network; the interval is by subsampling.

    Estimates of b of n pictures, drawn without replacement, spread as those of n do but for a
    factor (Politis and Romano, 1994); drawn with replacement, a picture would meet itself.
    """
    real, fake = seen.real.features, seen.fake.features
    blocks = min(len(real), len(fake)) // SUBSET
    subsets = max(10, min(100, blocks * 10))
    found = kernel_distance(real, fake, subsets=subsets, subset_size=SUBSET, seed=seen.seed)
    name = first_number("kid", seen.network)
    if not seen.intervals:
        return {name: Measured(found.mean)}
    count = min(len(real), len(fake))
    part = min(SUBSET, count // 2)
    draws = kernel_estimates(real, fake, subsets=100, subset_size=part, seed=seen.seed + 1)
    around = (draws - draws.mean()) * np.sqrt(part / (count - part))
    low, high = np.quantile(around, [0.025, 0.975])
    return {name: Measured(found.mean, found.mean + low, found.mean + high)}


def _score(seen: Comparison) -> Mapping[str, Measured]:
    """Inception Score, or the same of another classifier's classes."""
    probabilities = softmax(seen.fake.logits)
    order = np.random.default_rng(seen.seed).permutation(len(probabilities))
    probabilities = probabilities[order]
    bounds = seen.interval(
        lambda rows: inception_score(probabilities[rows], splits=SPLITS).mean,
        len(order),
        resamples=FRECHET_RESAMPLES,
        centered=True,
    )
    return {first_number("is", seen.network): bounds}


def _prdc(seen: Comparison) -> Mapping[str, Measured]:
    """Precision, recall, density and coverage."""
    found = prdc(seen.real.features[:MANIFOLD], seen.fake.features[:MANIFOLD])
    return {name: _mean(seen, values) for name, values in found.items()}


def _accuracy(seen: Comparison) -> Mapping[str, Measured]:
    """The share of labels that the classifier reads as asked."""
    found, asked = hits(seen.fake.logits, seen.fake.labels)

    def share(rows):
        return found[rows].sum() / asked[rows].sum()

    return {"accuracy": seen.interval(share, len(found))}


def _accuracy_by_label(seen: Comparison) -> Mapping[str, Measured]:
    """The accuracy in the pictures that were asked to show a label."""
    found = {}
    for place, label in enumerate(seen.label_names):
        rows = np.flatnonzero(np.asarray(seen.fake.labels)[:, place] == 1)
        if len(rows):
            read = hits(seen.fake.logits[rows], seen.fake.labels[rows])
            found[f"{label}_accuracy"] = Measured(read.accuracy())
    return found


def _ppl(seen: Comparison) -> Mapping[str, Measured]:
    """How much the network's features change along paths between latents, on average."""
    return {first_number("ppl", seen.network): _mean(seen, seen.path_lengths())}


def _errors(seen: Comparison) -> Mapping[str, Measured]:
    """The share of held-out pictures whose class the discriminator does not name, by its averaged
    weights, if it has such, and by its last ones."""
    found = seen.label_errors()
    return {f"{weights}_test_error": _mean(seen, wrong) for weights, wrong in found.items()}


def _modes(seen: Comparison) -> Mapping[str, Measured]:
    """StackedMNIST's modes, of 1000, and the divergence from having them all alike."""
    drawn = stacked_modes(seen.fake.logits.reshape(-1, 3, 10).argmax(-1))
    numbers = {
        "modes": lambda rows: count_modes(drawn[rows]).reached,
        "modes_divergence": lambda rows: count_modes(drawn[rows]).divergence,
    }
    # Centered, because a resample misses modes that its pictures have.
    return {
        name: seen.interval(number, len(drawn), resamples=100, centered=True)
        for name, number in numbers.items()
    }


def _mean(seen: Comparison, values: np.ndarray) -> Measured:
    return seen.interval(lambda rows: values[rows].mean(), len(values))


def _is_inception(network: Network) -> bool:
    """Whether these are FID's own features."""
    return network.name == "inception"


def _pictures(least: int) -> Need:
    return Need(
        lambda setup: min(setup.real, setup.fake) >= least,
        f"{{metric}} needs at least {least} pictures on either side, and there are {{real}} real "
        "and {fake} generated ones; take more",
    )


FULL_RANK = Need(
    lambda setup: min(setup.real, setup.fake) >= setup.full_rank,
    "{metric} needs at least {full_rank} pictures on either side, one more than features, and "
    "there are {real} real and {fake} generated ones; take more, or ask for kid, which few "
    "pictures do not bias",
)
INCEPTION = Need(
    lambda setup: _is_inception(setup.network),
    "fid is the Fréchet distance of Inception's features and these are of the network "
    "{network.name!r}; give --features=inception, or ask for frechet",
)
CLASSES = Need(
    lambda setup: _is_inception(setup.network) or setup.network.label_kind == "class",
    "is needs the probabilities of classes, and the network {network.name!r} gives none; give "
    "--features=inception or a classifier",
)
ASKED = Need(
    lambda setup: setup.asked,
    "{metric} compares pictures with the labels that they were asked to show, and this model takes "
    "none; train one that does",
)
SAME_LABELS = Need(
    lambda setup: setup.same_labels,
    "accuracy needs a classifier of the data's own labels and {network.name!r} is none; make one "
    "with jaxgan classify",
)
LATENTS = Need(lambda setup: setup.latents, "ppl walks between latents, and this model maps images")
TRANSLATES = Need(
    lambda setup: setup.translates,
    "{metric} compares pictures with their translations, and this model makes them of noise",
)
LABELS_OF_FULL_RANK = Need(
    lambda setup: bool(setup.labels),
    "{metric} needs at least {full_rank} pictures of a label on either side, one more than "
    "features, and no label has so many; take more",
)
NAMES_CLASSES = Need(
    lambda setup: setup.names_classes,
    "errors are those of a discriminator that names the data's classes, and this one names none; "
    "train improved_mlp, improved or acgan on pictures with classes",
)
HELD_OUT = Need(
    lambda setup: setup.held_out,
    "errors are counted on labeled pictures that training has not seen, and there are none; train "
    "with --holdout=0.1, say",
)
STACKED_DIGITS = Need(
    lambda setup: setup.network.name == "classifier_each_channel",
    "modes are those of stacked_mnist as a classifier of MNIST reads them; train on that data set, "
    "and give such a classifier as --features",
)

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "frechet": Metric(_frechet, "{}_frechet", (FULL_RANK,)),
        "fid": Metric(_frechet, "{}_frechet", (INCEPTION, FULL_RANK)),
        "kid": Metric(_kid, "{}_kid", (_pictures(SUBSET),)),
        "is": Metric(_score, "{}_score", (CLASSES, _pictures(SPLITS))),
        "prdc": Metric(_prdc, "precision", (_pictures(100),)),
        "accuracy": Metric(_accuracy, "accuracy", (ASKED, SAME_LABELS)),
        "accuracy_by_label": Metric(_accuracy_by_label, "", (ASKED, SAME_LABELS)),
        "ppl": Metric(_ppl, "{}_path_length", (LATENTS,)),
        "changes": Metric(_changes, "translation_distance", (TRANSLATES,)),
        "frechet_by_label": Metric(_frechet_by_label, "", (ASKED, LABELS_OF_FULL_RANK)),
        "modes": Metric(_modes, "modes", (STACKED_DIGITS,)),
        "errors": Metric(_errors, "", (NAMES_CLASSES, HELD_OUT)),
    }
)
PRDC = ("precision", "recall", "density", "coverage")
USUAL = ("frechet", "kid", "is", "prdc", "accuracy")
"""What is measured when nothing is asked for, as far as it can be."""
TRANSLATION = ("changes", "frechet_by_label")
"""And of models that translate."""


class About(NamedTuple):
    """What there is to know of a number."""

    meaning: str
    higher_is_better: bool


_DISTANCE = "How far the features of samples are from those of the data, "
ABOUT: Mapping[str, About] = MappingProxyType(
    {
        "fid": About(f"{_DISTANCE}as two Gaussians; few pictures raise it.", False),
        "frechet": About(f"{_DISTANCE}as two Gaussians; few pictures raise it.", False),
        "kid": About(f"{_DISTANCE}by a kernel; 0 on average for the data themselves.", False),
        "score": About(
            "How sure a classifier is of each sample, and how evenly it reads the classes: from 1 "
            "to their number. It never looks at the data.",
            True,
        ),
        "precision": About("The share of samples that lie among the data.", True),
        "recall": About("The share of the data that lie among the samples.", True),
        "density": About("How densely the data lie around a sample; may exceed 1.", True),
        "coverage": About("The share of the data with a sample near them.", True),
        "accuracy": About("The share of labels that a classifier reads as asked for.", True),
        "translation_distance": About("How far pictures are from their translations.", False),
        "reconstruction_distance": About(
            "How far pictures are from their translations that were translated back.", False
        ),
        "path_length": About("How much samples change along short steps of the latents.", False),
        "modes": About("How many of the 1000 modes are drawn.", True),
        "test_error": About(
            "The share of held-out pictures whose class the discriminator does not name.", False
        ),
        "divergence": About("How unevenly the modes are drawn; 0 is best.", False),
    }
)
"""By the end of a number's name."""


def about(name: str) -> About:
    """Returns what there is to know of a number, nothing of one of another version."""
    return next((told for end, told in ABOUT.items() if name.endswith(end)), About("", True))


def higher_is_better(name: str) -> bool:
    """Whether a number of this name is to be large."""
    return about(name).higher_is_better
