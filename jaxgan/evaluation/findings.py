"""What is to be said of a run: its pictures, a discriminator that learned by heart or exploded,
updates that were undone, curves."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import devices
from jaxgan.core import Context, Gan, GanState, example_keys, normalize
from jaxgan.data import Dataset
from jaxgan.evaluation.curve_verdicts import judge_curves
from jaxgan.evaluation.evaluator import AS_IN_DATA, NO_LABELS, Evaluation, Evaluator
from jaxgan.evaluation.picture_findings import SAMPLES, Judgment, PictureJudge, Scale
from jaxgan.evaluation.verdicts import Finding, score_gap, score_scale, skipped_updates
from jaxgan.stages import Stage, saved_stage


@dataclasses.dataclass(frozen=True)
class Judge:
    """Says in words how good the generators of a run are; what is of real pictures is found once.

    Args:
      evaluator: of the run, with the training's data set.
      held_out: pictures of the same kind that were not trained on, if there are any.
      cache_dir: where readings of real pictures are kept.
    """

    evaluator: Evaluator
    held_out: Dataset | None = None
    cache_dir: pathlib.Path | None = None

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
        conditions = evaluation.entry.protocol.conditions
        like_data = conditions in (NO_LABELS, AS_IN_DATA)
        images, fake = evaluation.images[:SAMPLES], evaluation.fake
        found, beside = self.pictures(images, fake, like_data=like_data)
        stages = self.evaluator.stages
        stage = stages[saved_stage(stages, int(state.step))]
        score = functools.partial(_scores, stage, state)
        known, drawn = score(*self.pictures.training), score(images, fake.labels)
        gap: Sequence[Finding] = ()
        if self.pictures.unseen is not None:
            gap = score_gap(known, score(*self.pictures.unseen), drawn)
        players = [score_scale(known, drawn), *gap, _skipped(stage.gan, state)]
        return Judgment([*found, *players, *judge_curves(curves)], beside)

    @functools.cached_property
    def pictures(self) -> PictureJudge:
        """Judges the pictures alone."""
        of = self.evaluator
        return PictureJudge(
            of.network,
            of.dataset,
            of.reference,
            of.num,
            self.held_out,
            of.batch_size,
            self.cache_dir,
        )

    @functools.cached_property
    def scale(self) -> Scale:
        """What real pictures reach by the same protocol."""
        return self.pictures.scale(self.evaluator.metrics, self.evaluator.seed)


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
        source = stage.gan.score(variables, normalize(image), label, context)[0].source
        return source.reshape(len(image), -1).mean(1)  # of the patches, if it scores those

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
