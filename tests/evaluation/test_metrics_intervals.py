"""Intervals of KID and the Inception Score, and distances that all devices compute."""

import jax
import numpy as np
import pytest

from jaxgan.evaluation import metrics
from jaxgan.evaluation.distances import kernel, manifold, neighbors
from jaxgan.evaluation.distances.frechet import Moments
from jaxgan.evaluation.metrics import METRICS, Comparison
from jaxgan.evaluation.networks.network import Network, Reading

NETWORK = Network("pixels", "0" * 64, "none", {}, None)


def _reading(seed, count=200, mean=0.0):
    random = np.random.default_rng(seed)
    features = (mean + random.normal(size=(count, 8))).astype(np.float32)
    return Reading(features, 2 * random.normal(size=(count, 5)), Moments.of(features))


@pytest.mark.parametrize(
    ("name", "number"),
    [pytest.param("kid", "pixels_kid", marks=pytest.mark.slow), ("is", "pixels_score")],
)
def test_an_interval_is_as_wide_as_draws_are_apart(name, number, monkeypatch):
    monkeypatch.setattr(metrics, "SUBSET", 100)
    found = [
        METRICS[name].measure(
            Comparison(NETWORK, _reading(2 * k), _reading(2 * k + 1, mean=0.5), 0)
        )
        for k in range(25)
    ]
    values, low, high = np.array([measured[number] for measured in found]).T
    assert (low < values).all() and (values < high).all()
    width = np.mean(high - low) / (2 * 1.96)
    assert 0.6 < width / values.std() < 1.6


def test_no_interval_where_none_is_wanted():
    both = Comparison(NETWORK, _reading(0, 1000), _reading(1, 1000), 0, intervals=False)
    for name in ("kid", "is", "frechet"):
        ((value, low, high),) = METRICS[name].measure(both).values()
        assert np.isfinite(value) and low is None and high is None
    whole = METRICS["kid"].measure(both._replace(intervals=True))["pixels_kid"]
    assert whole.high - whole.low > 1e-4  # also of as many pictures as a subset has


def test_accuracy_is_told_for_each_label():
    labels = np.eye(4)[np.arange(400) % 3]
    logits = labels - 2 * (labels[:, 2:3] * (np.arange(400) < 200)[:, None]) * labels
    asked = Reading(np.zeros((400, 1)), logits, labels=labels)
    seen = Comparison(NETWORK, asked, asked, 0, label_names=("cat", "dog", "gnu", "yak"))
    found = METRICS["accuracy_by_label"].measure(seen)
    assert found.keys() == {"cat_accuracy", "dog_accuracy", "gnu_accuracy"}
    assert found["cat_accuracy"].value == found["dog_accuracy"].value == 1
    assert found["gnu_accuracy"].value == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("module", "function", "compute"),
    [
        (neighbors, "_nearer", lambda x, y: neighbors.nearest(x, y, 3, block=32).distances),
        (manifold, "_inside", lambda x, y: manifold.prdc(x, y, block=32)["density"]),
        (
            kernel,
            "_row_sums",
            lambda x, y: kernel.kernel_estimates(x, y, subsets=2, subset_size=40, seed=0),
        ),
    ],
)
def test_distances_are_spread_over_the_devices(module, function, compute, monkeypatch):
    x, y = (_reading(seed, 100).features for seed in (0, 1))
    inner, shares = getattr(module, function), []

    def spy(*arguments):
        leaves = [leaf for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.Array)]
        shares.append(any(not leaf.sharding.is_fully_replicated for leaf in leaves))
        return inner(*arguments)

    monkeypatch.setattr(module, function, spy)
    spread = compute(x, y)
    assert shares and all(shares)
    monkeypatch.setattr(module.devices, "spread", module.devices.copies)
    np.testing.assert_allclose(compute(x, y), spread, rtol=1e-5, atol=1e-7)
