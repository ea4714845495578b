"""What is to be said of a run: copies, collapse, a discriminator that learned by heart, curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import devices
from jaxgan.core import Context, Gan, GanState, example_keys, normalize
from jaxgan.data import Dataset
from jaxgan.evaluation.curve_verdicts import judge_curves
from jaxgan.evaluation.distances.neighbors import nearest
from jaxgan.evaluation.evaluator import (
    AS_IN_DATA,
    NO_LABELS,
    Evaluation,
    Evaluator,
    in_batches,
    read_pictures,
    reference_order,
)
from jaxgan.evaluation.verdicts import (
    Finding,
    class_histogram,
    duplicates,
    memorization,
    score_gap,
    skipped_updates,
    tag_rates,
)
from jaxgan.stages import Stage, saved_stage

SAMPLES = 1000  # generated pictures that are looked at, and as many held-out ones
SHOWN, NEAREST_SHOWN = 8, 3  # samples beside their neighbors


class NearestPictures(NamedTuple):
    """Samples beside the training pictures that are nearest to them."""

    space: str  # what nearness was measured on: "pixels" or "features"
    samples: np.ndarray  # [N, H, W, C] uint8
    nearest: np.ndarray  # [N, k, H, W, C] uint8, the nearest first


def findings_of(
    evaluator: Evaluator,
    evaluation: Evaluation,
    state: GanState,
    held_out: Dataset | None,
    curves: Sequence[Mapping[str, float | None]],
) -> tuple[list[Finding], list[NearestPictures]]:
    """Returns all that can be said of a run, and samples beside the nearest training pictures.

    Args:
      evaluator: of the run, with the training's data set.
      evaluation: of the state.
      state: a checkpoint's.
      held_out: pictures of the same kind that were not trained on.
      curves: the lines of `metrics.jsonl`.
    """
    dataset, network, reference = evaluator.dataset, evaluator.network, evaluator.reference
    stage = evaluator.stages[saved_stage(evaluator.stages, int(state.step))]
    images = evaluation.images[:SAMPLES]
    others = None if held_out is None else held_out.images[:SAMPLES]
    other_features = None
    if others is not None:
        pictures = in_batches(others, stage.batch_size)
        other_features = read_pictures(network, pictures, len(others)).features
    order = reference_order(dataset, reference.moments.count)

    found: list[Finding] = []
    beside = []
    for space, samples, training, unseen, places in (
        ("pixels", _flat(images), _flat(dataset.images), _flat(others), np.arange(len(dataset))),
        ("features", evaluation.fake.features[:SAMPLES], reference.features, other_features, order),
    ):
        near = nearest(samples, training, min(NEAREST_SHOWN, len(training)))
        found += memorization(near.distances[:, 0], _unseen(unseen, training), space)
        found.append(_duplicates(samples, training, space))
        rows = places[near.indices[:SHOWN]]
        beside.append(NearestPictures(space, images[:SHOWN], dataset.images[rows]))
    found += _labels(evaluator, evaluation)
    if held_out is not None:
        sides = (
            (dataset.images, dataset.labels),
            (held_out.images, held_out.labels),
            (images, evaluation.fake.labels),
        )
        found += score_gap(*(_scores(stage, state, *side) for side in sides))
    found.append(_skipped(stage.gan, state))
    return [*found, *judge_curves(curves)], beside


def _flat(images: np.ndarray | None) -> np.ndarray | None:
    return None if images is None else images.reshape(len(images), -1)


def _unseen(held_out: np.ndarray | None, training: np.ndarray) -> np.ndarray:
    """How far real pictures are from the training's; without held-out ones, from each other."""
    if held_out is not None:
        return nearest(held_out, training, 1).distances[:, 0]
    return nearest(training[:SAMPLES], training, 2).distances[:, 1]


def _duplicates(samples: np.ndarray, training: np.ndarray, space: str) -> Finding:
    real = training[: len(samples)]
    drawn, there = (nearest(x, x, 2).distances[:, 1] for x in (samples[: len(real)], real))
    return duplicates(drawn, there, space)


def _labels(evaluator: Evaluator, evaluation: Evaluation) -> Iterator[Finding]:
    """What the classes or tags say that a classifier reads in both sets of pictures."""
    fake, real = evaluation.fake.logits, evaluator.reference.logits
    names = evaluator.network.label_names
    if fake is None or real is None or len(names) != fake.shape[-1]:
        return
    if evaluation.entry.protocol.conditions not in (NO_LABELS, AS_IN_DATA):
        return  # what was asked for is not what the data show
    if evaluator.network.label_kind == "class":
        drawn, there = (np.bincount(x.argmax(-1), minlength=len(names)) for x in (fake, real))
        yield class_histogram(drawn, there, names)
    else:
        yield tag_rates((fake > 0).sum(0), len(fake), (real > 0).sum(0), len(real), names)


def _scores(
    stage: Stage, state: GanState, images: np.ndarray, labels: np.ndarray | None
) -> np.ndarray:
    """The discriminator's scores of the first pictures, in whole batches of the training's size:
    what it compares within a batch is to be as in training."""
    step = jnp.int32(int(state.step))

    @jax.jit
    def score(variables, image, label):
        keys = example_keys(jax.random.key(0), jnp.arange(len(image)))
        context = Context(step, keys, state.memory, train=False)
        return stage.gan.score(variables, normalize(image), label, context)[0].source

    variables = devices.copies(jax.tree.map(np.asarray, state.variables["discriminator"]))
    scores, size, count = [], stage.batch_size, min(SAMPLES, len(images))
    for start in range(0, max(1, count - size + 1), size):
        rows = np.arange(start, start + size) % count  # fewer than a batch come again
        label = None if labels is None else np.asarray(labels[rows])
        image, label = devices.spread((images[rows], label))
        scores.append(np.asarray(score(variables, image, label)))
    return np.concatenate(scores)[:count]


def _skipped(gan: Gan, state: GanState) -> Finding:
    step = int(state.step)
    played = sum(-(-step // update.every) * update.repeat for update in gan.updates)
    return skipped_updates(int(state.skipped["total"]), played)
