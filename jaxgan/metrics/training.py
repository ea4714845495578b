"""Whether the curves of a training are normal: a verdict from the lines of its `metrics.jsonl`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxgan.metrics.panel import Finding

ENOUGH = 12  # lines; a quarter of them is then three
OFTEN = 0.1  # of the last quarter's lines: that is not a single bad batch
WON, LOST = 0.95, 0.05  # mean probabilities that leave the generator next to no gradient
AHEAD = 0.85  # real less fake probability; runs that go well stay below 0.7
EVEN = 0.05  # as near to a coin's toss as batches of 64 can tell
GROWN = 1.2  # a loss's noise moves the median of a quarter by less
FALLEN = 1 / GROWN
EXPLODED = 10.0  # from one quarter of a run to the next; scales settle, they do not multiply
SWING = 0.5  # the smoothed fake probability between its tenths: from caught to fooling
SMOOTHED = 5  # lines; batch noise shrinks to less than half


def judge(rows: Sequence[Mapping[str, float | None]]) -> tuple[Finding, ...]:
    """What the last quarter of the curves says, compared with what was before.

    Losses with a probability are judged by D(x) and D(G(z)), Wasserstein's by the distance that it
    estimates, all others by the gap between the scores. What was not logged is not judged.

    Args:
      rows: the lines of a `metrics.jsonl` in order; None stands for what was not finite.
    """
    losses = [name for row in rows for name in row if name.endswith("/loss")]
    if not losses or len(rows) < ENOUGH:
        return (
            Finding(
                "training",
                math.nan,
                "watch",
                f"Not judged: {len(rows)} logged steps with {len({*losses})} losses are too few; "
                f"train on, or log more often, until there are {ENOUGH}.",
            ),
        )
    findings = [_finite(rows, dict.fromkeys(losses))]
    chances = _together(rows, "discriminator/real_probability", "discriminator/fake_probability")
    if len(chances) >= ENOUGH:
        real, fake = chances.T
        return (*findings, _balance(rows, real, fake), _oscillation(fake))
    scores = _together(rows, "discriminator/real", "discriminator/fake")
    if len(scores) >= ENOUGH:
        real, fake = scores.T
        findings.append(_distance(real - fake, _is_wasserstein(rows)))
    return tuple(findings)


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
    bad = [row for row, is_ in zip(rows, is_bad, strict=True) if is_]
    share = float(np.mean(_quarter(is_bad, 3)))
    if not bad:
        return Finding("training/finite", 0.0, "good", "Every logged loss is a finite number.")
    start = (
        f"A loss was not finite at {len(bad)} of {len(rows)} logged steps, first at step "
        f"{bad[0].get('step')}: "
    )
    if share > OFTEN:
        return Finding(
            "training/finite",
            share,
            "bad",
            start + "training diverges. Go back to a checkpoint before that step, and try a lower "
            "learning rate.",
        )
    return Finding(
        "training/finite",
        share,
        "watch",
        start + "these updates were undone and training went on; see whether more follow.",
    )


def _balance(rows, real, fake):
    name = "training/balance"
    p, q = float(_quarter(real, 3).mean()), float(_quarter(fake, 3).mean())
    start = f"Lately D takes real pictures for real with {p:.0%}, generated ones with {q:.0%}: "
    if p > WON and q < LOST:
        loss = _together(rows, "generator/loss")
        before, now = (np.median(_quarter(loss, k)) if len(loss) >= ENOUGH else 0 for k in (2, 3))
        grows = now > GROWN * before
        start += "D wins completely"
        start += ", and the generator's loss grows. " if grows else ". "
        return Finding(
            name,
            p - q,
            "bad",
            start
            + "For the first hundreds of steps that is normal; if it lasts, weaken D: a lower "
            "learning rate, label smoothing, dropout, augmentation, or a gradient penalty.",
        )
    if p - q > AHEAD:
        return Finding(
            name,
            p - q,
            "watch",
            start + "D is far ahead. If pictures do not improve, weaken it: a lower learning rate, "
            "label smoothing, or a gradient penalty.",
        )
    if q - p > EVEN:
        return Finding(
            name,
            p - q,
            "watch",
            start + "D takes generated pictures for the real ones. If that lasts, D is too weak: "
            "a higher learning rate or a wider network.",
        )
    if abs(p - q) <= EVEN:
        return _even(rows, name, p - q, start, abs(real - fake))
    return Finding(
        name,
        p - q,
        "good",
        start + "D is ahead and the generator follows, as in most trainings that go well. The "
        "losses need not fall.",
    )


def _even(rows, name, gap, start, gaps):
    loss = _together(rows, "discriminator/loss")
    near = len(loss) >= ENOUGH and abs(np.median(_quarter(loss, 3)) - 2 * math.log(2)) < EVEN
    flat = ", and its loss is flat at 2 log 2 = 1.39" if near else ""
    start += f"it cannot tell them apart{flat}. "
    if np.median(_quarter(gaps, 0)) <= EVEN:
        return Finding(
            name,
            gap,
            "watch",
            start + "It never could: unless the pictures are good, D does not learn. Try a higher "
            "learning rate for D, or a wider one.",
        )
    return Finding(
        name,
        gap,
        "good",
        start + "That is the equilibrium of the game (Goodfellow et al., 2014), if the pictures "
        "look right; otherwise D is too weak to teach more.",
    )


def _oscillation(fake):
    name = "training/oscillation"
    late = fake[len(fake) // 2 :]
    width = min(SMOOTHED, len(late) // 2)
    smooth = np.convolve(late, np.ones(width) / width, "valid")
    low, high = np.quantile(smooth, [0.1, 0.9])
    swing = float(high - low)
    start = f"In the second half D(G(z)) moves between {low:.0%} and {high:.0%}: "
    if swing > SWING:
        return Finding(
            name,
            swing,
            "watch",
            start + "the players chase each other. Try a lower learning rate or Adam's beta1 of 0 "
            "to 0.5, and sample from averaged weights.",
        )
    return Finding(name, swing, "good", start + "no more than the usual back and forth.")


def _is_wasserstein(rows):
    terms = _together(rows, "discriminator/loss", "discriminator/fake", "discriminator/real")
    loss, fake, real = terms.T
    return len(terms) > 2 and bool(
        np.allclose(loss, fake - real, rtol=1e-3, atol=1e-4 * np.abs(terms).max())
    )


def _distance(gap, wasserstein):
    name = "training/wasserstein" if wasserstein else "training/scores"
    quarters = [float(np.median(_quarter(gap, number))) for number in range(4)]
    before, now = quarters[2:]
    what = "the estimated Wasserstein distance" if wasserstein else "the gap of D's mean scores"
    start = f"Lately {what}, real less generated, is {now:.3g} (it was {before:.3g} before): "
    if now <= 0:
        return Finding(
            name,
            now,
            "watch",
            start + "D prefers generated pictures. It is too weak: give it more steps for each of "
            "the generator's, or a higher learning rate.",
        )
    if now > EXPLODED * max(before, 0):
        return Finding(
            name,
            now,
            "bad",
            start + "scores explode. Try a lower learning rate, or a stronger penalty or "
            "normalisation of D.",
        )
    if not wasserstein:
        return Finding(
            name,
            now,
            "good",
            start + "D keeps pictures apart at a steady scale. This loss says nothing of quality: "
            "look at the distances and the pictures.",
        )
    if now > GROWN * before:
        return Finding(
            name,
            now,
            "watch",
            start + "it rises. Early on the critic is still learning; later the generator falls "
            "behind: try a lower learning rate, or more steps of the critic.",
        )
    if now < FALLEN * before:
        return Finding(
            name,
            now,
            "good",
            start + "it falls, and with this loss that means better pictures (Arjovsky et al., "
            "2017). Train on.",
        )
    return Finding(
        name,
        now,
        "good",
        start + "it is flat. The game has settled: if the pictures shall improve, lower the "
        "learning rate or take wider networks.",
    )
