"""Losses against numbers worked out by hand, and the identities between them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import a_view
from hypothesis import given
from hypothesis import strategies as st

from jaxgan import losses
from jaxgan.core import AXIS, Scores

REAL, FAKE = (2.0, -1.0, 0.5), (1.0, -3.0)


def _log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def test_minimax_at_zero_logits_is_two_log_two():
    zero = a_view([0.0] * 3, [0.0] * 3)
    np.testing.assert_allclose(losses.minimax_discriminator(zero), 2 * math.log(2), rtol=1e-6)
    # Whatever the target of the real ones: at zero both answers are equally wrong.
    smoothed = losses.minimax_discriminator(zero, smoothing=0.1)
    np.testing.assert_allclose(smoothed, 2 * math.log(2), rtol=1e-6)
    np.testing.assert_allclose(losses.minimax_generator(zero), -math.log(2), rtol=1e-6)
    np.testing.assert_allclose(losses.nonsaturating_generator(zero), math.log(2), rtol=1e-6)


def test_minimax_is_the_cross_entropy_of_its_targets():
    def cross_entropy(smoothing):
        real = [-(1 - smoothing) * _log_sigmoid(x) - smoothing * _log_sigmoid(-x) for x in REAL]
        return np.mean(real) + np.mean([-_log_sigmoid(-x) for x in FAKE])

    for smoothing in (0.0, 0.1):
        actual = losses.minimax_discriminator(a_view(REAL, FAKE), smoothing=smoothing)
        np.testing.assert_allclose(actual, cross_entropy(smoothing), rtol=1e-6)


def test_smoothing_puts_the_best_real_score_at_its_target():
    def on_real(score):
        view = a_view([score], [0.0])
        view = view._replace(on_real=view.on_real._replace(source=jnp.reshape(score, 1)))
        return losses.minimax_discriminator(view, smoothing=0.1)

    best = jnp.log(0.9 / 0.1)
    np.testing.assert_allclose(jax.grad(on_real)(best), 0, atol=1e-6)
    assert jax.grad(jax.grad(on_real))(best) > 0


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.minimax_generator, np.mean([_log_sigmoid(-1.0), _log_sigmoid(3.0)])),
        (losses.nonsaturating_generator, -np.mean([_log_sigmoid(1.0), _log_sigmoid(-3.0)])),
        (losses.least_squares_discriminator, ((1 + 4 + 0.25) / 3 + (1 + 9) / 2) / 2),
        (losses.least_squares_generator, (0 + 16) / 2 / 2),
        (losses.hinge_discriminator, (0 + 2 + 0.5) / 3 + (2 + 0) / 2),
        (losses.wasserstein_discriminator, -1.0 - 0.5),
        (losses.wasserstein_generator, 1.0),
        (losses.real_score, 0.5),
        (losses.fake_score, -1.0),
        (losses.real_probability, np.mean([math.exp(_log_sigmoid(x)) for x in REAL])),
        (losses.fake_probability, np.mean([math.exp(_log_sigmoid(x)) for x in FAKE])),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_by_hand(loss, expected):
    np.testing.assert_allclose(loss(a_view(REAL, FAKE)), expected, rtol=1e-6)


@jax.jit
@jax.value_and_grad
def _all_losses(scores):
    view = a_view()
    view = view._replace(
        on_real=view.on_real._replace(source=scores),
        on_fake=view.on_fake._replace(source=scores),
    )
    return sum(
        loss(view)
        for loss in (
            losses.minimax_discriminator,
            losses.minimax_generator,
            losses.nonsaturating_generator,
            losses.least_squares_discriminator,
            losses.least_squares_generator,
            losses.hinge_discriminator,
            losses.wasserstein_discriminator,
            losses.wasserstein_generator,
            losses.relativistic_discriminator,
            losses.relativistic_generator,
        )
    )


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4))
def test_every_loss_stays_finite_with_its_gradient(scores):
    value, gradient = _all_losses(jnp.asarray(scores, jnp.float32))
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("discriminator", "generator"),
    [
        (losses.minimax_discriminator, losses.nonsaturating_generator),
        (losses.least_squares_discriminator, losses.least_squares_generator),
        (losses.hinge_discriminator, losses.wasserstein_generator),
        (losses.wasserstein_discriminator, losses.wasserstein_generator),
        (losses.relativistic_discriminator, losses.relativistic_generator),
    ],
)
def test_large_scores_mean_real(discriminator, generator):
    right, wrong = a_view([0.9], [-0.1]), a_view([-0.1], [0.9])
    assert discriminator(right) < discriminator(wrong)
    assert generator(wrong) < generator(right)


def test_relativistic_losses_see_only_the_difference_of_a_pair():
    real, fake = np.array([2.0, -1.0, 0.5]), np.array([1.0, -3.0, 4.0])
    view = a_view(real, fake)
    expected = np.mean([-_log_sigmoid(d) for d in real - fake])
    np.testing.assert_allclose(losses.relativistic_discriminator(view), expected, rtol=1e-6)
    swapped, raised = a_view(fake, real), a_view(real + 7, fake + 7)
    np.testing.assert_allclose(losses.relativistic_generator(swapped), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.relativistic_discriminator(raised), expected, rtol=1e-6)
    for loss in (losses.relativistic_discriminator, losses.relativistic_generator):
        np.testing.assert_allclose(loss(a_view(real, real)), math.log(2), rtol=1e-6)


def test_patch_scores_are_averaged_over_their_places():
    view = a_view(np.full((2, 3, 3), 2.0), np.full((2, 3, 3), -1.0))
    np.testing.assert_allclose(losses.wasserstein_discriminator(view), -3)
    assert losses.minimax_discriminator(view).shape == ()


def test_feature_matching_compares_means_over_all_devices():
    real, fake = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)

    def loss(real, fake):
        view = a_view()
        on_real, on_fake = (Scores(jnp.zeros(len(x)), features=x) for x in (real, fake))
        return losses.feature_matching(view._replace(on_real=on_real, on_fake=on_fake))

    parts = (x.reshape(2, 3, 3) for x in (real, fake))
    expected = np.square(real.mean(0) - fake.mean(0)).mean()
    np.testing.assert_allclose(jax.vmap(loss, axis_name=AXIS)(*parts), expected, rtol=1e-5)
