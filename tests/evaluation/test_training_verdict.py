"""Verdicts on made-up curves."""

import math

import numpy as np
import pytest

from jaxgan.core import PLAYERS
from jaxgan.evaluation.curve_verdicts import ENOUGH, judge_curves

COUNT = 80


def _rows(**series):
    """Lines whose names have `/` for `__`; a value may be a number or [COUNT]."""
    columns = {n.replace("__", "/"): np.broadcast_to(v, COUNT) for n, v in series.items()}
    return [
        {"step": 10 * k} | {n: None if np.isnan(v[k]) else float(v[k]) for n, v in columns.items()}
        for k in range(COUNT)
    ]


def _noise(scale, seed=0):
    return np.random.default_rng(seed).normal(0, scale, COUNT)


def _logistic(real, fake, **more):
    usual = {
        "discriminator__loss": -np.log(real) - np.log1p(-np.asarray(fake)),
        "generator__loss": -np.log(fake),
        "discriminator__real_probability": real,
        "discriminator__fake_probability": fake,
    }
    return _rows(**(usual | more))


def _wasserstein(gap, offset=40.0):
    return _rows(
        discriminator__loss=-np.asarray(gap),
        discriminator__real=offset + np.asarray(gap),
        discriminator__fake=offset,
        generator__loss=-offset,
    )


def _found(rows, name):
    (finding,) = [f for f in judge_curves(rows) if f.name == f"training/{name}"]
    return finding


TIME = np.linspace(0, 1, COUNT)


def test_a_usual_game_is_good():
    findings = judge_curves(
        _logistic(0.75 + _noise(0.05), np.clip(0.25 + _noise(0.05, 1), 0.05, 1))
    )
    assert [f.name for f in findings] == [
        "training/finite",
        "training/balance",
        "training/oscillation",
    ]
    assert {f.verdict for f in findings} == {"good"}


def test_a_discriminator_that_wins_completely_is_bad():
    fake = 0.04 * np.exp(-9 * TIME)
    finding = _found(_logistic(0.99, fake), "balance")
    assert finding.verdict == "bad"
    assert "wins completely, and the generator's loss grows" in finding.sentence
    flat = _found(_logistic(0.99, 0.01), "balance")
    assert flat.verdict == "bad"
    assert "grows" not in flat.sentence
    assert _found(_logistic(0.94, 0.04), "balance").verdict == "watch"


def test_the_adversarial_term_is_judged_where_it_is_logged_apart_from_the_sum():
    rows = _wasserstein(3.0)
    old = _found(rows, "wasserstein")
    named = [
        row | {f"{player}/adversarial": row[f"{player}/loss"] for player in PLAYERS} for row in rows
    ]
    penalized = [row | {"discriminator/loss": row["discriminator/loss"] + 5} for row in named]
    assert _found(penalized, "wasserstein") == old
    # A run may begin with an older version and go on with this one.
    assert _found([*rows[:40], *penalized[40:]], "wasserstein") == old


def test_scores_that_explode_are_seen_where_there_are_probabilities():
    loss = np.where(TIME > 0.6, 20_000.0, 1.0)
    rows = _logistic(0.99, 0.01, discriminator__loss=0.01, generator__loss=loss)
    finding = _found(rows, "scores")
    assert finding.verdict == "bad" and finding.value == 20_000
    assert "scores explode" in finding.sentence
    assert "training/balance" not in [f.name for f in judge_curves(rows)]
    assert "training/scores" not in [f.name for f in judge_curves(_logistic(0.999999, 1e-6))]


def test_only_the_last_quarter_decides():
    won = np.where(TIME < 0.7, 0.99, 0.75)
    assert _found(_logistic(won, 1 - won), "balance").verdict == "good"


def test_the_equilibrium_is_good_if_it_was_reached():
    real = 0.5 + 0.4 * np.exp(-9 * TIME)
    reached = _found(_logistic(real, 1 - real), "balance")
    assert reached.verdict == "good"
    assert "2 log 2" in reached.sentence
    always = _found(_logistic(0.5, 0.5), "balance")
    assert always.verdict == "watch"
    assert "never could" in always.sentence
    # Another loss than minimax has another value there: not a word of it.
    other = _found(_logistic(0.5, 0.5, discriminator__loss=7.0), "balance")
    assert "2 log 2" not in other.sentence


def test_a_discriminator_that_is_fooled_is_watched():
    assert _found(_logistic(0.3, 0.6), "balance").verdict == "watch"


def test_oscillation_is_seen_and_noise_is_not():
    fake = 0.5 + 0.45 * np.sin(40 * TIME)
    assert _found(_logistic(0.9, fake), "oscillation").verdict == "watch"
    noisy = np.clip(0.4 + _noise(0.2), 0.01, 0.99)
    assert _found(_logistic(0.8, noisy), "oscillation").verdict == "good"


@pytest.mark.parametrize(
    ("gap", "verdict", "word"),
    [
        (50 * np.exp(-3 * TIME), "good", "falls"),
        (6 + _noise(0.3), "good", "flat"),
        (2 + 8 * TIME**2, "watch", "rises"),
        (np.exp(20 * TIME), "bad", "explode"),
        (-1 + _noise(0.1), "watch", "too weak"),
    ],
)
def test_the_wasserstein_estimate(gap, verdict, word):
    rows = _wasserstein(gap)
    finding = _found(rows, "wasserstein")
    assert finding.verdict == verdict
    assert word in finding.sentence
    assert [f.name for f in judge_curves(rows)] == ["training/finite", "training/wasserstein"]


def test_other_losses_are_not_taken_for_wasserstein():
    rows = _rows(
        discriminator__loss=0.5, discriminator__real=1.2, discriminator__fake=-1, generator__loss=1
    )
    finding = _found(rows, "scores")
    assert finding.verdict == "good"
    assert "Wasserstein" not in finding.sentence


def test_a_loss_that_ends_as_nan_diverges():
    loss = np.where(TIME > 0.9, np.nan, 1.0)
    finding = _found(_rows(generator__loss=loss), "finite")
    assert finding.verdict == "bad"
    assert f"first at step {10 * int(np.argmax(TIME > 0.9))}" in finding.sentence
    for few in (TIME < 0.1, TIME == 1):
        finding = _found(_rows(generator__loss=np.where(few, np.nan, 1.0)), "finite")
        assert finding.verdict == "watch"


def test_a_loss_that_runs_seldom_is_not_missed():
    rows = [row if k % 4 == 0 else {"step": k} for k, row in enumerate(_rows(generator__loss=1.0))]
    assert _found(rows, "finite").verdict == "good"


@pytest.mark.parametrize("rows", [[], [{"step": 1}] * 50, _logistic(0.7, 0.3)[: ENOUGH - 1]])
def test_too_little_is_not_judged(rows):
    (finding,) = judge_curves(rows)
    assert math.isnan(finding.value)
    assert finding.sentence.startswith("Not judged")


@pytest.mark.parametrize("rows", [_logistic(0.7, 0.3), _wasserstein(3.0)])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_gaps_anywhere_do_not_crash(rows, value):
    random = np.random.default_rng(0)
    holed = [
        {n: v if n == "step" or random.uniform() < 0.5 else value for n, v in row.items()}
        for row in rows
    ]
    assert {f.name for f in judge_curves(holed)} == {f.name for f in judge_curves(rows)}
    nothing = [dict.fromkeys(row, value) | {"step": 1} for row in rows]
    assert [f.verdict for f in judge_curves(nothing)] == ["bad"]
