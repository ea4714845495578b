"""Grouped convolution by products, beside XLA's and PyTorch's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import STORED
from jax.test_util import check_grads
from stored.layers import grouped_inputs
from stored.layers import normal as _normal

from jaxgan.layers import grouped
from jaxgan.layers.grouped import GroupedConv, grouped_conv

CASES = [(16, 3, 16), (1, 3, 1), (4, 1, 2)]  # of a group: inputs, kernel, outputs
LOOSE = {"rtol": 1e-4, "atol": 1e-4}


def _arrays(inputs, kernel, outputs, groups=3):
    x = _normal(2, 4, 5, groups * inputs)
    return x, _normal(kernel, kernel, inputs, groups * outputs, seed=1) / (kernel * inputs**0.5)


@pytest.mark.parametrize("case", CASES)
def test_value_and_derivatives_are_xlas(case):
    x, w = _arrays(*case)

    def numbers(run):
        def loss(x, w):
            return jnp.sin(run(x, w)).sum()

        def steepness(x, w):
            return sum(jnp.sin(g).sum() for g in jax.grad(loss, (0, 1))(x, w))

        return run(x, w), jax.grad(loss, (0, 1))(x, w), jax.grad(steepness, (0, 1))(x, w)

    by_xla = functools.partial(grouped_conv, by_xla=True)
    both = jax.jit(lambda: (numbers(grouped_conv), numbers(by_xla)))()
    for a, e in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-4 * max(1, np.abs(e).max()))


def test_a_group_sees_its_own_channels_alone():
    x, w = _arrays(4, 3, 4)
    slope = jax.jit(jax.grad(lambda x: grouped_conv(x, w)[..., 4:8].sum()))(x)
    assert np.abs(slope[..., 4:8]).min() > 0
    np.testing.assert_array_equal(slope[..., :4], 0)
    np.testing.assert_array_equal(slope[..., 8:], 0)


def test_derivatives_are_finite_differences():
    with jax.enable_x64(True):
        x, w = (jnp.asarray(a, jnp.float64) for a in _arrays(2, 3, 2, 2))
        run = jax.jit(lambda x, w: jnp.sin(grouped_conv(x, w)))
        check_grads(run, (x, w), 2, ["rev"], 1e-5, 1e-5)


def test_numbers_are_pytorchs():
    with np.load(STORED / "torch_grouped.npz") as stored:
        out = jax.jit(grouped_conv)(*grouped_inputs().values())
        np.testing.assert_allclose(out, stored["out"], **LOOSE)


def test_the_module():
    layer = GroupedConv(48)
    x = _normal(2, 4, 4, 48)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    kernel = variables["params"]["kernel"]
    assert (kernel.shape, kernel.dtype) == ((3, 3, 16, 48), jnp.float32)
    np.testing.assert_allclose(kernel.std(), (9 * 16) ** -0.5, rtol=0.05)
    out = jax.jit(layer.apply)(variables, x.astype(jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    exact = jax.jit(grouped_conv)(x, kernel)
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.05)


@pytest.mark.parametrize(("inputs", "outputs"), [(24, 32), (32, 15)])
def test_channels_that_are_no_whole_number_of_groups_are_refused(inputs, outputs):
    with pytest.raises(ValueError, match=f"{inputs} channels into {outputs} .* groups of 16"):
        grouped_conv(jnp.ones((1, 4, 4, inputs)), jnp.ones((3, 3, 16, outputs)))


@pytest.mark.parametrize(("groups", "size"), [(16, 16), (8, 32), (3, 4)])
def test_a_tpus_way_is_the_same(groups, size):
    random = np.random.default_rng(0)
    x, y = (
        jnp.asarray(random.normal(size=(2, 5, 4, groups * size)), jnp.float32) for _ in range(2)
    )
    w = jnp.asarray(random.normal(size=(3, 3, size, groups * size)), jnp.float32)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-3)
    close(grouped._in_lanes(groups, x, w), grouped._by_xla(groups, x, w))
    close(grouped._weights_in_lanes(groups, 3, x, y), grouped._weights_by_xla(groups, 3, x, y))
