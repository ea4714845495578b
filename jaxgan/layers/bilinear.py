"""Three bilinear maps closed under differentiation: convolution, transpose, weight gradient.

With the large map `x` [B, *size, I], the small map `y` [B, *outputs, O] and the kernel `w`
[*kernel, I, O], of two or three spatial dimensions, all three are read off one trilinear form

    sum over b, i and taps t of  x[b, stride * i + t - padding] . w[t] . y[b, i]

by leaving out one of its arguments. The derivative of each is therefore the other two, to any
order. Elsewhere than on a CPU each is XLA's own, and this is what makes the weight gradient of a
transposed convolution an ordinary one: XLA's derivative of it is a convolution with a kernel as
large as the map. How a program computes them is chosen by the platform that it is compiled for,
which need not be that of this process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jax import Array, lax

from jaxgan.layers import cpu
from jaxgan.layers.cpu import images, lowering, volume
from jaxgan.layers.cpu.lowering import Window

_BY_XLA: dict[str, Callable] = {
    "conv": lowering.conv_by_xla,
    "conv_transpose": lowering.conv_transpose_by_xla,
    "conv_weights": lowering.weights_by_xla,
}


# The same functions for the same window, so that JAX traces each of them once.
@functools.cache
def _ways(name: str, window: Window) -> tuple[Callable[[Array, Array], Array], ...]:
    """How a map is computed on a CPU, and how elsewhere."""
    here: Callable = getattr(images if len(window) == 2 else volume, name)
    return cpu.wide(functools.partial(here, window)), functools.partial(_BY_XLA[name], window)


def _run(name: str, window: Window, a: Array, b: Array) -> Array:
    here, elsewhere = _ways(name, window)
    return lax.platform_dependent(a, b, cpu=here, default=elsewhere)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def conv(window: Window, x: Array, w: Array) -> Array:
    """[B, *size, I], [*kernel, I, O] -> [B, *outputs, O], all of one dtype."""
    return _run("conv", window, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def conv_transpose(window: Window, y: Array, w: Array) -> Array:
    """[B, *outputs, O], [*kernel, I, O] -> [B, *size, I], all of one dtype."""
    return _run("conv_transpose", window, y, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def conv_weights(window: Window, x: Array, y: Array) -> Array:
    """[B, *size, I], [B, *outputs, O] -> [*kernel, I, O], all of one dtype."""
    return _run("conv_weights", window, x, y)


def _saving(name: str):
    return lambda window, a, b: (_run(name, window, a, b), (a, b))


def _conv_back(window, saved, d):
    x, w = saved
    return conv_transpose(window, d, w), conv_weights(window, x, d)


def _conv_transpose_back(window, saved, d):
    y, w = saved
    return conv(window, d, w), conv_weights(window, d, y)


def _conv_weights_back(window, saved, d):
    x, y = saved
    return conv_transpose(window, y, d), conv(window, x, d)


conv.defvjp(_saving("conv"), _conv_back)
conv_transpose.defvjp(_saving("conv_transpose"), _conv_transpose_back)
conv_weights.defvjp(_saving("conv_weights"), _conv_weights_back)
