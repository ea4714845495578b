"""Modulated convolutions: the grouped formulation, norms, PyTorch's numbers, derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import STORED
from jax.test_util import check_grads
from stored.layers import modulated_inputs
from stored.layers import normal as _normal

from jaxgan.layers.resample import conv_downsample, upsample_conv
from jaxgan.layers.style import ModulatedConv, ToRGB, demodulation, modulated_conv, same_conv

KEY = jax.random.key(0)
LOOSE = {"rtol": 1e-4, "atol": 1e-4}


X, W, STYLE = modulated_inputs().values()


def _kernels(w, style, demodulate):
    """The kernel of each example [B, k, k, I, O], after the paper's equations 1 and 3."""
    kernels = w[None] * style[:, None, None, :, None]
    if not demodulate:
        return kernels
    return kernels / np.sqrt((kernels**2).sum((1, 2, 3), keepdims=True) + 1e-8)


@pytest.mark.parametrize(
    ("convolve", "demodulate"),
    [(same_conv, True), (same_conv, False), (upsample_conv, True), (conv_downsample, True)],
)
def test_it_is_a_kernel_for_each_example(convolve, demodulate):
    kernels, plain = _kernels(W, STYLE, demodulate), jax.jit(convolve)
    expected = [plain(x[None], w)[0] for x, w in zip(X, kernels, strict=True)]
    run = functools.partial(modulated_conv, demodulate=demodulate, convolve=convolve)
    np.testing.assert_allclose(jax.jit(run)(X, W, STYLE), np.stack(expected), **LOOSE)


def test_demodulated_kernels_have_unit_norm():
    kernels = W * STYLE[:, None, None, :, None] * demodulation(W, STYLE)[:, None, None, None]
    np.testing.assert_allclose(jnp.square(kernels).sum((1, 2, 3)), 1, rtol=1e-5)
    run = jax.jit(modulated_conv)
    np.testing.assert_allclose(run(X, W, 100 * STYLE), run(X, W, STYLE), **LOOSE)


def test_demodulation_keeps_the_second_moment():
    x = jax.random.normal(KEY, (4, 16, 16, 64))
    style = 3 * jax.random.normal(jax.random.key(1), (4, 64))
    y = jax.jit(modulated_conv)(x, jax.random.normal(jax.random.key(2), (3, 3, 64, 32)), style)
    np.testing.assert_allclose(jnp.square(y[:, 1:-1, 1:-1]).mean(), 1, rtol=0.05)


def test_a_style_of_zero_is_finite():
    def loss(style):
        return jnp.square(modulated_conv(X, W, style)).sum()

    def steepness(style):
        return jnp.square(jax.grad(loss)(style)).sum()

    zero = jnp.zeros_like(STYLE)
    slopes = jax.jit(lambda style: (jax.grad(loss)(style), jax.grad(steepness)(style)))
    assert np.isfinite(slopes(zero)).all()


def test_the_modules_style_starts_around_one():
    w = _normal(3, 8, seed=3)
    layer = ModulatedConv(7)
    variables = jax.jit(layer.init)(KEY, X, w)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {"affine": {"kernel": (8, 5), "bias": (5,)}, "kernel": (3, 3, 5, 7)}
    affine = variables["params"]["affine"]
    np.testing.assert_array_equal(affine["bias"], np.ones(5, np.float32))
    style = w @ affine["kernel"] / np.sqrt(8) + 1
    expected = jax.jit(modulated_conv)(X, variables["params"]["kernel"], style)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, X, w), expected, **LOOSE)


def test_to_rgb_is_not_demodulated():
    w, layer = _normal(3, 8, seed=3), ToRGB(3)
    params = {**jax.jit(layer.init)(KEY, X, w)["params"], "bias": _normal(3, seed=4)}
    style = w @ params["affine"]["kernel"] / np.sqrt(8) + 1
    kernel = params["kernel"][0, 0] / np.sqrt(5)
    expected = np.einsum("bhwi,bi,io->bhwo", X, style, kernel) + params["bias"]
    np.testing.assert_allclose(jax.jit(layer.apply)({"params": params}, X, w), expected, **LOOSE)


def test_half_precision():
    layer = ModulatedConv(7)
    w = _normal(3, 8, seed=3)
    variables = jax.jit(layer.init)(KEY, X, w)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    run = jax.jit(layer.apply)
    out, exact = run(variables, jnp.asarray(X, jnp.bfloat16), w), run(variables, X, w)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.05)


def test_numbers_are_pytorchs():
    """The batch as groups of one convolution, as the official code fuses it."""

    def run(*arrays):
        y = modulated_conv(*arrays, convolve=upsample_conv)
        return jnp.sin(y).sum(), y

    slopes, y = jax.jit(jax.grad(run, (0, 1, 2), has_aux=True))(X, W, STYLE)
    with np.load(STORED / "torch_modulated.npz") as stored:
        expected = [stored[name] for name in ("out", "x", "kernel", "style")]
    for a, e in zip((y, *slopes), expected, strict=True):
        np.testing.assert_allclose(a, e, **LOOSE)


def test_derivatives_are_finite_differences():
    with jax.enable_x64(True):
        shapes = ((2, 2, 3, 2), (3, 3, 2, 2), (2, 2))
        arrays = [jnp.asarray(_normal(*s, seed=i), jnp.float64) for i, s in enumerate(shapes)]
        check_grads(jax.jit(modulated_conv), arrays, 2, ["rev"], 1e-5, 1e-5)


def test_a_kernel_of_one_is_a_product():
    w = _normal(1, 1, 5, 2)
    np.testing.assert_allclose(same_conv(X, w), X @ w[0, 0], **LOOSE)
