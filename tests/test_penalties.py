"""Penalties: identities, the zero gradient, and second derivatives against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import a_view
from jax.test_util import check_grads

from jaxgan import penalties
from jaxgan.core import AXIS

RANDOM = np.random.default_rng(0)
REAL = RANDOM.uniform(-1, 1, (5, 2, 2, 3)).astype(np.float32)
FAKE = RANDOM.uniform(-1, 1, (5, 2, 2, 3)).astype(np.float32)
ALL = (penalties.gradient_penalty, penalties.r1, penalties.r2)


def _linear(slope):
    return lambda image, label: (image * slope).sum((1, 2, 3))


def _view(score, label=None):
    return a_view(image=REAL, made=FAKE, label=label, score=score)


def _slope(norm):
    slope = RANDOM.normal(size=(2, 2, 3)).astype(np.float32)
    return slope * norm / np.linalg.norm(slope)


def test_a_critic_of_unit_slope_is_not_punished():
    for one_sided in (False, True):
        penalty = penalties.gradient_penalty(_view(_linear(_slope(1))), one_sided=one_sided)
        np.testing.assert_allclose(penalty, 0, atol=1e-12)


@pytest.mark.parametrize(("norm", "two", "one"), [(3.0, 4.0, 4.0), (0.5, 0.25, 0.0)])
def test_gradient_penalty_of_a_linear_critic(norm, two, one):
    view = _view(_linear(_slope(norm)))
    np.testing.assert_allclose(penalties.gradient_penalty(view), two, rtol=1e-5)
    one_sided = penalties.gradient_penalty(view, one_sided=True)
    np.testing.assert_allclose(one_sided, one, rtol=1e-5)


@pytest.mark.parametrize("penalty", [penalties.r1, penalties.r2])
def test_r1_and_r2_of_a_linear_critic_are_half_its_squared_slope(penalty):
    np.testing.assert_allclose(penalty(_view(_linear(_slope(3)))), 4.5, rtol=1e-5)


def test_each_penalty_looks_at_its_own_images():
    # The slope of |x|^2 / 2 is x itself.
    view = _view(lambda image, label: 0.5 * jnp.square(image).sum((1, 2, 3)))
    real, fake = (np.square(x).sum((1, 2, 3)) for x in (REAL, FAKE))
    np.testing.assert_allclose(penalties.r1(view), 0.5 * real.mean(), rtol=1e-6)
    np.testing.assert_allclose(penalties.r2(view), 0.5 * fake.mean(), rtol=1e-6)
    # One mixture an example, the same for all its pixels: between 0 and 1 everywhere, slope t.
    view = view._replace(batch={"image": np.ones_like(REAL)})
    view = view._replace(fake=view.fake._replace(image=np.zeros_like(FAKE)))
    t = jax.vmap(jax.random.uniform)(view.rng)
    assert len(np.unique(t)) == len(t)
    expected = np.square(np.sqrt(12) * t - 1).mean()
    np.testing.assert_allclose(penalties.gradient_penalty(view), expected, rtol=1e-5)


def test_labels_reach_the_critic():
    def score(image, label):
        return (label[:, 0] * image.sum((1, 2, 3))) / np.sqrt(12)

    label = np.full((5, 1), 3, np.float32)
    np.testing.assert_allclose(penalties.gradient_penalty(_view(score, label)), 4, rtol=1e-5)
    np.testing.assert_allclose(penalties.r1(_view(score, label)), 4.5, rtol=1e-5)
    np.testing.assert_allclose(penalties.r2(_view(score, label)), 4.5, rtol=1e-5)


def test_drift_is_the_mean_squared_real_score():
    np.testing.assert_allclose(penalties.drift(a_view([3.0, -1.0], [7.0])), 5)


@pytest.mark.parametrize("penalty", ALL, ids=lambda p: p.__name__)
def test_a_critic_without_slope_has_a_finite_penalty_and_gradient(penalty):
    def value(params):
        return penalty(
            _view(lambda image, label: params[0] * image.sum((1, 2, 3)) ** 2 * params[1])
        )

    value, gradient = jax.value_and_grad(value)(jnp.zeros(2))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def _smooth_critic(params):
    hidden, out = params

    def score(image, label):
        return jnp.tanh(image.reshape(len(image), -1) @ hidden) @ out

    return score


@pytest.mark.parametrize("penalty", ALL, ids=lambda p: p.__name__)
def test_gradients_agree_with_differences(penalty):
    # The penalty holds a first derivative, so its gradient is a second one, and so on.
    params = (
        RANDOM.normal(size=(12, 4)).astype(np.float32),
        2 * RANDOM.normal(size=4).astype(np.float32),
    )

    def value(params):
        return penalty(_view(_smooth_critic(params)))

    check_grads(jax.jit(value), (params,), 2, ("rev",), atol=0.05, rtol=0.05, eps=1e-2)


MATRIX = RANDOM.normal(size=(3, 4, 12)).astype(np.float32)  # [layers, F, pixels]


def _linear_generator(w):
    return jnp.einsum("blf,lfp->bp", w, MATRIX).reshape(len(w), 2, 2, 3)


def test_path_lengths_of_a_linear_generator():
    keys = jax.random.split(jax.random.key(0), 5)
    w = RANDOM.normal(size=(5, 3, 4)).astype(np.float32)
    y = jax.vmap(lambda key: jax.random.normal(key, (2, 2, 3)))(keys).reshape(5, 12) / 2
    slope = np.einsum("lfp,bp->blf", MATRIX, y)
    expected = np.sqrt(np.square(slope).sum(2).mean(1))
    lengths = penalties.path_lengths(_linear_generator, w, keys)
    np.testing.assert_allclose(lengths, expected, rtol=1e-5)
    assert len(np.unique(lengths)) == 5
    # On the average their square is |J|^2 / HW, and the mean over the layers.
    many = jax.random.split(jax.random.key(1), 4000)
    lengths = penalties.path_lengths(_linear_generator, np.zeros((4000, 3, 4), np.float32), many)
    np.testing.assert_allclose(
        np.square(lengths).mean(), np.square(MATRIX).sum() / 4 / 3, rtol=0.05
    )


@pytest.mark.parametrize("devices", [1, 2])
def test_path_length_is_the_distance_from_a_mean_over_all_devices(devices):
    lengths = np.array([1.0, 2.0, 4.0, 9.0], np.float32)

    def run(lengths):
        return jax.vmap(
            lambda x: penalties.path_length(x, jnp.float32(3.0), decay=0.25), axis_name=AXIS
        )(lengths.reshape(devices, -1))

    penalty, mean = run(lengths)
    np.testing.assert_allclose(mean, 3.25)
    np.testing.assert_allclose(penalty.mean(), np.square(lengths - 3.25).mean())
    # The mean's own share has a gradient, and the mean that is kept none.
    slope = jax.grad(lambda x: run(x)[0].mean())(jnp.asarray(lengths))
    excess = lengths - 3.25
    expected = 2 * (excess - 0.25 * excess.mean()) / 4
    np.testing.assert_allclose(slope, expected, rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(lambda x: run(x)[1].sum())(jnp.asarray(lengths)), 0)


def test_safe_sqrt():
    x = jnp.array([0.0, 4.0, 9.0, jnp.inf])
    np.testing.assert_array_equal(penalties.safe_sqrt(x), [0, 2, 3, np.inf])
    np.testing.assert_allclose(jax.vmap(jax.grad(penalties.safe_sqrt))(x[:3]), [0, 1 / 4, 1 / 6])


def test_safe_sqrt_hides_nothing():
    assert jnp.isnan(penalties.safe_sqrt(jnp.nan))
    assert jnp.isnan(penalties.safe_sqrt(-1.0))
