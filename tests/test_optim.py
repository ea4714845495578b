"""Optimizers against PyTorch's numbers, the projection of weights, the half-life of the average."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import STORED
from helpers import TOY, first_state, float_batch, virtual
from hypothesis import given
from hypothesis import strategies as st
from stored.models import GRADIENTS, START

from jaxgan import optim
from jaxgan.step import end_step


def _steps(tx):
    params, state = jnp.asarray(START), tx.init(START)
    for gradient in GRADIENTS:
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        yield np.asarray(params)


def test_rmsprop_is_pytorchs():
    with np.load(STORED / "torch_rmsprop.npz") as stored:
        expected = stored["weights"]
    np.testing.assert_allclose(list(_steps(optim.rmsprop(0.05))), expected, rtol=1e-5, atol=1e-6)


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    st.floats(0.001, 0.5),
)
def test_clipped_weights_stay_in_range(weights, gradients, limit):
    tx = optax.chain(optax.sgd(1.0), optim.clip_weights(limit))
    params = {"w": jnp.asarray(weights, jnp.float32)}
    updates, _ = tx.update({"w": jnp.asarray(gradients, jnp.float32)}, tx.init(params), params)
    new = np.asarray(optax.apply_updates(params, updates)["w"])
    expected = np.clip(np.float32(weights) - np.float32(gradients), -limit, limit)
    # The weight plus the difference to its place is the place only up to rounding.
    np.testing.assert_allclose(new, expected, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize(("every", "c"), [(16, 16 / 17), (4, 0.8), (None, 1.0)])
def test_adam_is_corrected_for_the_steps_of_a_lazy_term(every, c):
    tx = optim.lazy_adam(0.1, 0.5, 0.99, every)
    params, state = START, tx.init(START)
    beta1, beta2, rate = 0.5**c, 0.99**c, 0.1 * c
    expected, first, second = START.astype(np.float64), 0.0, 0.0
    for count, gradient in enumerate(GRADIENTS, 1):
        delta, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, delta)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * np.square(gradient, dtype=np.float64)
        scale = np.sqrt(second / (1 - beta2**count)) + 1e-8
        expected = expected - rate * first / (1 - beta1**count) / scale
        np.testing.assert_allclose(params, expected, rtol=1e-4, atol=1e-6)


def test_the_average_halves_an_image_after_its_half_life():
    half_life, batch = 96, 16
    gan = TOY._replace(ema=optim.ema_decay(half_life, batch, ramp_up=0))
    state = first_state()
    start = state.ema
    moved = jax.tree.map(lambda x: x + 8, state.variables["generator"])
    state = state.replace(variables={**state.variables, "generator": moved})
    end = jax.jit(end_step(gan))
    for _ in range(half_life // batch):
        state = end(state)
    for average, old in zip(jax.tree.leaves(state.ema), jax.tree.leaves(start), strict=True):
        np.testing.assert_allclose(average - old, 4, rtol=1e-5)  # batch statistics too


def test_the_first_weights_are_soon_forgotten():
    decay = optim.ema_decay(half_life=1000, batch_size=10, ramp_up=0.05)
    # As in the official code, which counts the images before the step: after 200 of them the
    # half-life is 10, one step; it ends at 1000.
    assert decay(0) == 0
    assert decay(1) == pytest.approx(0.5 ** (10 / 0.5))
    assert decay(20) == pytest.approx(0.5)
    assert decay(100_000) == pytest.approx(0.5 ** (10 / 1000))


def test_no_half_life_keeps_the_last_weights():
    gan = TOY._replace(ema=optim.ema_decay(0, 16))
    state = first_state().replace(ema=jax.tree.map(jnp.zeros_like, first_state().ema))
    for average, last in zip(
        jax.tree.leaves(end_step(gan)(state).ema),
        jax.tree.leaves(state.variables["generator"]),
        strict=True,
    ):
        np.testing.assert_array_equal(average, last)


def test_the_discriminators_average_is_of_the_weights_before_each_step():
    gan = optim.with_averaged_discriminator(TOY, 80.0, 8)
    step, batch, key = virtual(gan), float_batch(8), jax.random.key(0)
    state, expected = first_state(gan), None
    for number in range(3):
        before = state.variables["discriminator"]
        decay = float(optim.ema_decay(80.0, 8)(number))
        expected = jax.tree.map(
            lambda old, new, kept=decay: kept * old + (1 - kept) * new,
            before if expected is None else expected,
            before,
        )
        state, metrics = step(state, batch, key)
        state = end_step(gan)(state)
        np.testing.assert_allclose(
            metrics["discriminator/averaged_discriminator"], 1 - decay, rtol=1e-5
        )
    found = optim.averaged_discriminator(state)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found["params"]["u"], state.variables["discriminator"]["params"]["u"])
    assert optim.averaged_discriminator(first_state(TOY)) is None
    assert optim.with_averaged_discriminator(TOY, 0.0, 8) is TOY
