"""Pixel and instance norm, styles, noise, mapping, the average of w, truncation, mixing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from stored.layers import normal as _normal

from jaxgan.core import AXIS
from jaxgan.layers.norm import instance_norm, pixel_norm
from jaxgan.layers.style import (
    AdaptiveInstanceNorm,
    Mapping,
    Noise,
    StyleGANMapping,
    crossovers,
    mix,
    pixel_noise,
    truncate,
)

KEY = jax.random.key(0)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


X, Z = _normal(4, 3, 5, 6), _normal(4, 5, seed=1)
LABEL = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]


def test_pixel_norm():
    expected = X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(pixel_norm(X), expected, **CLOSE)
    np.testing.assert_allclose(np.square(pixel_norm(1000 * Z)).mean(-1), 1, rtol=1e-4)
    assert pixel_norm(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16


def test_instance_norm():
    out = instance_norm(10 * X + 300)
    np.testing.assert_allclose(out.mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(out.var((1, 2)), 1, rtol=1e-3)
    expected = (X - X.mean((1, 2), keepdims=True)) / np.sqrt(X.var((1, 2), keepdims=True) + 1e-8)
    np.testing.assert_allclose(instance_norm(X), expected, rtol=1e-3, atol=1e-4)


def test_a_constant_channel_is_zero_with_finite_derivatives():
    """StyleGAN's first map is a constant, and zero a vector that pixel norm may meet."""
    ones = jnp.ones((2, 4, 4, 3)) * 3.3
    np.testing.assert_allclose(instance_norm(ones), 0, atol=1e-2)
    for function, x in ((instance_norm, ones), (pixel_norm, 0 * ones)):

        @jax.jit
        def slopes(x, function=function):
            def slope(x):
                return jax.grad(lambda x: jnp.sin(function(x)).sum())(x)

            return slope(x), jax.grad(lambda x: jnp.square(slope(x)).sum())(x)

        assert np.isfinite(slopes(x)).all()


def test_a_style_scales_and_shifts_what_is_normalized():
    layer, w = AdaptiveInstanceNorm(), _normal(4, 7, seed=2)
    params = jax.jit(layer.init)(KEY, X, w)["params"]
    assert jax.tree.map(jnp.shape, params) == {"affine": {"kernel": (7, 12), "bias": (12,)}}
    np.testing.assert_array_equal(params["affine"]["bias"], 0)
    bias = _normal(12, seed=3)
    style = w @ params["affine"]["kernel"] / np.sqrt(7) + bias
    scale, shift = style[:, None, None, :6], style[:, None, None, 6:]
    params = {"affine": {**params["affine"], "bias": bias}}
    out = layer.apply({"params": params}, X, w)
    np.testing.assert_allclose(out, instance_norm(X) * (scale + 1) + shift, **CLOSE)


def test_noise_starts_without_effect_and_is_the_examples_own():
    keys = jax.random.split(KEY, 4)
    for per_channel, strength in ((False, 0.5), (True, jnp.arange(6.0))):
        layer = Noise(per_channel)
        run = jax.jit(layer.apply)
        same, variables = jax.jit(layer.init_with_output)(KEY, X, keys)
        assert variables["params"]["strength"].shape == jnp.shape(strength)
        np.testing.assert_array_equal(same, X)
        params = {"strength": jnp.asarray(strength)}
        out = run({"params": params}, X, keys)
        np.testing.assert_allclose(out, X + pixel_noise(keys, 3, 5) * strength, **CLOSE)
        turned = run({"params": params}, X[::-1], keys[::-1])
        np.testing.assert_array_equal(turned, out[::-1])
    noise = pixel_noise(jax.random.split(KEY, 64), 16, 16)
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03


def _leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def _norm(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-8)


def _random_biases(params):
    return {
        name: {**layer, "bias": 30 * _normal(*layer["bias"].shape, seed=5)}
        if isinstance(layer, dict)
        else layer
        for name, layer in params.items()
    }


@pytest.mark.parametrize("label", [None, LABEL], ids=["none", "label"])
def test_stylegan2s_mapping(label):
    layer = Mapping(6, 3)
    params = _random_biases(jax.jit(layer.init)(KEY, Z, label)["params"])
    x = _norm(Z)
    if label is not None:
        embed = params["embed"]
        x = np.concatenate([x, _norm(label @ embed["kernel"] / np.sqrt(3) + embed["bias"])], -1)
    for i in range(3):
        dense = params[f"dense_{i}"]
        assert dense["kernel"].shape == (x.shape[-1], 6)
        x = x @ dense["kernel"] / np.sqrt(x.shape[-1]) * 0.01 + 0.01 * dense["bias"]
        x = _leaky(x) * np.sqrt(2)
    average = {"w_avg": {"w": jnp.zeros(6)}}
    out = jax.jit(layer.apply)({"params": params, **average}, Z, label)
    np.testing.assert_allclose(out, x, **CLOSE)


