"""Conditional batch normalisation and the projection: classes, sets of tags, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.core import AXIS
from jaxgan.layers.norm import ConditionalBatchNorm
from jaxgan.layers.projection import Projection

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
    return _random_params(NORM.init(KEY, X, label, train=True))


def _train(variables, x, label, devices=1):
    """The output and the statistics in training, on devices that vmap plays."""

    def call(x, label):
        return NORM.apply(variables, x, label, train=True, mutable=["batch_stats"])

    x, label = (
        None if part is None else part.reshape(devices, -1, *part.shape[1:]) for part in (x, label)
    )
    out, stats = jax.vmap(call, axis_name=AXIS)(x, label)
    return out.reshape(-1, *out.shape[2:]), stats


def _standardised(x):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / np.sqrt(variance + 1e-5)


@pytest.mark.parametrize("label", [LABEL, None], ids=["label", "none"])
def test_it_starts_as_plain_normalisation(label):
    variables = NORM.init(KEY, X, label, train=True)
    out, _ = _train(variables, X, label)
    np.testing.assert_allclose(out, _standardised(X), rtol=1e-4, atol=1e-5)


def test_a_class_has_its_scale_and_bias():
    variables = _variables(LABEL)
    out, _ = _train(variables, X, LABEL)
    rows = {name: np.asarray(LABEL @ x) for name, x in variables["params"].items()}
    scale, bias = rows["scale"][:, None, None], rows["bias"][:, None, None]
    np.testing.assert_allclose(out, _standardised(X) * (1 + scale) + bias, rtol=1e-4, atol=1e-5)


def test_evaluation_uses_the_running_statistics():
    variables = _variables(LABEL)
    _, stats = _train(variables, X, LABEL)
    kept = jax.tree.map(lambda x: x[0], stats["batch_stats"])
    out = NORM.apply({**variables, "batch_stats": kept}, X, LABEL, train=False)
    scale, bias = ((LABEL @ variables["params"][name])[:, None, None] for name in ("scale", "bias"))
    mean, variance = 0.1 * X.mean((0, 1, 2)), 0.9 + 0.1 * X.var((0, 1, 2))
    expected = (X - mean) / jnp.sqrt(variance + 1e-5) * (1 + scale) + bias
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_tags_add_up():
    variables = _variables(LABEL)

    def moved(label):
        """What the label adds to plain normalisation."""
        label = jnp.tile(jnp.float32(label), (8, 1))
        return _train(variables, X, label)[0] - _standardised(X)

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


@pytest.mark.parametrize("label", [LABEL, None], ids=["label", "none"])
@pytest.mark.parametrize("devices", [2, 4])
def test_devices_normalise_as_one_does(devices, label):
    variables = _variables(label)
    out, stats = _train(variables, X, label)
    same, each = _train(variables, X, label, devices)
    np.testing.assert_allclose(same, out, rtol=1e-4, atol=1e-5)
    for one, several in zip(jax.tree.leaves(stats), jax.tree.leaves(each), strict=True):
        np.testing.assert_allclose(several, jnp.repeat(one, devices, 0), **CLOSE)


def test_vectors_and_half_precision():
    x = X[:, 0, 0].astype(jnp.bfloat16)
    variables = NORM.init(KEY, x, LABEL, train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    out, _ = _train(variables, x, LABEL)
    assert out.dtype == jnp.bfloat16 and out.shape == (8, 5)


def test_numbers_are_pytorchs():
    torch = pytest.importorskip("torch")
    variables = _variables(LABEL)
    x = torch.tensor(np.moveaxis(X, -1, 1))
    index = torch.tensor(np.asarray(LABEL)).argmax(1)

    def rows(name):
        return torch.nn.Embedding.from_pretrained(torch.tensor(variables["params"][name]))(index)

    plain = torch.nn.BatchNorm2d(5, affine=False)(x)
    expected = plain * (1 + rows("scale"))[..., None, None] + rows("bias")[..., None, None]
    out, _ = _train(variables, X, LABEL)
    np.testing.assert_allclose(out, np.moveaxis(expected.numpy(), 1, -1), rtol=1e-4, atol=1e-5)


def _projection(label):
    features = X.reshape(8, -1)
    variables = Projection().init(KEY, features, LABEL, refresh=False)
    return Projection().apply(variables, features, label, refresh=False), variables


def test_a_projection_is_the_product_with_the_normalised_embedding():
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
