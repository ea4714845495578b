"""Bootstrap intervals beside what is known of means."""

import numpy as np
import pytest

from jaxgan.evaluation.distances.bootstrap import interval
from jaxgan.evaluation.distances.frechet import Moments, frechet_distance


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    x = np.random.default_rng(0).normal(size=400)
    found = interval(lambda i: x[i].mean(), 400, resamples=2000, seed=0)
    half = 1.96 * x.std() / 20
    assert found.value == x.mean()
    np.testing.assert_allclose([found.low, found.high], x.mean() + [-half, half], atol=0.1 * half)
    narrow = interval(lambda i: x[i].mean(), 400, resamples=2000, level=0.5, seed=0)
    assert found.low < narrow.low < narrow.high < found.high


def test_it_holds_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        x = random.exponential(size=60)
        found = interval(lambda i, x=x: x[i].mean(), 60, resamples=200, level=0.8, seed=seed)
        held += found.low <= 1 <= found.high
    assert 0.7 < held / 200 < 0.9


def test_the_draws_come_of_the_seed():
    x = np.random.default_rng(0).normal(size=30)

    def draw(seed):
        return interval(lambda i: x[i].mean(), 30, resamples=50, seed=seed)

    assert draw(1) == draw(1) != draw(2)


def test_a_frechet_distance_is_biased_upwards_and_can_be_centered():
    random = np.random.default_rng(0)
    fake, real = random.normal(size=(60, 8)), Moments.of(random.normal(size=(500, 8)))
    found, centered = (
        interval(
            lambda i: frechet_distance(Moments.of(fake[i]), real),
            60,
            resamples=100,
            centered=centered,
            seed=0,
        )
        for centered in (False, True)
    )
    assert found.low > found.value == centered.value
    assert centered.low < centered.value < centered.high
    assert centered.high - centered.low == pytest.approx(found.high - found.low)