@pytest.mark.parametrize("label", [None, LABEL], ids=["none", "label"])
def test_stylegans_mapping(label):
    layer = StyleGANMapping(6, 3)
    params = _random_biases(jax.jit(layer.init)(KEY, Z, label)["params"])
    x = Z
    if label is not None:
        assert params["embed"].shape == (3, 5)
        x = np.concatenate([x, label @ params["embed"]], -1)
    x = _norm(x)
    for i in range(3):
        dense = params[f"dense_{i}"]
        x = x @ dense["kernel"] * np.sqrt(2 / x.shape[-1]) * 0.01 + 0.01 * dense["bias"]
        x = _leaky(x)
    average = {"w_avg": {"w": jnp.zeros(6)}}
    out = jax.jit(layer.apply)({"params": params, **average}, Z, label)
    np.testing.assert_allclose(out, x, **CLOSE)


def test_parameters_are_as_many_as_the_official_ones():
    """Eight layers of 512, as the official code prints them: 2,101,248."""
    shapes = jax.eval_shape(Mapping().init, KEY, jnp.ones((1, 512)))["params"]
    assert sum(np.prod(a.shape) for a in jax.tree.leaves(shapes)) == 8 * 262656


@pytest.mark.parametrize(
    ("layer", "devices"), [(Mapping(6, 3), 2), (StyleGANMapping(6, 3), 1)], ids=["2", "1"]
)
def test_a_refresh_moves_the_average_by_the_global_mean(layer, devices):
    variables = jax.jit(layer.init)(KEY, Z, LABEL)
    np.testing.assert_array_equal(variables["w_avg"]["w"], 0)
    variables = {**variables, "w_avg": {"w": jnp.arange(6.0)}}

    def call(z, label, refresh):
        return layer.apply(variables, z, label, refresh=refresh, mutable=["w_avg"])

    z, label = (a.reshape(devices, -1, a.shape[-1]) for a in (Z, LABEL))
    moved = jax.vmap(lambda z, label: call(z, label, True), axis_name=AXIS)
    w, stats = jax.jit(moved)(z, label)
    mean = w.reshape(4, 6).mean(0)
    expected = 0.995 * jnp.arange(6.0) + 0.005 * mean
    np.testing.assert_allclose(stats["w_avg"]["w"][-1], expected, **CLOSE)
    same, stats = jax.jit(call, static_argnums=2)(Z, LABEL, False)
    np.testing.assert_array_equal(stats["w_avg"]["w"], jnp.arange(6.0))
    np.testing.assert_allclose(same, w.reshape(4, 6), **CLOSE)


def test_truncation():
    w, average = _normal(2, 5, 6), _normal(6, seed=1)
    np.testing.assert_allclose(truncate(w, average, 1.0), w, **CLOSE)
    np.testing.assert_allclose(truncate(w[:, 0], average, 0.0), np.stack([average] * 2), **CLOSE)
    half = truncate(w, average, 0.5)
    np.testing.assert_allclose(half, (w + average) / 2, **CLOSE)
    coarse = truncate(w, average, 0.5, cutoff=2)
    np.testing.assert_array_equal(coarse[:, :2], half[:, :2])
    np.testing.assert_array_equal(coarse[:, 2:], w[:, 2:])


def test_mixing_takes_the_finer_layers_from_the_other():
    w, other = _normal(3, 5, 6), _normal(3, 5, 6, seed=1)
    mixed = mix(w, other, jnp.array([1, 5, 4]))
    for example, kept in enumerate((1, 5, 4)):
        np.testing.assert_array_equal(mixed[example, :kept], w[example, :kept])
        np.testing.assert_array_equal(mixed[example, kept:], other[example, kept:])
    np.testing.assert_array_equal(mix(w, other, 2), mix(w, other, jnp.full(3, 2)))


def test_each_example_has_its_crossover():
    keys, run = jax.random.split(KEY, 3000), jax.jit(crossovers, static_argnums=1)
    drawn = np.asarray(run(keys, 5, 0.75))
    share = np.bincount(drawn, minlength=6) / 3000
    # One in four is not mixed; the others keep 1, 2, 3 or 4 layers, each as often.
    np.testing.assert_allclose(share, [0, *[0.75 / 4] * 4, 0.25], atol=0.03)
    np.testing.assert_array_equal(run(keys[7:9], 5, 0.75), drawn[7:9])
    assert (run(keys, 5, 0.0) == 5).all() and (run(keys, 5, 1.0) < 5).all()


@pytest.mark.parametrize("layer", [Mapping(4, 1, 1.0), AdaptiveInstanceNorm()])
def test_second_derivatives_are_finite_differences(layer):
    x, w = (Z, LABEL) if isinstance(layer, Mapping) else (X[:2], Z[:2])
    variables = jax.eval_shape(layer.init, KEY, x, w)
    with jax.enable_x64(True):
        x, w = jnp.asarray(x, jnp.float64), jnp.asarray(w, jnp.float64)
        params = jax.tree.map(
            lambda a: jnp.asarray(_normal(*a.shape), x.dtype), variables["params"]
        )

        def run(params, x):
            average = {"w_avg": {"w": jnp.zeros(4)}} if isinstance(layer, Mapping) else {}
            return jnp.sin(layer.apply({"params": params, **average}, x, w))

        check_grads(jax.jit(run), (params, x), 2, ["rev"], 1e-4, 1e-4, eps=1e-5)
