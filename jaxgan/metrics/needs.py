"""What a metric needs: why it cannot be measured, said before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxgan.metrics.network import Network

SPLITS = 10  # of the Inception Score, as in its code


class Facts(NamedTuple):
    """What is known before anything is drawn: what a metric needs is there, or is not."""

    network: Network
    size: int  # of the features
    num_real: int
    num_fake: int
    asked: bool  # whether the generator is told what to draw
    same_labels: bool  # whether the network's labels are the data's
    latents: bool  # whether there are paths between latents


def is_inception(network: Network) -> bool:
    """Whether these are FID's own features."""
    return network.name == "inception"


def without_inception(facts: Facts) -> str | None:
    """FID is of its own network."""
    if is_inception(facts.network):
        return few_for_frechet(facts)
    return (
        "fid is the Fréchet distance of Inception's features and these are of the network "
        f"{facts.network.name!r}; give --features=inception, or ask for frechet"
    )


def few_for_frechet(facts: Facts) -> str | None:
    """Covariances of fewer pictures than features have no full rank."""
    if min(facts.num_real, facts.num_fake) > facts.size:
        return None
    return (
        f"a Fréchet distance of {facts.size} features needs at least {facts.size + 1} pictures on "
        f"either side, and there are {_counts(facts)}; take more, or ask for kid, which few "
        "pictures do not bias"
    )


def fewer_than(needed: int, name: str) -> Callable[[Facts], str | None]:
    """The metric `name` says nothing of fewer pictures."""

    def obstacle(facts: Facts) -> str | None:
        if min(facts.num_real, facts.num_fake) >= needed:
            return None
        return (
            f"{name} needs at least {needed} pictures on either side, and there are "
            f"{_counts(facts)}; take more"
        )

    return obstacle


def without_classes(facts: Facts) -> str | None:
    """The Inception Score is of classes that exclude each other."""
    if is_inception(facts.network) or facts.network.label_kind == "class":
        return fewer_than(SPLITS, "is")(facts)
    return (
        f"is needs the probabilities of classes, and the network {facts.network.name!r} gives "
        "none; give --features=inception or a classifier"
    )


def without_labels(facts: Facts) -> str | None:
    """Accuracy is of what was asked for."""
    if not facts.asked:
        return (
            "accuracy compares pictures with the labels that they were asked to show, and this "
            "model takes none; train one that does"
        )
    if not facts.same_labels:
        return (
            f"accuracy needs a classifier of the data's own labels and {facts.network.name!r} is "
            "none; make one with train_classifier.py"
        )
    return None


def without_latents(facts: Facts) -> str | None:
    """A path has two ends."""
    return None if facts.latents else "ppl walks between latents, and this model maps images"


def not_stacked(facts: Facts) -> str | None:
    """The thousand modes are three digits."""
    if facts.network.name == "classifier_each_channel":
        return None
    return (
        "modes are those of stacked_mnist as a classifier of MNIST reads them; train on that data "
        "set, and give such a classifier as --features"
    )


def _counts(facts: Facts) -> str:
    return f"{facts.num_real} real and {facts.num_fake} generated ones"
