"""Nearest neighbors and the balls around points, beside whole tables of distances."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.manifold import prdc
from jaxgan.evaluation.distances.neighbors import nearest


def _draw(seed: int, count: int, width: int = 4, mean: float = 0.0) -> np.ndarray:
    return (mean + np.random.default_rng(seed).normal(size=(count, width))).astype(np.float32)


def _table(x, y) -> np.ndarray:
    return np.linalg.norm(np.float64(x)[:, None] - np.float64(y), axis=-1)


def _means(*sides, **settings) -> dict[str, float]:
    return {name: values.mean() for name, values in prdc(*sides, **settings).items()}


def _plain(real, fake, k):
    """Precision, recall, density and coverage."""
    real_radii, fake_radii = (np.sort(_table(x, x), 1)[:, k] for x in (real, fake))
    table = _table(real, fake)
    inside = table <= real_radii[:, None]
    recall = (table <= fake_radii).any(1).mean()
    return inside.any(0).mean(), recall, inside.sum(0).mean() / k, inside.any(1).mean()


@pytest.mark.parametrize("counts", [(1, 3), (12, 10), (5, 11)])
@pytest.mark.parametrize(("k", "block"), [(1, 4), (3, 1), (3, 5), (2, 100)])
def test_neighbors_are_those_of_the_whole_table(counts, k, block):
    x, y = _draw(0, counts[0]), _draw(1, counts[1])
    found, table = nearest(x, y, k, block=block), _table(x, y)
    np.testing.assert_array_equal(found.indices, table.argsort(1)[:, :k])
    np.testing.assert_allclose(found.distances, np.sort(table, 1)[:, :k], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("mean", [0, 1e4])
def test_equal_points_are_at_0_wherever_they_are(scale, mean):
    x = (_draw(0, 30, 16, mean) * scale).astype(np.float32)
    found = nearest(jnp.asarray(x), x, 2, block=8)
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(30))
    np.testing.assert_array_equal(found.distances[:, 0], 0)
    np.testing.assert_allclose(found.distances[:, 1], np.sort(_table(x, x), 1)[:, 1], rtol=1e-12)


def test_neighbors_that_products_in_float32_cannot_tell_apart():
    steps = np.array([[4.0], [2], [3], [1], [5]]) * 1e-5
    references = np.concatenate([1 + steps, -np.ones((5, 1))])
    found = nearest(np.ones((1, 1)), references, 1)
    np.testing.assert_array_equal(found.indices, [[3]])
    np.testing.assert_allclose(found.distances, [[1e-5]], rtol=1e-9)


def test_of_equally_near_references_the_first_are_taken():
    x = np.zeros((1, 2), np.float32)
    y = np.array([[1, 0], [0, 1], [2, 0], [-1, 0], [0, -1]], np.float32)
    np.testing.assert_array_equal(nearest(x, y, 3).indices, [[0, 1, 3]])


def test_pixels_may_be_integers():
    x = np.random.default_rng(0).integers(0, 256, (9, 12), np.uint8)
    found = nearest(x[:4], x, 2)
    np.testing.assert_allclose(found.distances, np.sort(_table(x[:4], x), 1)[:, :2], rtol=1e-12)


def test_neighbors_that_are_not_there():
    x = _draw(0, 5)
    for k in (0, 6):
        with pytest.raises(UsageError, match=f"{k} nearest .* 5 references"):
            nearest(x, x, k)
    with pytest.raises(UsageError, match="queries are 0 and at least 1"):
        nearest(x[:0], x, 1)
    with pytest.raises(UsageError, match="4 columns .* 3"):
        nearest(x, x[:, :3], 1)
    with pytest.raises(UsageError, match="the references hold .* not finite"):
        nearest(x, x * np.inf, 1)


def test_points_on_a_line():
    real = np.array([[0.0], [1], [2], [3]])
    fake = np.array([[0.5], [2.5], [2.6], [10]])
    found = prdc(real, fake, neighbors=1)  # real radii 1, 1, 1, 1; fake 2, 0.1, 0.1, 7.4
    np.testing.assert_array_equal(found["precision"], [True, True, True, False])
    np.testing.assert_array_equal(found["recall"], [True] * 4)
    np.testing.assert_array_equal(found["density"], [2, 2, 2, 0])
    np.testing.assert_array_equal(found["coverage"], [True] * 4)
    # Away from 10, whose ball reaches to 2.6, only the ball around 0.5 is left: -1.5 to 2.5.
    assert [*_means(real, fake[:3], neighbors=1).values()] == [1.0, 0.75, 2.0, 1.0]
    assert [*_means(real, fake + 100, neighbors=1).values()] == [0, 0, 0, 0]


def test_a_collapsed_generator_is_precise_and_covers_nothing():
    real = _draw(0, 40)
    fake = np.repeat(real[:1], 20, 0)  # all balls are the point itself
    found = _means(real, fake, neighbors=3)
    assert found["precision"] == 1 and found["recall"] == 1 / 40
    assert found["coverage"] == _plain(real, fake, 3)[3] < 0.5


@pytest.mark.parametrize(("block", "mean"), [(7, 0), (16, 100), (500, 0)])
def test_it_is_the_whole_table(block, mean):
    real, fake = _draw(0, 50, 6, mean), _draw(1, 37, 6, mean + 0.5)
    found = _means(real, fake, neighbors=4, block=block)
    np.testing.assert_allclose([*found.values()], _plain(real, fake, 4), rtol=1e-12)


@pytest.mark.parametrize("width", [4, 500])
def test_an_exact_copy_is_as_good_as_can_be(width):
    real = _draw(0, 30, width, 5)
    found = _means(real, real.copy(), neighbors=3, block=11)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["density"] == pytest.approx(4 / 3, abs=1e-9)
    twice = np.repeat(real, 4, 0)  # every ball is a point
    assert _means(twice, twice, neighbors=3, block=11)["density"] == pytest.approx(4 / 3)


@given(order=st.permutations(range(4)), scale=st.sampled_from([1e-20, 0.5, 1e20]))
def test_it_does_not_know_order_nor_scale(order, scale):
    real, fake = _draw(0, 20), _draw(1, 25, mean=0.7)
    found = _means(scale * real[::-1, order], scale * fake[:, order], neighbors=2)
    plain = _means(real, fake, neighbors=2)
    np.testing.assert_allclose([*found.values()], [*plain.values()], rtol=1e-12)


def test_two_draws_of_one_distribution_have_density_near_1():
    found = _means(_draw(0, 1000), _draw(1, 1000), neighbors=5)
    assert found["density"] == pytest.approx(1, abs=0.1)
    # Naeem et al., equation 11: 1 - prod (N - i) / (2N - i), i from 1 to k, of distinct points.
    assert found["coverage"] == pytest.approx(1 - 0.5**5, abs=0.03)


def test_too_few_pictures_are_refused():
    x = _draw(0, 10)
    with pytest.raises(UsageError, match="generated features are 5 and at least 6 are needed"):
        prdc(x, x[:5], neighbors=5)
    with pytest.raises(UsageError, match="4 columns .* 3"):
        prdc(x, x[:, :3])
