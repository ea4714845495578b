"""Self-attention: the identity at first, then what the formula says."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan.layers.attention import SelfAttention, attend, attend_at_once
from jaxgan.layers.cpu.attention import in_pieces

KEY = jax.random.key(9)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
X = jax.random.normal(KEY, (2, 4, 6, 8))
PLAIN, POOLED = SelfAttention(4, 1, pool=False), SelfAttention(4, 2, pool=True)


@functools.cache
def _variables(layer):
    """As they start, but with a gain."""
    variables = jax.jit(lambda: layer.init(KEY, X, refresh=False))()
    return {**variables, "params": {**variables["params"], "gain": jnp.float32(0.7)}}


def _apply(layer, variables, x):
    return jax.jit(lambda variables, x: layer.apply(variables, x, refresh=False))(variables, x)


def _numpy(layer, variables, x):
    """The layer as loops over examples and positions, in double precision."""
    x = np.float64(x)
    kernel = {}
    for name, stored in variables["spectral"].items():
        w = np.float64(variables["params"][name]["kernel"])[0, 0]
        kernel[name] = w / (stored["v"] @ w @ stored["u"])
    out = np.empty_like(x)
    for b, image in enumerate(x):
        keys, values = image @ kernel["key"], image @ kernel["value"]
        if layer.pool:
            keys, values = (
                np.array(
                    [
                        [m[i : i + 2, j : j + 2].max((0, 1)) for j in range(0, m.shape[1], 2)]
                        for i in range(0, m.shape[0], 2)
                    ]
                )
                for m in (keys, values)
            )
        keys, values = keys.reshape(-1, keys.shape[-1]), values.reshape(-1, values.shape[-1])
        for i, j in np.ndindex(image.shape[:2]):
            weights = np.exp(keys @ (image[i, j] @ kernel["query"]))
            read = (weights / weights.sum()) @ values
            out[b, i, j] = image[i, j] + variables["params"]["gain"] * (read @ kernel["out"])
    return out


@pytest.mark.parametrize("layer", [PLAIN, POOLED], ids=["plain", "pooled"])
def test_numbers_are_the_formulas(layer):
    variables = _variables(layer)
    out = _apply(layer, variables, X)
    np.testing.assert_allclose(out, _numpy(layer, variables, X), **CLOSE)
    assert np.abs(out - X).max() > 0.1


def test_it_starts_as_the_identity_and_can_leave_it():
    @jax.jit
    def run():
        variables = POOLED.init(KEY, X, refresh=False)

        def loss(params):
            out = POOLED.apply({**variables, "params": params}, X, refresh=False)
            return jnp.square(out).sum(), out

        return jax.grad(loss, has_aux=True)(variables["params"])

    slope, out = run()
    np.testing.assert_array_equal(out, X)
    assert abs(slope["gain"]) > 1e-2


def test_permuting_the_positions_permutes_the_output():
    variables = _variables(PLAIN)
    order = np.random.default_rng(0).permutation(24)

    def permuted(x):
        return x.reshape(2, 24, 8)[:, order].reshape(x.shape)

    out, same = (_apply(PLAIN, variables, x) for x in (X, permuted(X)))
    np.testing.assert_allclose(same, permuted(out), **CLOSE)


def test_a_refresh_moves_the_vectors_of_all_four():
    variables = _variables(POOLED)
    far = jax.tree.map(lambda x: jnp.full_like(x, 0.3), variables["spectral"])
    refreshed = jax.jit(lambda v: POOLED.apply(v, X, refresh=True, mutable=["spectral"]))
    _, stats = refreshed({**variables, "spectral": far})
    assert set(stats["spectral"]) == {"query", "key", "value", "out"}
    for old, new in zip(jax.tree.leaves(far), jax.tree.leaves(stats), strict=True):
        assert np.abs(new - old).max() > 1e-2


def test_second_derivatives():
    def loss(parts):
        return jnp.sin(attend(*parts)).sum()

    parts = [
        jax.random.normal(k, s)
        for k, s in zip(jax.random.split(KEY, 3), [(1, 3, 2), (1, 4, 2), (1, 4, 3)], strict=True)
    ]
    check_grads(jax.jit(loss), (parts,), order=2, modes=["rev"], rtol=2e-2, atol=2e-2)


def test_a_batch_in_pieces_gives_the_same():
    parts = [jax.random.normal(KEY, shape) for shape in [(5, 6, 2), (5, 4, 2), (5, 4, 3)]]

    def loss(attend):
        return jax.jit(jax.value_and_grad(lambda parts: jnp.sin(attend(*parts)).sum()))

    def by_twos(*parts):
        return in_pieces(attend_at_once, *parts, table=2 * 6 * 4)

    whole = loss(attend_at_once)(parts)
    chex.assert_trees_all_close(loss(by_twos)(parts), whole, rtol=1e-5, atol=1e-6)


def test_half_precision_is_kept():
    x = X.astype(jnp.bfloat16)
    out = _apply(POOLED, _variables(POOLED), x)
    assert out.dtype == jnp.bfloat16
    chex.assert_trees_all_close(
        out.astype(jnp.float32), _numpy(POOLED, _variables(POOLED), X), atol=0.1, rtol=0.1
    )


@pytest.mark.parametrize(
    ("layer", "channels", "keys", "values"), [(SelfAttention(), 16, 2, 8), (PLAIN, 15, 3, 15)]
)
def test_channels_are_divided_and_rounded_down(layer, channels, keys, values):
    x = jnp.zeros((1, 2, 2, channels))
    params = jax.eval_shape(lambda: layer.init(KEY, x, refresh=False))["params"]
    assert jax.tree.map(jnp.shape, params) == {
        "query": {"kernel": (1, 1, channels, keys)},
        "key": {"kernel": (1, 1, channels, keys)},
        "value": {"kernel": (1, 1, channels, values)},
        "out": {"kernel": (1, 1, values, channels)},
        "gain": (),
    }


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (SelfAttention(), (1, 2, 2, 7), "7 channels are fewer than key_divisor=8"),
        (SelfAttention(4, 5), (1, 2, 2, 4), "4 channels are fewer than value_divisor=5"),
        (SelfAttention(), (1, 3, 2, 8), "3x2 cannot be pooled .* pool=False"),
    ],
)
def test_what_does_not_fit_is_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, jnp.zeros(shape), refresh=False)
