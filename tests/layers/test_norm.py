"""Conditional batch normalization and the projection: classes, sets of tags, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import STORED
from stored.layers import batch_norm_inputs

from jaxgan.core import AXIS
from jaxgan.layers.norm import BatchNorm, ConditionalBatchNorm
from jaxgan.layers.spectral import Projection

KEY = jax.random.key(2)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
X = 3 * jax.random.normal(KEY, (8, 2, 3, 5)) + 1
LABEL = jax.nn.one_hot(jnp.array([0, 1, 2, 3, 3, 1, 0, 2]), 4)
NORM = ConditionalBatchNorm()


def _random_params(variables):
    leaves, tree = jax.tree.flatten(variables["params"])
    keys = jax.random.split(KEY, len(leaves))
    drawn = [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return {**variables, "params": jax.tree.unflatten(tree, drawn)}


def _variables(label):
    return _random_params(jax.jit(lambda: NORM.init(KEY, X, label, train=True))())


def _train(variables, x, label, devices=1):
    """The output and the statistics in training, on devices that vmap plays."""

    @jax.jit
    @functools.partial(jax.vmap, axis_name=AXIS)
    def call(x, label):
        return NORM.apply(variables, x, label, train=True, mutable=["batch_stats"])

    x, label = (
        None if part is None else part.reshape(devices, -1, *part.shape[1:]) for part in (x, label)
    )
    out, stats = call(x, label)
    return out.reshape(-1, *out.shape[2:]), stats


def _standardized(x):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-5)


@pytest.mark.parametrize("label", [LABEL, None], ids=["label", "none"])
def test_it_starts_as_plain_normalization(label):
    variables = jax.jit(lambda: NORM.init(KEY, X, label, train=True))()
    out, _ = _train(variables, X, label)
    np.testing.assert_allclose(out, _standardized(X), rtol=1e-4, atol=1e-5)


def test_a_class_has_its_scale_and_bias():
    variables = _variables(LABEL)
    out, _ = _train(variables, X, LABEL)
    rows = {name: np.asarray(LABEL @ x) for name, x in variables["params"].items()}
    scale, bias = rows["scale"][:, None, None], rows["bias"][:, None, None]
    np.testing.assert_allclose(out, _standardized(X) * (1 + scale) + bias, rtol=1e-4, atol=1e-5)


def test_evaluation_uses_the_running_statistics():
    variables = _variables(LABEL)
    _, stats = _train(variables, X, LABEL)
    kept = jax.tree.map(lambda x: x[0], stats["batch_stats"])
    out = NORM.apply({**variables, "batch_stats": kept}, X, LABEL, train=False)
    scale, bias = ((LABEL @ variables["params"][name])[:, None, None] for name in ("scale", "bias"))
    mean, variance = 0.1 * X.mean((0, 1, 2)), 0.9 + 0.1 * X.var((0, 1, 2), ddof=1)
    expected = (X - mean) / jnp.sqrt(variance + 1e-5) * (1 + scale) + bias
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_tags_add_up():
    variables = _variables(LABEL)

    def moved(label):
        """What the label adds to plain normalization."""
        label = jnp.tile(jnp.float32(label), (8, 1))
        return _train(variables, X, label)[0] - _standardized(X)

    both, first, second = moved([0, 1, 0, 1]), moved([0, 1, 0, 0]), moved([0, 0, 0, 1])
    np.testing.assert_allclose(both, first + second, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(moved([0, 0, 0, 0]), 0, atol=1e-5)


def test_permuting_a_batch_with_its_labels_permutes_the_output():
    variables, order = _variables(LABEL), np.array([3, 1, 7, 0, 2, 6, 5, 4])
    out, _ = _train(variables, X, LABEL)
    same, _ = _train(variables, X[order], LABEL[order])
    np.testing.assert_allclose(same, out[order], rtol=1e-4, atol=1e-5)
    other, _ = _train(variables, X[order], LABEL)
    assert np.abs(other - out[order]).max() > 0.1


@pytest.mark.parametrize(("devices", "label"), [(2, None), (4, LABEL)], ids=["none", "label"])
def test_devices_normalize_as_one_does(devices, label):
    variables = _variables(label)
    out, stats = _train(variables, X, label)
    same, each = _train(variables, X, label, devices)
    np.testing.assert_allclose(same, out, rtol=1e-4, atol=1e-5)
    for one, several in zip(jax.tree.leaves(stats), jax.tree.leaves(each), strict=True):
        np.testing.assert_allclose(several, jnp.repeat(one, devices, 0), **CLOSE)


@pytest.mark.parametrize("devices", [4])
def test_a_mean_of_many_deviations_leaves_the_variance_and_the_gradient(devices):
    """With a running mean that is near: the first steps start from zero."""
    far = X + 900  # 300 deviations
    norm = BatchNorm()
    variables = jax.jit(lambda: norm.init(KEY, far, train=True))()
    stats = {"mean": far.mean((0, 1, 2)) + 1, "var": jnp.ones(5)}
    weight = jax.random.normal(jax.random.key(3), X.shape)

    def loss(x, mean):
        def call(x):
            used = {**variables, "batch_stats": {**stats, "mean": mean}}
            return norm.apply(used, x, train=True, mutable=["batch_stats"])

        parts = x.reshape(devices, -1, *x.shape[1:])
        out, moved = jax.vmap(call, axis_name=AXIS)(parts)
        return (weight * out.reshape(x.shape)).sum(), moved["batch_stats"]["var"][0]

    (slope, by_mean), var = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(far, stats["mean"])
    exact = np.float64(far)
    np.testing.assert_allclose(var, 0.9 + 0.1 * exact.var((0, 1, 2), ddof=1), rtol=1e-4)
    centered = far - far.mean((0, 1, 2))  # of which the gradient is the same
    expected = jax.jit(jax.grad(lambda x: (weight * _standardized(x)).sum()))(centered)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(by_mean, 0)


def test_vectors_and_half_precision():
    x = X[:, 0, 0].astype(jnp.bfloat16)
    variables = NORM.init(KEY, x, LABEL, train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    out, _ = _train(variables, x, LABEL)
    assert out.dtype == jnp.bfloat16 and out.shape == (8, 5)


@pytest.mark.parametrize("devices", [1, 2])
def test_outputs_and_running_statistics_are_pytorchs(devices):
    *steps, last = batch_norm_inputs()
    norm = BatchNorm()
    variables = jax.jit(lambda: norm.init(KEY, steps[0], train=True))()

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0), axis_name=AXIS)
    def call(variables, x):
        return norm.apply(variables, x, train=True, mutable=["batch_stats"])

    out = []
    for x in steps:
        parts = x.reshape(devices, -1, *x.shape[1:])
        y, stats = call(variables, parts)
        variables |= jax.tree.map(lambda a: a[0], stats)
        out.append(y.reshape(x.shape))
    out.append(norm.apply(variables, last, train=False))
    with np.load(STORED / "torch_batch_norm.npz") as stored:
        np.testing.assert_allclose(np.stack(out), stored["out"], rtol=1e-4, atol=1e-5)
        for name in ("mean", "var"):
            np.testing.assert_allclose(variables["batch_stats"][name], stored[name], **CLOSE)


def _projection(label):
    features = X.reshape(8, -1)
    variables = jax.jit(lambda: Projection().init(KEY, features, LABEL, refresh=False))()
    return Projection().apply(variables, features, label, refresh=False), variables


def test_a_projection_is_the_product_with_the_normalized_embedding():
    out, variables = _projection(LABEL)
    w, vectors = variables["params"]["embed"]["kernel"], variables["spectral"]["embed"]
    w /= vectors["v"] @ w @ vectors["u"]
    np.testing.assert_allclose(
        out, np.einsum("bf,bk,kf->b", X.reshape(8, -1), LABEL, w), rtol=1e-4, atol=1e-4
    )
    assert out.shape == (8,)


def test_projections_of_tags_add_up():
    first, second = (jnp.tile(jnp.eye(4)[k], (8, 1)) for k in (1, 3))
    both, _ = _projection(first + second)
    np.testing.assert_allclose(
        both, _projection(first)[0] + _projection(second)[0], rtol=1e-4, atol=1e-4
    )
