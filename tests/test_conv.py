"""Convolutions against XLA's own, in value and in first and second derivatives."""

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgan.layers import bilinear
from jaxgan.layers.bilinear import Window
from jaxgan.layers.conv import conv, conv_transpose


def _normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(5, 2, 2), (4, 2, 1), (3, 1, 1)])
def test_agrees_with_xla(kernel, stride, padding):
    window = Window((9, 10), (kernel,) * 2, (stride,) * 2, (padding,) * 2)
    x, w, y = _normal(2, 9, 10, 3), _normal(kernel, kernel, 3, 4), _normal(2, *window.outputs, 4)
    for ours, theirs, args in (
        (bilinear.bilinear_conv, bilinear.xla_conv, (x, w)),
        (bilinear.bilinear_conv_transpose, bilinear.xla_conv_transpose, (y, w)),
    ):
        expected, back = jax.vjp(lambda *a: theirs(window, *a), *args)  # noqa: B023
        actual, ours_back = jax.vjp(lambda *a: ours(window, *a), *args)  # noqa: B023
        np.testing.assert_allclose(actual, expected, atol=1e-4)
        for a, b in zip(ours_back(expected), back(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_second_derivatives():
    x, w = _normal(1, 5, 5, 2), _normal(3, 3, 2, 2)
    check_grads(lambda x, w: conv(x, w, 2, 1), (x, w), 2, ("rev",), 1e-1, 1e-1)
    check_grads(lambda x, w: conv_transpose(x, w, 2, 1, 1), (x, w), 2, ("rev",), 1e-1, 1e-1)
