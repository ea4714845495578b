"""Whether a generator copies, collapses or was trained by a discriminator that learned by heart.

Pure functions over distances and scores that somebody else has measured. Each returns `Finding`s:
a number, a verdict, and a sentence for people. A verdict other than "good" needs a difference that
is large and that chance does not explain at the given number of pictures.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

COPYING, NEAR_COPYING = 0.5, 0.8  # memorisation: half the distance is no coincidence
FAR = 1.5  # beyond it samples are farther from the data than unseen pictures ever are on average
CLOSEST = 0.01  # "as close as the closest 1 %" of real pictures
MANY = 0.1  # ten times as many as among real pictures, and seen in a grid of 64
SOME = 0.03
DEVIATIONS = 3.0  # one alarm in 700 by chance, for a single number
OVERFIT, OVERFITTING = 0.5, 0.2  # r_v; ADA holds its like at 0.6 and starts from 0
RECOGNISED, LIKELY_RECOGNISED = 0.8, 0.6  # share of training pictures; 0.5 is none
SKIPPED = 0.01  # Adam's averages forget within a hundred steps


class Finding(NamedTuple):
    """One thing that a number says about a run."""

    name: str
    value: float  # nan if it could not be measured
    verdict: str  # "good", "watch" or "bad"
    sentence: str  # what the number means, and what to try


def unmeasured(name: str, why: str) -> Finding:
    """Returns the finding of a number that could not be had."""
    return Finding(name, math.nan, "watch", f"Not measured: {why}.")


def memorisation(samples: np.ndarray, unseen: np.ndarray, space: str) -> tuple[Finding, Finding]:
    """Whether samples lie closer to the training pictures than unseen real pictures do.

    The first finding is the ratio of the medians, which only counts if the distances also differ in
    the rank test of Meehan et al., 2020, arXiv:2004.05675. The second one is the share of samples
    that are as close as the closest 1 % of the unseen, for copies that a median hides.

    Args:
      samples: [N] distance of each sample to the nearest training picture.
      unseen: [M] the same of held-out pictures; without any, of each training picture to the
        nearest other one.
      space: what the distances were measured on, "pixels" or "features".
    """
    names = f"memorisation/{space}", f"copies/{space}"
    samples, unseen = _finite(samples), _finite(unseen)
    if not len(samples) or not len(unseen):
        return tuple(unmeasured(name, "there is no finite distance") for name in names)
    return _distance_ratio(names[0], samples, unseen, space), _copies(
        names[1], samples, unseen, space
    )


def _distance_ratio(name, samples, unseen, space):
    typical = np.median(unseen)
    if typical == 0:
        return unmeasured(
            name,
            "half of the real pictures to compare with are themselves in the training set; remove "
            "duplicates from the data",
        )
    ratio, z = float(np.median(samples) / typical), _rank_z(samples, unseen)
    start = (
        f"In {space}, samples are {ratio:.2f} times as far from the nearest training picture as "
        "real pictures that were not trained on: "
    )
    if ratio < NEAR_COPYING and z < -DEVIATIONS:
        verdict = "bad" if ratio < COPYING else "watch"
        return Finding(
            name,
            ratio,
            verdict,
            start + "the generator copies. Compare the nearest neighbours by eye; try more data, "
            "augmentation, an earlier checkpoint or a smaller network.",
        )
    if ratio > FAR and z > DEVIATIONS:
        return Finding(
            name,
            ratio,
            "watch",
            start + "nothing is copied, but samples are unlike the data. Train longer, or look "
            "whether training is unstable.",
        )
    return Finding(name, ratio, "good", start + "no sign of copying.")


def _copies(name, samples, unseen, space):
    share, expected, odd = _share_of_closest(samples, unseen)
    start = (
        f"In {space}, {share:.1%} of the samples are as close to a training picture as only the "
        f"closest {expected:.1%} of real pictures that were not trained on: "
    )
    if share > SOME and odd:
        return Finding(
            name,
            share,
            "bad" if share > MANY else "watch",
            start + "some samples are copies. Look at the nearest neighbours; try more data, "
            "augmentation or an earlier checkpoint.",
        )
    return Finding(name, share, "good", start + "no more than chance allows.")


def duplicates(samples: np.ndarray, real: np.ndarray, space: str) -> Finding:
    """Whether samples repeat each other more than real pictures do.

    A generator with few pictures betrays itself by collisions (the birthday paradox test of Arora
    and Zhang, 2017, arXiv:1706.08224). Here a collision is counted, not looked for by eye: a sample
    whose nearest other sample is as near as only the nearest 1 % of real pairs are.

    Args:
      samples: [N] distance of each sample to the nearest other sample.
      real: [N] the same among as many real pictures; distances shrink as pictures are added.
      space: what the distances were measured on, "pixels" or "features".
    """
    name = f"duplicates/{space}"
    samples, real = _finite(samples), _finite(real)
    if not len(samples) or not (real > 0).any():
        return unmeasured(name, "there are no distances between different pictures")
    share, expected, odd = _share_of_closest(samples, real)
    start = (
        f"In {space}, {share:.1%} of the samples have another one as near as only {expected:.1%} "
        "of real pictures have: "
    )
    if share > SOME and odd:
        return Finding(
            name,
            share,
            "bad" if share > MANY else "watch",
            start + "the generator repeats itself (mode collapse). Try minibatch discrimination, a "
            "gradient penalty, a lower learning rate or an earlier checkpoint.",
        )
    return Finding(name, share, "good", start + "samples are as varied as the data.")


def _share_of_closest(samples, real):
    """The shares of both that are no farther than the closest 1 % of the real; whether they differ.

    Equal pictures in the data do not set the limit: it would be zero.
    """
    limit = np.quantile(real[real > 0], CLOSEST) if (real > 0).any() else 0.0
    share, expected = float((samples <= limit).mean()), float((real <= limit).mean())
    both = (share * len(samples) + expected * len(real)) / (len(samples) + len(real))
    # Two pictures are each other's nearest more often than not: that many are half as many.
    deviation = math.sqrt(2 * both * (1 - both) * (1 / len(samples) + 1 / len(real)))
    return share, expected, share - expected > DEVIATIONS * deviation


def score_gap(
    training: np.ndarray, held_out: np.ndarray, generated: np.ndarray
) -> tuple[Finding, Finding]:
    """Whether the discriminator knows its training pictures by heart.

    The first finding is r_v of Karras et al., 2020, arXiv:2006.06676, eq. 1: 0 if held-out pictures
    score like training pictures, 1 if like generated ones. The second one is the share of training
    pictures that score above the median held-out one: 0.5 without overfitting.

    Args:
      training: [N] or [N, h, w] logits of training pictures.
      held_out: [M] or [M, h, w] logits of real pictures that were not trained on.
      generated: [L] or [L, h, w] logits of generated pictures.
    """
    names = "discriminator/overfitting", "discriminator/recognised"
    train, held, fake = (
        _finite(np.reshape(x, (len(x), -1)).mean(-1) if len(x) else x)
        for x in (training, held_out, generated)
    )
    if not (len(train) and len(held) and len(fake)):
        return tuple(unmeasured(name, "there is no finite score") for name in names)
    odd = _rank_z(train, held) > DEVIATIONS
    return (
        _overfitting(names[0], train.mean(), held.mean(), fake.mean(), odd),
        _recognised(names[1], float((train > np.median(held)).mean()), odd),
    )


def _overfitting(name, train, held, fake, odd):
    means = (
        f"The discriminator's mean score is {train:.2f} on training pictures, {held:.2f} on "
        f"held-out and {fake:.2f} on generated ones"
    )
    if train <= fake:
        return unmeasured(name, f"{means}: it does not tell training pictures from generated ones")
    r = float((train - held) / (train - fake))
    start = f"{means} (r_v = {r:.2f}; 0 is none, 1 is complete overfitting): "
    if r > OVERFITTING and odd:
        return Finding(
            name,
            r,
            "bad" if r > OVERFIT else "watch",
            start + "it overfits, and soon has nothing to teach. Try augmentation, more data, a "
            "smaller discriminator, dropout, or an earlier checkpoint.",
        )
    return Finding(name, r, "good", start + "it judges new pictures like known ones.")


def _recognised(name, share, odd):
    start = (
        f"{share:.1%} of the training pictures score above the median held-out one (50% without "
        "overfitting): "
    )
    if share > LIKELY_RECOGNISED and odd:
        return Finding(
            name,
            share,
            "bad" if share > RECOGNISED else "watch",
            start + "the discriminator recognises pictures. Try augmentation, more data or a "
            "smaller discriminator.",
        )
    return Finding(name, share, "good", start + "it has not learned them by heart.")


def skipped_updates(skipped: int, updates: int) -> Finding:
    """The share of updates that were undone because a loss, gradient or weight was not finite.

    Args:
      skipped: the state's counter.
      updates: how many were played in all, of both players.
    """
    name = "skipped"
    if updates <= 0:
        return unmeasured(name, "no update was played")
    share = skipped / updates
    start = f"{skipped:,} of {updates:,} updates were undone for not being finite: "
    if share > SKIPPED:
        return Finding(
            name,
            share,
            "bad",
            start + "training is unstable. Try a lower learning rate, or float32 if it runs in "
            "lower precision.",
        )
    if skipped:
        return Finding(name, share, "watch", start + "harmless so far; see whether more follow.")
    return Finding(name, share, "good", start + "none was lost.")


def _finite(values):
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]


def _rank_z(first, second):
    """The Mann-Whitney statistic in standard deviations: positive if the first are larger."""
    n, m = len(first), len(second)
    second = np.sort(second)
    below, upto = (np.searchsorted(second, first, side).sum() for side in ("left", "right"))
    return ((below + upto) / 2 - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
