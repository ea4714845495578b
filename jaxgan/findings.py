"""What is to be said of a run: copies, collapse, a discriminator that learned by heart, curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import parallel
from jaxgan.core import Context, Gan, GanState, example_keys, normalise
from jaxgan.data import Dataset
from jaxgan.evaluate import AS_IN_DATA, NO_LABELS, Evaluation, in_batches, read_pictures
from jaxgan.metrics import histogram, panel, training
from jaxgan.metrics.neighbours import nearest
from jaxgan.metrics.network import Network
from jaxgan.metrics.panel import Finding
from jaxgan.metrics.suite import Seen

SAMPLES = 1000  # generated pictures that are looked at, and as many held-out ones
SHOWN = 3  # neighbours of a sample


class Material(NamedTuple):
    """What the findings are about."""

    gan: Gan  # of the state's stage
    state: GanState
    dataset: Dataset  # the training's
    held_out: Dataset | None  # pictures of the same kind that were not trained on
    network: Network
    reference: Seen  # `dataset` as the network reads it
    order: np.ndarray  # [n], which of its pictures those are
    evaluation: Evaluation
    curves: Sequence[Mapping[str, float | None]]  # the lines of metrics.jsonl
    batch_size: int  # of the training, in that stage


class Nearest(NamedTuple):
    """The training pictures that are nearest to each sample."""

    space: str  # what nearness was measured on: "pixels" or "features"
    indices: np.ndarray  # [N, SHOWN], of the data set


def look(material: Material) -> tuple[list[Finding], list[Nearest]]:
    """Returns all that can be said, and the training pictures nearest to the samples."""
    images = material.evaluation.images[:SAMPLES]
    real = material.dataset.images
    others = None if material.held_out is None else material.held_out.images[:SAMPLES]
    pixels = _Space("pixels", _flat(images), _flat(real), None if others is None else _flat(others))
    other_features = None
    if others is not None:
        pictures = in_batches(others, material.batch_size)
        other_features = read_pictures(material.network, pictures, len(others)).features
    seen = material.evaluation.fake.features[:SAMPLES]
    features = _Space("features", seen, material.reference.features, other_features)

    found, neighbours = [], []
    for space in (pixels, features):
        near = nearest(space.samples, space.training, min(SHOWN, len(space.training)))
        found += panel.memorisation(near.distances[:, 0], _unseen(space), space.name)
        found.append(_duplicates(space))
        indices = near.indices if space is pixels else material.order[near.indices]
        neighbours.append(Nearest(space.name, indices))
    found += _labels(material)
    if others is not None:
        found += _score_gap(material, images)
    found.append(_skipped(material.gan, material.state))
    return [*found, *training.judge(material.curves)], neighbours


class _Space(NamedTuple):
    name: str
    samples: np.ndarray
    training: np.ndarray
    held_out: np.ndarray | None


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _unseen(space: _Space) -> np.ndarray:
    """How far real pictures are from the training's; without held-out ones, from each other."""
    if space.held_out is not None:
        return nearest(space.held_out, space.training, 1).distances[:, 0]
    return nearest(space.training[:SAMPLES], space.training, 2).distances[:, 1]


def _duplicates(space: _Space) -> Finding:
    real = space.training[: len(space.samples)]
    apart = [nearest(x, x, 2).distances[:, 1] for x in (space.samples[: len(real)], real)]
    return panel.duplicates(*apart, space.name)


def _labels(material: Material) -> Iterator[Finding]:
    """What the classes or tags say that a classifier reads in both sets of pictures."""
    fake, real = material.evaluation.fake.logits, material.reference.logits
    names, kind = material.network.label_names, material.network.label_kind
    if fake is None or real is None or len(names) != fake.shape[-1]:
        return
    if material.evaluation.entry.protocol.conditions not in (NO_LABELS, AS_IN_DATA):
        return  # what was asked for is not what the data show
    if kind == "class":
        counts = [np.bincount(x.argmax(-1), minlength=len(names)) for x in (fake, real)]
        yield histogram.class_histogram(*counts, names)
    else:
        yield histogram.tag_rates((fake > 0).sum(0), len(fake), (real > 0).sum(0), len(real), names)


def _score_gap(material: Material, images: np.ndarray) -> tuple[Finding, ...]:
    # What a discriminator compares within a batch is to be as in training.
    rows = slice(SAMPLES)
    training = _Pictures(material.dataset.images[rows], _part(material.dataset.labels, rows))
    held_out = _Pictures(material.held_out.images[rows], _part(material.held_out.labels, rows))
    generated = _Pictures(images, _part(material.evaluation.fake.labels, rows))
    return panel.score_gap(*(_scores(material, x) for x in (training, held_out, generated)))


class _Pictures(NamedTuple):
    images: np.ndarray
    labels: np.ndarray | None


def _part(labels: np.ndarray | None, rows: slice) -> np.ndarray | None:
    return None if labels is None else np.asarray(labels[rows])


def _scores(material: Material, pictures: _Pictures) -> np.ndarray:
    gan, size = material.gan, material.batch_size
    step = jnp.int32(int(material.state.step))

    @jax.jit
    def score(variables, image, label):
        keys = example_keys(jax.random.key(0), jnp.arange(len(image)))
        context = Context(step, keys, material.state.memory, train=False)
        return gan.score(variables, normalise(image), label, context)[0].source

    variables = parallel.copies(jax.tree.map(np.asarray, material.state.variables["discriminator"]))
    scores = []
    for start in range(0, len(pictures.images) - size + 1, size):
        rows = slice(start, start + size)
        label = _part(pictures.labels, rows)
        image, label = parallel.spread((pictures.images[rows], label))
        scores.append(np.asarray(score(variables, image, label)))
    return np.concatenate(scores) if scores else np.empty(0)


def _skipped(gan: Gan, state: GanState) -> Finding:
    step = int(state.step)
    played = sum(-(-step // update.every) * update.repeat for update in gan.updates)
    return panel.skipped_updates(int(state.skipped["total"]), played)
