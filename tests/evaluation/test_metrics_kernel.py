"""The kernel distance beside the plain formula in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.kernel import kernel_distance


def _draw(seed: int, count: int, mean: float = 0.0) -> np.ndarray:
    return (mean + np.random.default_rng(seed).normal(size=(count, 8))).astype(np.float32)


def _plain(x, y) -> float:
    x, y = np.float64(x), np.float64(y)
    n = len(x)

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    within = sum(kernel(z, z).sum() - np.trace(kernel(z, z)) for z in (x, y))
    return within / (n * (n - 1)) - 2 * kernel(x, y).mean()


@pytest.mark.parametrize("mean", [0, 1, 30, 1000])
def test_it_is_the_plain_formula(mean):
    x, y = _draw(0, 50, mean), _draw(1, 50, mean) * 1.2
    distance = kernel_distance(x, y, subsets=2, subset_size=50, seed=0)
    np.testing.assert_allclose(distance.mean, _plain(x, y), rtol=2e-5)
    assert distance.deviation < 1e-5 * abs(distance.mean)  # there is but one subset of all


def test_the_mean_and_deviation_are_those_over_subsets():
    x, y = _draw(0, 60), _draw(1, 80, 0.3)
    random = np.random.default_rng(5)
    expected = [
        _plain(*(z[random.choice(len(z), 20, replace=False)] for z in (x, y))) for _ in range(7)
    ]
    distance = kernel_distance(x, y, subsets=7, subset_size=20, seed=5)
    np.testing.assert_allclose(distance, [np.mean(expected), np.std(expected)], rtol=1e-4)
    assert distance == kernel_distance(x, y, subsets=7, subset_size=20, seed=5)
    assert distance != kernel_distance(x, y, subsets=7, subset_size=20, seed=6)


def test_two_draws_of_one_distribution_are_near_0_and_others_are_not():
    settings = {"subsets": 20, "subset_size": 100, "seed": 0}
    same = kernel_distance(_draw(0, 2000), _draw(1, 2000), **settings)
    assert abs(same.mean) < same.deviation
    other = kernel_distance(_draw(0, 2000), _draw(1, 2000, 0.5), **settings)
    assert other.mean > 5 * other.deviation


@given(order=st.permutations(range(8)))
def test_it_does_not_know_the_order_of_features(order):
    x, y = _draw(0, 40, 1), _draw(1, 40)
    settings = {"subsets": 3, "subset_size": 30, "seed": 0}
    turned = kernel_distance(x[:, order], y[:, order], **settings)
    np.testing.assert_allclose(turned, kernel_distance(x, y, **settings), rtol=1e-4)


def test_what_does_not_fit_is_refused():
    x = _draw(0, 30)
    with pytest.raises(UsageError, match="generated features are 20 and at least 25 are needed"):
        kernel_distance(x, x[:20], subset_size=25, seed=0)
    with pytest.raises(UsageError, match="8 columns .* 7"):
        kernel_distance(x, x[:, 1:], subset_size=10, seed=0)
    with pytest.raises(UsageError, match="the generated features hold"):
        kernel_distance(x, x * np.nan, subset_size=10, seed=0)
