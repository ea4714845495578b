"""Whether a generator copies, collapses or was trained by a discriminator that learned by heart.

Pure functions over distances, counts and scores that somebody else has measured. A verdict other
than "good" needs a difference that is large and that chance does not explain at the given number of
pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

COPYING, NEAR_COPYING = 0.5, 0.8  # memorization: half the distance is no coincidence
FAR = 1.5  # beyond it samples are farther from the data than unseen pictures ever are on average
CLOSEST = 0.01  # "as close as the closest 1 %" of real pictures
MANY = 0.1  # ten times as many as among real pictures, and seen in a grid of 64
SOME = 0.03
DEVIATIONS = 3.0  # one alarm in 700 by chance, for a single number
DEVIATIONS_OF_MANY = 4.0  # one alarm in 16,000 by chance; there may be dozens of tags
OVERFIT, OVERFITTING = 0.5, 0.2  # r_v; ADA holds its like at 0.6 and starts from 0
RECOGNIZED, LIKELY_RECOGNIZED = 0.8, 0.6  # share of training pictures; 0.5 is none
EXPLODED = 1000.0  # a logit of 100 is as sure as one can be; a Wasserstein distance seldom above
EXPLODES = (
    "scores explode. Go back to an earlier checkpoint, and try a lower learning rate, or a "
    "stronger penalty or normalization of D."
)
SKIPPED = 0.01  # Adam's averages forget within a hundred steps
MISSING_EXPECTED = 10  # a class expected so often is absent by chance once in 22,000 times
MISSING_MASS = 0.01  # rarer classes than this in all are worth a look, not an alarm
HISTOGRAM_DRAWS = 1000  # 99.9 % of them are the noise level
SKEWED = 0.25  # a quarter of the pictures would have to change their class
TAG_OFF = 0.2


class Finding(NamedTuple):
    """One thing that a number says about a run."""

    name: str
    value: float  # nan if it could not be measured
    verdict: str  # "good", "watch" or "bad"
    sentence: str  # what the number means, and what to try

    @property
    def line(self) -> str:
        """For the screen."""
        return f"{self.verdict:>5}: {self.sentence}"


Rule = tuple[bool, str, str]
"""Whether it holds, and the verdict and what is said then: the meaning, and what to try."""


def judged(name: str, value: float, fact: str, *rules: Rule) -> Finding:
    """Returns what the first rule that holds says of a number; `fact` begins the sentence."""
    verdict, meaning = next((verdict, meaning) for holds, verdict, meaning in rules if holds)
    return Finding(name, float(value), verdict, fact + meaning)


def unmeasured(name: str, why: str) -> Finding:
    """Returns the finding of a number that could not be had."""
    return Finding(name, math.nan, "watch", f"Not measured: {why}.")


def memorization(samples: np.ndarray, unseen: np.ndarray, space: str) -> tuple[Finding, ...]:
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
    names = f"memorization/{space}", f"copies/{space}"
    samples, unseen = _finite(samples), _finite(unseen)
    if not len(samples) or not len(unseen):
        return tuple(unmeasured(name, "there is no finite distance") for name in names)
    share, expected, odd = _share_of_closest(samples, unseen)
    copies = judged(
        names[1],
        share,
        f"In {space}, {share:.1%} of the samples are as close to a training picture as only the "
        f"closest {expected:.1%} of real pictures that were not trained on: ",
        *_by_share(
            share,
            odd,
            "some samples are copies. Look at the nearest neighbors; try more data, augmentation "
            "or an earlier checkpoint.",
        ),
        (True, "good", "no more than chance allows."),
    )
    return _distance_ratio(names[0], samples, unseen, space), copies


def _distance_ratio(name, samples, unseen, space):
    typical = np.median(unseen)
    if typical == 0:
        return unmeasured(
            name,
            "half of the real pictures to compare with are themselves in the training set; remove "
            "duplicates from the data",
        )
    ratio, z = np.median(samples) / typical, _rank_z(samples, unseen)
    copies = (
        "the generator copies. Compare the nearest neighbors by eye; try more data, "
        "augmentation, an earlier checkpoint or a smaller network."
    )
    strange = (
        "nothing is copied, but samples are unlike the data. Train longer, or look whether "
        "training is unstable."
    )
    return judged(
        name,
        ratio,
        f"In {space}, samples are {ratio:.2f} times as far from the nearest training picture as "
        "real pictures that were not trained on: ",
        (ratio < COPYING and z < -DEVIATIONS, "bad", copies),
        (ratio < NEAR_COPYING and z < -DEVIATIONS, "watch", copies),
        (ratio > FAR and z > DEVIATIONS, "watch", strange),
        (True, "good", "no sign of copying."),
    )


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
    return judged(
        name,
        share,
        f"In {space}, {share:.1%} of the samples have another one as near as only {expected:.1%} "
        "of real pictures have: ",
        *_by_share(
            share,
            odd,
            "the generator repeats itself (mode collapse). Try minibatch discrimination, a "
            "gradient penalty, a lower learning rate or an earlier checkpoint.",
        ),
        (True, "good", "samples repeat each other no more than the data do."),
    )


def _by_share(share, odd, meaning) -> tuple[Rule, Rule]:
    return (share > MANY and odd, "bad", meaning), (share > SOME and odd, "watch", meaning)


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


def score_scale(training: np.ndarray, generated: np.ndarray) -> Finding:
    """Whether the discriminator's scores have exploded, whatever the loss.

    Args:
      training: [N] or [N, h, w] logits of training pictures.
      generated: [L] or [L, h, w] logits of generated pictures.
    """
    train, fake = _means(training), _means(generated)
    if not (len(train) and len(fake)):
        return unmeasured("discriminator/scale", "there is no finite score")
    apart = abs(train.mean() - fake.mean())
    return judged(
        "discriminator/scale",
        apart,
        f"The discriminator's mean scores of training and of generated pictures are {apart:.3g} "
        "apart: ",
        (apart > EXPLODED, "bad", EXPLODES),
        (True, "good", "a usual scale."),
    )


def _means(scores):
    return _finite(np.reshape(scores, (len(scores), -1)).mean(-1) if len(scores) else scores)


def score_gap(
    training: np.ndarray, held_out: np.ndarray, generated: np.ndarray
) -> tuple[Finding, ...]:
    """Whether the discriminator knows its training pictures by heart.

    The first finding is r_v of Karras et al., 2020, arXiv:2006.06676, eq. 1: 0 if held-out pictures
    score like training pictures, 1 if like generated ones. The second one is the share of training
    pictures that score above the median held-out one: 0.5 without overfitting.

    Args:
      training: [N] or [N, h, w] logits of training pictures.
      held_out: [M] or [M, h, w] logits of real pictures that were not trained on.
      generated: [L] or [L, h, w] logits of generated pictures.
    """
    names = "discriminator/overfitting", "discriminator/recognized"
    train, held, fake = map(_means, (training, held_out, generated))
    if not (len(train) and len(held) and len(fake)):
        return tuple(unmeasured(name, "there is no finite score") for name in names)
    odd = _rank_z(train, held) > DEVIATIONS
    share = (train > np.median(held)).mean()
    recognized = (
        "the discriminator recognizes pictures. Try augmentation, more data or a smaller "
        "discriminator."
    )
    return (
        _overfitting(names[0], train.mean(), held.mean(), fake.mean(), odd),
        judged(
            names[1],
            share,
            f"{share:.1%} of the training pictures score above the median held-out one (50% "
            "without overfitting): ",
            (share > RECOGNIZED and odd, "bad", recognized),
            (share > LIKELY_RECOGNIZED and odd, "watch", recognized),
            (True, "good", "it has not learned them by heart."),
        ),
    )


def _overfitting(name, train, held, fake, odd):
    means = (
        f"The discriminator's mean score is {train:.2f} on training pictures, {held:.2f} on "
        f"held-out and {fake:.2f} on generated ones"
    )
    if train <= fake:
        return unmeasured(name, f"{means}: it does not tell training pictures from generated ones")
    r = (train - held) / (train - fake)
    overfits = (
        "it overfits, and soon has nothing to teach. Try augmentation, more data, a smaller "
        "discriminator, dropout, or an earlier checkpoint."
    )
    return judged(
        name,
        r,
        f"{means} (r_v = {r:.2f}; 0 is none, 1 is complete overfitting): ",
        (r > OVERFIT and odd, "bad", overfits),
        (r > OVERFITTING and odd, "watch", overfits),
        (True, "good", "it judges new pictures like known ones."),
    )


def skipped_updates(skipped: int, updates: int) -> Finding:
    """The share of updates that were undone because a loss, gradient or weight was not finite.

    Args:
      skipped: the state's counter.
      updates: how many were played in all, of both players.
    """
    if updates <= 0:
        return unmeasured("skipped", "no update was played")
    unstable = (
        "training is unstable. Try a lower learning rate, or float32 if it runs in lower precision."
    )
    return judged(
        "skipped",
        skipped / updates,
        f"{skipped:,} of {updates:,} updates were undone for not being finite: ",
        (skipped / updates > SKIPPED, "bad", unstable),
        (skipped > 0, "watch", "harmless so far; see whether more follow."),
        (True, "good", "none was lost."),
    )


def class_histogram(generated: np.ndarray, data: np.ndarray, names: Sequence[str]) -> Finding:
    """The total variation distance between the classes of generated pictures and the data's.

    Args:
      generated: [K] pictures of each class, as a classifier tells them.
      data: [K] the same of the data; a classifier's mistakes cancel if it tells these too.
      names: [K] of the classes.
    """
    # The shares must add up to one more exactly than float32 can.
    generated, data = np.asarray(generated, np.float64), np.asarray(data, np.float64)
    count, size = generated.sum(), data.sum()
    if not (np.isfinite(count) and np.isfinite(size) and count > 0 and size > 0):
        return unmeasured("classes", "there are no generated pictures, or no labeled real ones")
    p, q = generated / count, data / size
    distance, noise = np.abs(p - q).sum() / 2, _histogram_noise(q, int(count), int(size))
    missing = (generated == 0) & (q * count >= MISSING_EXPECTED)
    lost = q[missing].sum()
    rare = (p < q) & (q - p >= (q - p).max() / 2)
    collapsed = (
        f"{_named(names, missing, q)} never appear, {lost:.1%} of the data (mode collapse). Try "
        "minibatch discrimination, a gradient penalty, or giving the networks the labels if they "
        "have none."
    )
    skewed = (
        f"{_named(names, rare, q - p)} come too seldom. Train longer, or try a gradient penalty, "
        "or giving the networks the labels if they have none."
    )
    return judged(
        "classes",
        distance,
        f"{distance:.1%} of the {count:.0f} generated pictures would have to change their class to "
        f"match the data (up to {noise:.1%} is chance): ",
        (lost > MISSING_MASS, "bad", collapsed),
        (missing.any(), "watch", collapsed),
        (distance > max(noise, SKEWED), "bad", skewed),
        (distance > noise, "watch", skewed),
        (True, "good", "every class is there in its share."),
    )


def _histogram_noise(q, count, size):
    """The distance that two draws of these sizes from q seldom exceed."""
    random = np.random.default_rng(0)
    difference = random.multinomial(count, q, HISTOGRAM_DRAWS) / count
    difference -= random.multinomial(size, q, HISTOGRAM_DRAWS) / size
    return float(np.quantile(np.abs(difference).sum(-1) / 2, 0.999))


def tag_rates(
    generated: np.ndarray, count: int, data: np.ndarray, size: int, names: Sequence[str]
) -> Finding:
    """How often generated pictures have each tag, against the data; the value is the largest gap.

    Args:
      generated: [K] how many of the `count` generated pictures have each tag.
      count: of the generated pictures.
      data: [K] how many of the `size` real pictures have each tag.
      size: of the data.
      names: [K] of the tags.
    """
    generated, data = np.asarray(generated, np.float64), np.asarray(data, np.float64)
    measured = np.isfinite(generated).all() and np.isfinite(data).all()
    if not (measured and len(data) and count > 0 and size > 0):
        return unmeasured("tags", "there are no generated pictures, or no tagged real ones")
    p, q = generated / count, data / size
    both = (generated + data) / (count + size)
    noise = DEVIATIONS_OF_MANY * np.sqrt(both * (1 - both) * (1 / count + 1 / size))
    noise += 1 / count + 1 / size  # counts are whole: rare tags jump
    gap = np.abs(p - q)
    worst = int(np.argmax(gap))
    missing = (generated == 0) & (q * count >= MISSING_EXPECTED)
    off = gap > noise
    seldom = (
        f"{_named(names, missing, q)} never appear. Train longer, or give the networks the labels "
        "if they have none."
    )
    wrong = f"{_named(names, off, gap)} are off. Train longer, or weigh the labels' loss more."
    return judged(
        "tags",
        gap[worst],
        f"The tag that differs most is {names[worst]!r}: {p[worst]:.1%} of the generated pictures "
        f"have it, and {q[worst]:.1%} of the data (up to {noise[worst]:.1%} apart is chance): ",
        (missing.any(), "bad", seldom),
        ((off & (gap > TAG_OFF)).any(), "bad", wrong),
        (off.any(), "watch", wrong),
        (True, "good", "every tag has its share."),
    )


def _named(names, chosen, weight, most=5):
    """The names of the chosen, the heaviest first, in words."""
    order = [names[k] for k in np.argsort(-weight, kind="stable") if chosen[k]]
    shown = [repr(name) for name in order[:most]]
    return ", ".join(shown) + (f" and {len(order) - most} more" if len(order) > most else "")


def _finite(values):
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]


def _rank_z(first, second):
    """The Mann-Whitney statistic in standard deviations: positive if the first are larger."""
    n, m = len(first), len(second)
    second = np.sort(second)
    below, upto = (np.searchsorted(second, first, side).sum() for side in ("left", "right"))
    return ((below + upto) / 2 - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
