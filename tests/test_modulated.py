"""Modulated convolutions: the grouped formulation, norms, PyTorch's numbers, derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from jaxgan.layers.conv import conv
from jaxgan.layers.modulated import ModulatedConv, ToRGB, demodulation, modulated_conv, same_conv
from jaxgan.layers.resample import conv_downsample, upsample_conv

KEY = jax.random.key(0)
LOOSE = {"rtol": 1e-4, "atol": 1e-4}
WAYS = [same_conv, upsample_conv, conv_downsample]


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X, W, STYLE = _normal(3, 4, 6, 5), _normal(3, 3, 5, 7, seed=1), _normal(3, 5, seed=2)


def _kernels(w, style, demodulate):
    """The kernel of each example [B, k, k, I, O], after the paper's equations 1 and 3."""
    kernels = w[None] * style[:, None, None, :, None]
    if not demodulate:
        return kernels
    return kernels / np.sqrt((kernels**2).sum((1, 2, 3), keepdims=True) + 1e-8)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("convolve", WAYS)
def test_it_is_a_kernel_for_each_example(convolve, demodulate):
    kernels, own = _kernels(W, STYLE, demodulate), jax.jit(convolve)
    expected = [own(x[None], w)[0] for x, w in zip(X, kernels, strict=True)]
    run = functools.partial(modulated_conv, demodulate=demodulate, convolve=convolve)
    np.testing.assert_allclose(jax.jit(run)(X, W, STYLE), np.stack(expected), **LOOSE)


def test_it_is_the_grouped_formulation_with_its_derivatives():
    """The batch as groups of one convolution, as the official code fuses it."""

    def grouped(x, w, style):
        batch, height, width, inputs = x.shape
        kernels = w[None] * style[:, None, None, :, None]
        norm = jnp.square(kernels).sum((1, 2, 3), keepdims=True)
        kernels = kernels * lax.rsqrt(norm + 1e-8)
        kernels = kernels.transpose(1, 2, 3, 0, 4).reshape(3, 3, inputs, -1)
        y = lax.conv_general_dilated(
            x.transpose(1, 2, 0, 3).reshape(1, height, width, -1),
            kernels,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=batch,
        )
        return y.reshape(height, width, batch, -1).transpose(2, 0, 1, 3)

    def slopes(run):
        return jax.grad(lambda *a: jnp.sin(run(*a)).sum(), (0, 1, 2))

    def second(run):
        def steepness(*a):
            return sum(jnp.square(g).sum() for g in slopes(run)(*a))

        return jax.grad(steepness, (0, 1, 2))

    for order in (lambda run: run, slopes, second):
        actual, expected = (jax.jit(order(run))(X, W, STYLE) for run in (modulated_conv, grouped))
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, e, rtol=0, atol=1e-4 * np.abs(e).max())


def test_demodulated_kernels_have_unit_norm():
    kernels = W * STYLE[:, None, None, :, None] * demodulation(W, STYLE)[:, None, None, None]
    np.testing.assert_allclose(jnp.square(kernels).sum((1, 2, 3)), 1, rtol=1e-5)
    large = modulated_conv(X, W, 100 * STYLE)
    np.testing.assert_allclose(large, modulated_conv(X, W, STYLE), **LOOSE)


def test_demodulation_keeps_the_second_moment():
    x = jax.random.normal(KEY, (4, 16, 16, 64))
    style = 3 * jax.random.normal(jax.random.key(1), (4, 64))
    y = modulated_conv(x, jax.random.normal(jax.random.key(2), (3, 3, 64, 32)), style)
    np.testing.assert_allclose(jnp.square(y[:, 1:-1, 1:-1]).mean(), 1, rtol=0.05)


def test_a_style_of_zero_is_finite():
    def loss(style):
        return jnp.square(modulated_conv(X, W, style)).sum()

    def steepness(style):
        return jnp.square(jax.grad(loss)(style)).sum()

    zero = jnp.zeros_like(STYLE)
    assert np.isfinite(jax.jit(jax.grad(loss))(zero)).all()
    assert np.isfinite(jax.jit(jax.grad(steepness))(zero)).all()


