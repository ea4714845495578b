"""Whether the curves of a training are normal: a verdict from the lines of its `metrics.jsonl`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxgan.core import PLAYERS
from jaxgan.evaluation.verdicts import EXPLODES, Finding, judged

ENOUGH = 12  # lines; a quarter of them is then three
OFTEN = 0.1  # of the last quarter's lines: that is not a single bad batch
WON, LOST = 0.95, 0.05  # mean probabilities that leave the generator next to no gradient
AHEAD = 0.85  # real less fake probability; runs that go well stay below 0.7
EVEN = 0.05  # as near to a coin's toss as batches of 64 can tell
GROWN = 1.2  # a loss's noise moves the median of a quarter by less
FALLEN = 1 / GROWN
SURE = 100.0  # a logit that leaves a probability of 4e-44
EXPLODED = 10.0  # from one quarter of a run to the next; scales settle, they do not multiply
SWING = 0.5  # the smoothed fake probability between its tenths: from caught to fooling
SMOOTHED = 5  # lines; batch noise shrinks to less than half


def judge_curves(rows: Sequence[Mapping[str, float | None]]) -> tuple[Finding, ...]:
    """What the last quarter of the curves says, compared with what was before.

    Losses with a probability are judged by D(x) and D(G(z)), Wasserstein's by the distance that it
    estimates, all others by the gap between the scores. What was not logged is not judged.

    Args:
      rows: the lines of a `metrics.jsonl` in order; None stands for what was not finite.
    """
    rows = [_with_adversarial(row) for row in rows]
    losses = {name for row in rows for name in row if name.endswith("/loss")}
    if not losses or len(rows) < ENOUGH:
        return (
            Finding(
                "training",
                math.nan,
                "watch",
                f"Not judged: {len(rows)} logged steps with {len(losses)} losses are too few; "
                f"train on, or log more often, until there are {ENOUGH}.",
            ),
        )
    findings = [_finite(rows, losses)]
    chances = _together(rows, "discriminator/real_probability", "discriminator/fake_probability")
    if len(chances) >= ENOUGH:
        real, fake = chances.T
        exploded = _exploded(rows)
        return (
            *findings,
            *exploded,
            *([] if exploded else [_balance(rows, real, fake)]),
            _oscillation(fake),
        )
    scores = _together(rows, "discriminator/real", "discriminator/fake")
    if len(scores) >= ENOUGH:
        real, fake = scores.T
        findings.append(_distance(real - fake, _is_wasserstein(rows)))
    return tuple(findings)


def _with_adversarial(row):
    """Runs of older versions have the adversarial term alone, under the name `loss`."""
    old = {
        f"{player}/adversarial": row[f"{player}/loss"]
        for player in PLAYERS
        if f"{player}/loss" in row
    }
    return {**old, **row}


def _together(rows, *names):
    """The values [N, len(names)] of the lines that have all of them, finite."""
    values = [[row.get(name) for name in names] for row in rows]
    values = np.array(values, np.float64).reshape(-1, len(names))  # None becomes nan
    return values[np.isfinite(values).all(1)]


def _quarter(values, number):
    return values[number * len(values) // 4 : (number + 1) * len(values) // 4]


def _is_finite(value):
    return value is not None and math.isfinite(value)


def _finite(rows, losses):
    is_bad = [any(name in row and not _is_finite(row[name]) for name in losses) for row in rows]
    steps = [row.get("step") for row, bad in zip(rows, is_bad, strict=True) if bad]
    share = np.mean(_quarter(is_bad, 3))
    if not steps:
        return Finding("training/finite", 0.0, "good", "Every logged loss is a finite number.")
    return judged(
        "training/finite",
        share,
        f"A loss was not finite at {len(steps)} of {len(rows)} logged steps, first at step "
        f"{steps[0]}: ",
        (
            share > OFTEN,
            "bad",
            "training diverges. Go back to a checkpoint before that step, and try a lower learning "
            "rate.",
        ),
        (
            True,
            "watch",
            "these updates were undone and training went on; see whether more follow.",
        ),
    )


def _exploded(rows):
    """For losses with a probability: such a loss is as large as the logit that is wrong."""
    losses = _together(rows, *(f"{player}/adversarial" for player in PLAYERS))
    largest = np.abs(_quarter(losses, 3)).max(1, initial=0)
    if len(losses) < ENOUGH or np.median(largest) <= SURE:
        return []
    return [
        Finding(
            "training/scores",
            float(np.median(largest)),
            "bad",
            f"Lately a loss is around {np.median(largest):.3g}, which takes logits of that size, "
            f"and one of 10 is as sure as 99.995%: {EXPLODES}",
        )
    ]


def _balance(rows, real, fake):
    p, q = _quarter(real, 3).mean(), _quarter(fake, 3).mean()
    generator, discriminator = (_together(rows, f"{player}/adversarial") for player in PLAYERS)
    before, now = (
        np.median(_quarter(generator, k)) if len(generator) >= ENOUGH else 0 for k in (2, 3)
    )
    grows = ", and the generator's loss grows" if now > GROWN * before else ""
    flat = len(discriminator) >= ENOUGH and (
        abs(np.median(_quarter(discriminator, 3)) - 2 * math.log(2)) < EVEN
    )
    alike = (
        f"it cannot tell them apart{', and its loss is flat at 2 log 2 = 1.39' if flat else ''}. "
    )
    even, never = abs(p - q) <= EVEN, np.median(_quarter(abs(real - fake), 0)) <= EVEN
    return judged(
        "training/balance",
        p - q,
        f"Lately D takes real pictures for real with {p:.0%}, generated ones with {q:.0%}: ",
        (
            p > WON and q < LOST,
            "bad",
            f"D wins completely{grows}. For the first hundreds of steps that is normal; if it "
            "lasts, weaken D: a lower learning rate, label smoothing, dropout, augmentation, or a "
            "gradient penalty.",
        ),
        (
            p - q > AHEAD,
            "watch",
            "D is far ahead. If pictures do not improve, weaken it: a lower learning rate, label "
            "smoothing, or a gradient penalty.",
        ),
        (
            q - p > EVEN,
            "watch",
            "D takes generated pictures for the real ones. If that lasts, D is too weak: a higher "
            "learning rate or a wider network.",
        ),
        (
            even and never,
            "watch",
            f"{alike}It never could: unless the pictures are good, D does not learn. Try a higher "
            "learning rate for D, or a wider one.",
        ),
        (
            even,
            "good",
            f"{alike}That is the equilibrium of the game (Goodfellow et al., 2014), if the "
            "pictures look right; otherwise D is too weak to teach more.",
        ),
        (
            True,
            "good",
            "D is ahead and the generator follows, as in most trainings that go well. The losses "
            "need not fall.",
        ),
    )


def _oscillation(fake):
    late = fake[len(fake) // 2 :]
    width = min(SMOOTHED, len(late) // 2)
    smooth = np.convolve(late, np.ones(width) / width, "valid")
    low, high = np.quantile(smooth, [0.1, 0.9])
    return judged(
        "training/oscillation",
        high - low,
        f"In the second half D(G(z)) moves between {low:.0%} and {high:.0%}: ",
        (
            high - low > SWING,
            "watch",
            "the players chase each other. Try a lower learning rate or Adam's beta1 of 0 to 0.5, "
            "and sample from averaged weights.",
        ),
        (True, "good", "no more than the usual back and forth."),
    )


def _is_wasserstein(rows):
    terms = _together(rows, "discriminator/adversarial", "discriminator/fake", "discriminator/real")
    loss, fake, real = terms.T
    return len(terms) > 2 and bool(
        np.allclose(loss, fake - real, rtol=1e-3, atol=1e-4 * np.abs(terms).max())
    )


def _distance(gap, wasserstein):
    before, now = (np.median(_quarter(gap, number)) for number in (2, 3))
    what = "the estimated Wasserstein distance" if wasserstein else "the gap of D's mean scores"
    return judged(
        "training/wasserstein" if wasserstein else "training/scores",
        now,
        f"Lately {what}, real less generated, is {now:.3g} (it was {before:.3g} before): ",
        (
            now <= 0,
            "watch",
            "D prefers generated pictures. It is too weak: give it more steps for each of the "
            "generator's, or a higher learning rate.",
        ),
        (
            now > EXPLODED * max(before, 0),
            "bad",
            EXPLODES,
        ),
        (
            not wasserstein,
            "good",
            "D keeps pictures apart at a steady scale. This loss says nothing of quality: look at "
            "the distances and the pictures.",
        ),
        (
            now > GROWN * before,
            "watch",
            "it rises. Early on the critic is still learning; later the generator falls behind: "
            "try a lower learning rate, or more steps of the critic.",
        ),
        (
            now < FALLEN * before,
            "good",
            "it falls, and with this loss that means better pictures (Arjovsky et al., 2017). "
            "Train on.",
        ),
        (
            True,
            "good",
            "it is flat. The game has settled: if the pictures are to improve, lower the "
            "learning rate or take wider networks.",
        ),
    )
