"""The Fréchet distance beside closed forms and scipy, and moments by parts beside those at once."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.frechet import Moments, frechet_distance, merge

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 6)) @ RANDOM.normal(size=(6, 6)) + 3
Y = RANDOM.normal(size=(70, 6)) @ RANDOM.normal(size=(6, 6))
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def _same(a: Moments, b: Moments, **close):
    assert a.count == b.count
    np.testing.assert_allclose(a.mean, b.mean, **(close or CLOSE))
    np.testing.assert_allclose(a.scatter, b.scatter, **(close or CLOSE))


def _distance(x, y) -> float:
    return frechet_distance(Moments.of(x), Moments.of(y))


def _of_gaussians(mean_a, covariance_a, mean_b, covariance_b) -> float:
    # Of two samples, the scatter is the covariance.
    return frechet_distance(Moments(2, mean_a, covariance_a), Moments(2, mean_b, covariance_b))


def _published(x, y) -> float:
    """As FID's official code computes it."""
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b).real
    return np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * root)


def _few(x, y) -> float:
    """By the features themselves; right also where a covariance is singular."""
    dx, dy = x - x.mean(0), y - y.mean(0)
    spread = np.square(dx).sum() / (len(x) - 1) + np.square(dy).sum() / (len(y) - 1)
    root = np.linalg.norm(dx @ dy.T, "nuc") / np.sqrt((len(x) - 1) * (len(y) - 1))
    return np.square(x.mean(0) - y.mean(0)).sum() + spread - 2 * root


def _rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]])


def test_moments_are_those_of_numpy():
    moments = Moments.of(jnp.asarray(X, jnp.float32))
    assert moments.mean.dtype == moments.scatter.dtype == np.float64
    np.testing.assert_allclose(moments.mean, X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.covariance, np.cov(X, rowvar=False), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(Moments.of(X).covariance, np.cov(X, rowvar=False), **CLOSE)


def test_many_rows_are_read_by_parts():
    many = np.tile(X, (250, 1)) + np.arange(10_000)[:, None] / 1e4
    moments = Moments.of(many)
    assert moments.count == 10_000
    np.testing.assert_allclose(moments.mean, many.mean(0), **CLOSE)
    np.testing.assert_allclose(moments.covariance, np.cov(many, rowvar=False), **CLOSE)


@given(first=st.integers(0, 40), second=st.integers(0, 40), offset=st.sampled_from([0, 1e6]))
def test_merging_is_associative_and_commutes(first, second, offset):
    parts = np.split(X + offset, sorted([first, second]))
    a, b, c = map(Moments.of, parts)
    close = {"rtol": 1e-6, "atol": 1e-6}
    _same(merge(merge(a, b), c), merge(a, merge(b, c)), **close)
    _same(merge(a, b), merge(b, a), **close)
    _same(functools.reduce(merge, [a, b, c]), Moments.of(X + offset), **close)


def test_nothing_merges_to_nothing():
    none = Moments.of(X[:0])
    _same(merge(none, none), none)
    _same(merge(none, Moments.of(X)), Moments.of(X))


def test_a_large_offset_costs_no_accuracy():
    np.testing.assert_allclose(_distance(X + 1e6, Y + 1e6), _distance(X, Y), rtol=1e-7)


def test_gaussians_on_common_axes_have_a_closed_form():
    a, b, step = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 1.0]), np.array([1.0, 2.0, 2.0])
    distance = _of_gaussians(np.zeros(3), np.diag(a), step, np.diag(b))
    np.testing.assert_allclose(distance, 9 + 1 + 0 + 4)


@pytest.mark.parametrize("degrees", [10, 45, 90])
def test_two_turned_gaussians_have_a_closed_form(degrees):
    a = np.diag([9.0, 1.0])
    b = _rotation(degrees) @ np.diag([4.0, 1.0]) @ _rotation(degrees).T
    # For 2x2: (tr root)^2 = tr(AB) + 2 root of det(AB).
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    distance = _of_gaussians(np.zeros(2), a, np.ones(2), b)
    np.testing.assert_allclose(distance, 2 + 10 + 5 - 2 * root, rtol=1e-12)
    assert degrees == 90 or not np.allclose(a @ b, b @ a)


def test_it_is_the_published_formula():
    np.testing.assert_allclose(_distance(X, Y), _published(X, Y), rtol=1e-10)


@pytest.mark.parametrize(("first", "second"), [(5, 20), (20, 5), (5, 5), (2, 60)])
def test_fewer_samples_than_features(first, second):
    random = np.random.default_rng(first)
    scale = np.geomspace(1, 1e-3, 30)
    x, y = (random.normal(size=(n, 30)) * scale + 1 for n in (first, second))
    np.testing.assert_allclose(_distance(x, y), _few(x, y), rtol=1e-9)


def test_the_same_features_are_at_no_distance():
    for x in (X, X[:3], np.ones((5, 3))):
        assert _distance(x, x) == pytest.approx(0, abs=1e-9)
        assert _distance(x, x) >= 0
    assert _distance(np.zeros((5, 3)), np.ones((4, 3))) == pytest.approx(3)


@given(order=st.permutations(range(6)), angle=st.floats(0, 360))
def test_it_does_not_know_the_axes(order, angle):
    turn = scipy.linalg.block_diag(_rotation(angle), np.eye(4))[:, list(order)]
    np.testing.assert_allclose(_distance(X @ turn, Y @ turn), _distance(X, Y), rtol=1e-9)
    np.testing.assert_allclose(_distance(Y, X), _distance(X, Y), rtol=1e-9)


def test_it_is_squared():
    np.testing.assert_allclose(_distance(3 * X, 3 * Y), 9 * _distance(X, Y), rtol=1e-9)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="at least 2 samples .* one has 1"):
        _distance(X[:1], Y)
    with pytest.raises(UsageError, match="6 columns .* 5"):
        _distance(X, Y[:, :5])
    with pytest.raises(UsageError, match="6 columns .* 5"):
        merge(Moments.of(X), Moments.of(Y[:, :5]))
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(UsageError, match="not finite"):
            Moments.of(np.where(X[3, 2] == X, bad, X))
    for bad in (X[0], X[None], X[:, :0]):
        with pytest.raises(UsageError, match=r"must be \[N, F\]"):
            Moments.of(bad)
