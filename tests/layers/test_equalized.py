"""Equalized learning rate: what is stored, what is used, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.test_util import check_grads
from stored.layers import normal as _normal

from jaxgan.layers.conv import conv
from jaxgan.layers.equalized import EqualizedConv, EqualizedDense, leaky_relu
from jaxgan.layers.resample import conv_downsample

KEY = jax.random.key(0)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_a_dense_layer(lr_multiplier):
    layer = EqualizedDense(4, 2**0.5, lr_multiplier)
    x, kernel, bias = _normal(3, 6), _normal(6, 4, seed=1), _normal(4, seed=2)
    out = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    expected = x @ kernel * (2 / 6) ** 0.5 * lr_multiplier + bias * lr_multiplier
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_weights_are_stored_as_standard_normals_and_keep_the_second_moment(lr_multiplier):
    x = jax.random.normal(KEY, (64, 200))
    bias_init = nn.initializers.constant(0.5)
    layer = EqualizedDense(100, lr_multiplier=lr_multiplier, bias_init=bias_init)
    variables = jax.jit(layer.init)(KEY, x)
    params = variables["params"]
    np.testing.assert_allclose(params["kernel"].std() * lr_multiplier, 1, rtol=0.05)
    np.testing.assert_array_equal(params["bias"], np.full(100, 0.5, np.float32))
    y = layer.apply(variables, x) - 0.5 * lr_multiplier
    np.testing.assert_allclose(jnp.square(y).mean(), 1, rtol=0.1)
    # The activation with its gain keeps it, too, up to (1 + .2 ** 2).
    np.testing.assert_allclose(jnp.square(leaky_relu(y)).mean(), 1.04, rtol=0.1)


def test_a_convolution():
    layer = EqualizedConv(5, 3, 2, 1, gain=3.0, lr_multiplier=0.5)
    x, kernel, bias = _normal(2, 6, 6, 4), _normal(3, 3, 4, 5, seed=1), _normal(5, seed=2)
    out = jax.jit(layer.apply)({"params": {"kernel": kernel, "bias": bias}}, x)
    expected = jax.jit(lambda x, w: conv(x, w, 2, 1))(x, kernel * 3 / 6 * 0.5) + bias * 0.5
    np.testing.assert_allclose(out, expected, **CLOSE)


def test_another_way_to_convolve_and_no_bias():
    layer = EqualizedConv(5, 3, convolve=conv_downsample, use_bias=False)
    x = _normal(2, 6, 6, 4)
    variables = jax.jit(layer.init)(KEY, x)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (3, 3, 4, 5)}}
    expected = jax.jit(conv_downsample)(x, variables["params"]["kernel"] / 6)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, **CLOSE)


def test_adam_like_steps_move_all_layers_alike():
    """A step of the same size in each weight changes what is used by the same share."""

    def relative(layer, x):
        params = jax.jit(layer.init)(KEY, x)["params"]
        before = layer.apply({"params": params}, x)
        moved = jax.tree.map(lambda w: w + 0.01 * jnp.sign(w), params)
        moved["bias"] = params["bias"]
        return jnp.linalg.norm(layer.apply({"params": moved}, x) - before) / jnp.linalg.norm(before)

    narrow = relative(EqualizedDense(50, 1.0), jnp.asarray(_normal(64, 20)))
    wide = relative(EqualizedDense(50, 2.0), jnp.asarray(_normal(64, 500)))
    np.testing.assert_allclose(narrow, wide, rtol=0.1)
    slow = relative(EqualizedDense(50, 1.0, 0.01), jnp.asarray(_normal(64, 20)))
    np.testing.assert_allclose(slow, 0.01 * narrow, rtol=0.01)


def test_parameters_stay_in_float32():
    x = jnp.ones((2, 6, 6, 4))
    for layer in (EqualizedConv(5, 1), EqualizedDense(5)):
        half = x.astype(jnp.bfloat16)
        out, variables = jax.eval_shape(layer.init_with_output, KEY, half)
        assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
        assert out.dtype == jnp.bfloat16


def test_derivatives_are_finite_differences():
    layer = EqualizedDense(3, 2.0, 0.1)
    with jax.enable_x64(True):
        x = jnp.asarray(_normal(4, 2), jnp.float64)
        params = jax.jit(layer.init)(KEY, x)["params"]
        params = jax.tree.map(lambda a: a.astype(jnp.float64), params)

        def run(params, x):
            return jnp.sin(layer.apply({"params": params}, x))

        check_grads(jax.jit(run), (params, x), 2, ["rev"], 1e-5, 1e-5)