def test_the_modules_style_starts_around_one():
    w = _normal(3, 8, seed=3)
    layer = ModulatedConv(7, convolve=upsample_conv)
    variables = jax.jit(layer.init)(KEY, X, w)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {"affine": {"kernel": (8, 5), "bias": (5,)}, "kernel": (3, 3, 5, 7)}
    affine = variables["params"]["affine"]
    np.testing.assert_array_equal(affine["bias"], np.ones(5, np.float32))
    style = w @ affine["kernel"] / np.sqrt(8) + 1
    expected = modulated_conv(X, variables["params"]["kernel"], style, convolve=upsample_conv)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, X, w), expected, **LOOSE)


def test_to_rgb_is_not_demodulated():
    w, layer = _normal(3, 8, seed=3), ToRGB(3)
    params = {**layer.init(KEY, X, w)["params"], "bias": _normal(3, seed=4)}
    style = w @ params["affine"]["kernel"] / np.sqrt(8) + 1
    kernel = params["kernel"][0, 0] / np.sqrt(5)
    expected = np.einsum("bhwi,bi,io->bhwo", X, style, kernel) + params["bias"]
    np.testing.assert_allclose(layer.apply({"params": params}, X, w), expected, **LOOSE)


def test_half_precision():
    layer = ModulatedConv(7, dtype=jnp.bfloat16)
    w = _normal(3, 8, seed=3)
    variables = layer.init(KEY, X, w)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    out = layer.apply(variables, X, w)
    assert out.dtype == jnp.bfloat16
    exact = ModulatedConv(7).apply(variables, X, w)
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.05)


def test_numbers_are_pytorchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x = torch.tensor(np.moveaxis(X, -1, 1).copy(), requires_grad=True)
    w = torch.tensor(np.transpose(W, (3, 2, 0, 1)).copy(), requires_grad=True)
    style = torch.tensor(STYLE, requires_grad=True)
    taps = torch.tensor([1.0, 3, 3, 1]) / 8
    fir = 4 * torch.outer(taps, taps)[None, None].repeat(3 * 7, 1, 1, 1)

    kernels = w[None] * style[:, None, :, None, None]  # [B, O, I, k, k]
    kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    kernels = kernels.swapaxes(1, 2).reshape(3 * 5, 7, 3, 3)
    y = f.conv_transpose2d(x.reshape(1, 15, 4, 6), kernels, None, 2, groups=3)
    y = f.conv2d(y, fir, None, 1, 1, groups=21).reshape(3, 7, 8, 12)
    torch.sin(y).sum().backward()

    def run(x, w, style):
        return modulated_conv(x, w, style, convolve=upsample_conv)

    out = jax.jit(run)(X, W, STYLE)
    np.testing.assert_allclose(out, np.moveaxis(y.detach().numpy(), 1, -1), **LOOSE)
    slopes = jax.jit(jax.grad(lambda *a: jnp.sin(run(*a)).sum(), (0, 1, 2)))(X, W, STYLE)
    np.testing.assert_allclose(slopes[0], np.moveaxis(x.grad.numpy(), 1, -1), **LOOSE)
    np.testing.assert_allclose(slopes[1], np.transpose(w.grad.numpy(), (2, 3, 1, 0)), **LOOSE)
    np.testing.assert_allclose(slopes[2], style.grad.numpy(), **LOOSE)


def test_derivatives_are_finite_differences():
    with jax.enable_x64(True):
        shapes = ((2, 2, 3, 2), (3, 3, 2, 2), (2, 2))
        arrays = [jnp.asarray(_normal(*s, seed=i), jnp.float64) for i, s in enumerate(shapes)]
        run = jax.jit(functools.partial(modulated_conv, convolve=upsample_conv))
        check_grads(run, arrays, 2, ["rev"], 1e-5, 1e-5)


def test_a_kernel_of_one_is_a_product():
    w = _normal(1, 1, 5, 2)
    np.testing.assert_allclose(same_conv(X, w), conv(X, w), **LOOSE)
    np.testing.assert_allclose(same_conv(X, w), X @ w[0, 0], **LOOSE)
