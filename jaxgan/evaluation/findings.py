"""What is to be said of a run: copies, collapse, a discriminator that learned by heart, curves."""

from __future__ import annotations

import dataclasses
import functools
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


class Judgment(NamedTuple):
    """What was found."""

    findings: Sequence[Finding]
    neighbors: Sequence[NearestPictures]


class Space(NamedTuple):
    """Where pictures lie near each other or apart."""

    name: str  # "pixels" or "features"
    training: np.ndarray  # [M, F]
    places: np.ndarray  # [M] of which of the training's pictures
    unseen: np.ndarray  # how far real pictures are from the training's
    apart: np.ndarray  # how far each of some training pictures is from the nearest other of them


@dataclasses.dataclass(frozen=True)
class Judge:
    """Says in words how good the generators of a run are; what is of real pictures is found once.

    Args:
      evaluator: of the run, with the training's data set.
      held_out: pictures of the same kind that were not trained on, if there are any.
    """

    evaluator: Evaluator
    held_out: Dataset | None = None

    def __call__(
        self,
        evaluation: Evaluation,
        state: GanState,
        curves: Sequence[Mapping[str, float | None]],
    ) -> Judgment:
        """Returns all that can be said of a state, and samples beside their nearest pictures.

        Args:
          evaluation: of the state, by `evaluator`.
          state: a checkpoint's.
          curves: the lines of `metrics.jsonl`.
        """
        dataset, images = self.evaluator.dataset, evaluation.images[:SAMPLES]
        found: list[Finding] = []
        beside = []
        drawn = _flat(images), evaluation.fake.features[:SAMPLES]
        for space, samples in zip(self._spaces, drawn, strict=True):
            near = nearest(samples, space.training, min(NEAREST_SHOWN, len(space.training)))
            found += memorization(near.distances[:, 0], space.unseen, space.name)
            found.append(duplicates(_apart(samples[: len(space.apart)]), space.apart, space.name))
            rows = space.places[near.indices[:SHOWN]]
            beside.append(NearestPictures(space.name, images[:SHOWN], dataset.images[rows]))
        found += _labels(self.evaluator, evaluation)
        stages = self.evaluator.stages
        stage = stages[saved_stage(stages, int(state.step))]
        if self.held_out is not None:
            sides = (
                (dataset.images, dataset.labels),
                (self.held_out.images, self.held_out.labels),
                (images, evaluation.fake.labels),
            )
            found += score_gap(*(_scores(stage, state, *side) for side in sides))
        found.append(_skipped(stage.gan, state))
        return Judgment([*found, *judge_curves(curves)], beside)

    @functools.cached_property
    def _held_out_features(self) -> np.ndarray | None:
        if self.held_out is None:
            return None
        images = self.held_out.images[:SAMPLES]
        pictures = in_batches(images, self.evaluator.batch_size)
        return read_pictures(self.evaluator.network, pictures, len(images)).features

    @functools.cached_property
    def _spaces(self) -> tuple[Space, ...]:
        images, reference = self.evaluator.dataset.images, self.evaluator.reference
        held_out = None if self.held_out is None else _flat(self.held_out.images[:SAMPLES])
        order = reference_order(self.evaluator.dataset, reference.moments.count)
        return (
            self._space("pixels", _flat(images), np.arange(len(images)), held_out),
            self._space("features", reference.features, order, self._held_out_features),
        )

    def _space(self, name, training, places, held_out) -> Space:
        if held_out is not None:
            unseen = nearest(held_out, training, 1).distances[:, 0]
        else:  # how far the training's are from each other
            unseen = nearest(training[:SAMPLES], training, 2).distances[:, 1]
        some = training[: min(SAMPLES, self.evaluator.num)]
        return Space(name, training, places, unseen, _apart(some))


def _apart(x: np.ndarray) -> np.ndarray:
    """How far each is from the nearest other."""
    return nearest(x, x, 2).distances[:, 1]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


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
