"""Weight normalization: unit columns, derivatives, and what the first batch leaves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from conftest import STORED
from jax.test_util import check_grads
from stored.layers import weight_norm_inputs

from jaxgan.core import AXIS
from jaxgan.layers.weight_norm import WeightNormDense

X = np.random.default_rng(0).normal(1, 2, (8, 5)).astype(np.float32)
PLAIN = WeightNormDense(3)
STANDARD = WeightNormDense(3, train_scale=False, standardize=True)


def test_output_and_gradients_are_pytorchs():
    inputs = weight_norm_inputs()
    params = {name: inputs[name] for name in ("kernel", "scale", "bias")}

    def loss(params, x):
        y = PLAIN.apply({"params": params}, x)
        return jnp.sin(y).sum(), y

    grad = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    (slopes, slope), y = grad(params, inputs["x"])
    with np.load(STORED / "torch_weight_norm.npz") as stored:
        for name, ours in {**slopes, "x": slope, "y": y}.items():
            np.testing.assert_allclose(ours, stored[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_second_derivatives():
    params = PLAIN.init(jax.random.key(0), X)
    play = jax.jit(lambda params, x: jnp.sin(PLAIN.apply(params, x)))
    check_grads(play, (params, X), order=2, modes=["rev"], rtol=0.05)


def test_the_length_of_a_column_does_not_count():
    params = PLAIN.init(jax.random.key(0), X)["params"]
    longer = {**params, "kernel": params["kernel"] * np.float32([2, 3, 0.5])}
    ours, theirs = (PLAIN.apply({"params": tree}, X) for tree in (params, longer))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def _called(variables, x, refresh, devices=1):
    """The output [B, features] and the collection, of a batch over so many devices."""

    @functools.partial(jax.vmap, axis_name=AXIS, out_axes=(0, None))
    def call(x):
        return STANDARD.apply(variables, x, refresh=refresh, mutable=["first_batch"])

    y, stats = jax.jit(call)(x.reshape(devices, -1, x.shape[-1]))
    return y.reshape(len(x), -1), {**variables, **stats}


def test_the_first_batch_is_standardized_and_the_others_by_it():
    variables = STANDARD.init(jax.random.key(0), X)
    plain, before = _called(variables, X, refresh=False)
    y, met = _called(before, X, refresh=True)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-4)
    np.testing.assert_allclose(y, (plain - plain.mean(0)) / plain.std(0), rtol=1e-3, atol=1e-4)
    other, after = _called(met, 3 * X + 1, refresh=True)
    jax.tree.map(np.testing.assert_array_equal, after, met)
    assert np.abs(other.mean(0)).min() > 0.1
    # Many devices see the same first batch.
    parts, spread = _called(before, X, refresh=True, devices=4)
    np.testing.assert_allclose(parts, y, rtol=1e-4, atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), spread, met)
