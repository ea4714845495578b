"""Minibatch discrimination and minibatch standard deviation beside plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import STORED
from jax.test_util import check_grads
from stored.layers import similarity_inputs

from jaxgan.layers.minibatch import MinibatchDiscrimination, minibatch_stddev, similarity

KEY = jax.random.key(4)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
M = jax.random.normal(KEY, (12, 3, 2))


def _loop(m, group):
    m = np.float64(m)
    out = np.zeros(m.shape[:2])
    for i in range(len(m)):
        first = 0 if group is None else i - i % group
        for j in range(first, first + (group or len(m))):
            out[i] += np.exp(-np.abs(m[i] - m[j]).sum(-1))
    return out


def _plain(m):
    """The whole table at once."""
    return jnp.exp(-jnp.abs(m[:, None] - m[None]).sum(-1)).sum(1)


def _by_rows(rows, group=None):
    """The sums, with so many rows of the table at a time: 2 divide the examples, 5 leave a rest."""
    return functools.partial(similarity, group=group, block=rows * M.size)


@pytest.mark.parametrize(("rows", "group"), [(2, None), (5, None), (5, 4), (100, 1)])
def test_it_is_the_double_loop(rows, group):
    out = jax.jit(_by_rows(rows, group))(M)
    np.testing.assert_allclose(out, _loop(M, group), **CLOSE)


def test_one_example_is_near_itself_alone():
    np.testing.assert_array_equal(similarity(M[:1]), jnp.ones((1, 3)))


@pytest.mark.parametrize("group", [None, 4])
def test_derivatives_are_those_of_the_whole_table(group):
    weight = jax.random.normal(jax.random.key(1), (12, 3))

    def table(m):
        return jax.vmap(_plain)(m.reshape(-1, group or 12, 3, 2)).reshape(12, 3)

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(function, m):
        def slope(m):
            return jax.grad(lambda m: (weight * jnp.sin(function(m))).sum())(m)

        return slope(m), jax.grad(lambda m: jnp.square(slope(m)).sum())(m)

    actual, expected = derivatives(_by_rows(5, group), M), derivatives(table, M)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_derivatives_are_finite_differences():
    # Far enough from each other that no difference changes its sign.
    m = jnp.stack([jnp.arange(5) * 0.3, jnp.array([0.9, 0.1, -0.7, 1.5, 0.5])], -1)[:, None]
    check_grads(jax.jit(similarity), (m,), order=2, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_equal_examples_pull_at_each_other_not_at_all():
    @jax.jit
    def slope(m):
        return jax.grad(lambda m: (similarity(m) * jnp.arange(4)[:, None]).sum())(m)

    m = jnp.ones((4, 3, 2))
    np.testing.assert_array_equal(similarity(m), jnp.full((4, 3), 4))
    np.testing.assert_array_equal(slope(m), jnp.zeros_like(m))
    # Equal in one dimension: that one does not pull, nor change how the other does.
    m = m.at[:, :, 0].set(jnp.arange(4)[:, None])
    np.testing.assert_array_equal(slope(m)[..., 1], jnp.zeros((4, 3)))
    change = jax.jit(jax.grad(lambda m: slope(m)[0, 0, 0]))(m)
    np.testing.assert_array_equal(change[..., 1], jnp.zeros((4, 3)))
    assert np.abs(change[0, 0, 0]) > 0.1


def test_permuting_the_batch_permutes_the_sums():
    order = np.random.default_rng(0).permutation(12)
    run = jax.jit(similarity, static_argnames="group")
    np.testing.assert_allclose(run(M[order]), run(M)[order], **CLOSE)
    # Groups are ranges: what leaves its group meets other neighbors.
    assert np.abs(run(M[order], group=4) - run(M, group=4)[order]).max() > 0.1


def test_devices_that_hold_whole_groups_agree_with_one():
    devices = 2
    m, x = jax.random.normal(KEY, (16, 3, 2)), jax.random.normal(KEY, (16, 2, 3, 5))
    for function, whole in ((similarity, m), (minibatch_stddev, x)):
        grouped = functools.partial(function, group=4)
        parts = whole.reshape(devices, -1, *whole.shape[1:])
        run = jax.pmap(grouped) if devices <= jax.device_count() else jax.vmap(grouped)
        out = run(parts)
        np.testing.assert_allclose(out.reshape(16, *out.shape[2:]), grouped(whole), **CLOSE)


def test_half_precision_is_summed_in_float32():
    m = jax.random.normal(KEY, (300, 1, 1)).astype(jnp.bfloat16)
    out = similarity(m)
    assert out.dtype == jnp.bfloat16
    exact = similarity(m.astype(jnp.float32))
    np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))


def test_memory_does_not_grow_with_the_table():
    m = jax.ShapeDtypeStruct((512, 20, 4), jnp.float32)
    compiled = (
        jax.jit(jax.grad(lambda m: jnp.sin(similarity(m, block=2**18)).sum())).lower(m).compile()
    )
    table = 4 * 512 * 512 * 20
    assert compiled.memory_analysis().temp_size_in_bytes < table / 2


# The module


@pytest.mark.parametrize("group", [None, 4])
def test_the_module_appends_similarities(group):
    layer = MinibatchDiscrimination(3, 2, group)
    x = jax.random.normal(KEY, (12, 5))
    variables = jax.jit(layer.init)(KEY, x)
    out = jax.jit(layer.apply)(variables, x)
    m = np.einsum("bf,fkd->bkd", x, variables["params"]["kernel"])
    np.testing.assert_array_equal(out[:, :5], x)
    np.testing.assert_allclose(out[:, 5:], _loop(m, group), rtol=1e-4, atol=1e-5)


def test_the_modules_kernel():
    layer = MinibatchDiscrimination(group=16)
    kernel = jax.jit(layer.init)(KEY, jnp.zeros((2, 338)))["params"]["kernel"]  # with any batch
    assert kernel.shape == (338, 100, 5)
    lengths = np.linalg.norm(kernel, axis=0)
    assert abs(lengths.mean() - 1) < 0.02 and lengths.std() < 0.1


@pytest.mark.parametrize(
    ("batch", "group", "message"),
    [
        (20, 16, "a batch of 20 .* groups of 16; use a batch of 16 or 32 a device"),
        (8, 16, "a batch of 8 .* groups of 16; use a batch of 16 a device"),
        (8, 0, "the group size is 0; it must be at least 1"),
    ],
)
def test_a_batch_that_is_no_whole_number_of_groups_is_refused(batch, group, message):
    layer = MinibatchDiscrimination(3, 2, group)
    variables = {"params": {"kernel": jnp.zeros((5, 3, 2))}}
    with pytest.raises(ValueError, match=message):
        layer.apply(variables, jnp.zeros((batch, 5)))
    with pytest.raises(ValueError, match=message):
        minibatch_stddev(jnp.zeros((batch, 2, 2, 1)), group=group)


# Standard deviation


def test_the_standard_deviation_of_a_group_is_its_last_channel():
    x = np.random.default_rng(0).normal(size=(6, 2, 3, 4)).astype(np.float32)
    out = minibatch_stddev(jnp.asarray(x), group=3)
    np.testing.assert_array_equal(out[..., :4], x)
    for first in (0, 3):
        expected = np.sqrt(x[first : first + 3].var(0) + 1e-8).mean()
        np.testing.assert_allclose(out[first : first + 3, ..., 4], expected, rtol=1e-5)
    np.testing.assert_allclose(
        minibatch_stddev(jnp.asarray(x), group=None)[..., 4],
        np.sqrt(x.var(0) + 1e-8).mean(),
        rtol=1e-5,
    )


def test_equal_examples_have_no_deviation_and_finite_derivatives():
    x = jnp.ones((4, 2, 2, 3))
    np.testing.assert_allclose(minibatch_stddev(x, group=2)[..., 3], 1e-4, rtol=1e-5)

    def slope(x):
        gradient = jax.grad(lambda x: jnp.square(minibatch_stddev(x, group=2)).sum())(x)
        return jnp.square(gradient).sum()

    assert np.isfinite(jax.jit(jax.grad(slope))(x)).all()


def test_numbers_are_pytorchs():
    def run(m):
        near = similarity(m)
        return jnp.sin(near).sum(), near

    slope, near = jax.jit(jax.grad(run, has_aux=True))(similarity_inputs())
    with np.load(STORED / "torch_similarity.npz") as stored:
        np.testing.assert_allclose(near, stored["out"], **CLOSE)
        np.testing.assert_allclose(slope, stored["m"], **CLOSE)
