"""How a convolution, its transpose and its weight gradient are computed: several ways for each.

Throughout, `x` is the large map [B, *size, I], `y` the small map [B, *outputs, O] and `w` the
kernel [*kernel, I, O]. The functions named `xla` take two or three spatial dimensions and leave all
to XLA: right on accelerators, but on a CPU strided and dilated convolutions can take a hundred
times as long as plain ones. The others take two spatial dimensions and use only what XLA runs fast
there. `images.py` and `volume.py` choose among them.
"""

from __future__ import annotations

import functools
import math
import operator
from itertools import pairwise, product
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

CACHE = 2**19
"""Half a megabyte: what the cache of a core keeps of one operand while the other passes by."""


class Axis(NamedTuple):
    """A convolution along one spatial dimension; `size` is the extent of the large map."""

    size: int
    kernel: int
    stride: int
    padding: int

    @property
    def outputs(self) -> int:
        """Extent of the small map."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def span(self) -> int:
        """How many positions there are from the first to the last that one tap reads."""
        return self.stride * (self.outputs - 1) + 1

    @property
    def rows(self) -> int:
        """How many positions of the large map share a remainder by the stride, rounded up."""
        return -(-self.size // self.stride)

    def phases(self) -> list[tuple[int, int]]:
        """First tap and offset for each remainder by the stride of a large map's position.

        Position `stride * q + remainder` meets tap `stride * u + first` at the small map's
        position `q + offset - u`, u = 0, 1, ...
        """
        shifted = range(self.padding, self.padding + self.stride)
        return [(r % self.stride, r // self.stride) for r in shifted]


Window = tuple[Axis, ...]


def conv_by_xla(window: Window, x: Array, w: Array, groups: int = 1) -> Array:
    """[B, *outputs, O]; with groups of channels the kernel is [*kernel, I / groups, O]."""
    around = [(a.padding, a.padding) for a in window]
    return _conv(x, w, [a.stride for a in window], around, groups=groups)


def conv_transpose_by_xla(window: Window, y: Array, w: Array) -> Array:
    """[B, *size, I]."""
    w = jnp.flip(w, range(len(window))).swapaxes(-1, -2)
    around = [(a.kernel - 1 - a.padding, a.size + a.padding - a.span) for a in window]
    return _conv(y, w, [1] * len(window), around, [a.stride for a in window])


def weights_by_xla(window: Window, x: Array, y: Array) -> Array:
    """[*kernel, I, O]."""
    shape = (*(a.kernel for a in window), x.shape[-1], y.shape[-1])
    conv = functools.partial(conv_by_xla, window, x)
    return jax.linear_transpose(conv, jax.ShapeDtypeStruct(shape, x.dtype))(y)[0]


def conv_by_parts(window: Window, x: Array, w: Array, cache: int = CACHE) -> Array:
    """XLA's, summed over parts of the input channels whose kernels fit into a cache of bytes."""
    parts = math.gcd(x.shape[-1], min(4, -(-_bytes(w) // cache)))
    pairs = zip(jnp.split(x, parts, -1), jnp.split(w, parts, -2), strict=True)
    around = [(a.padding, a.padding or _unseen(a)) for a in window]
    parts = (_conv(x, w, [a.stride for a in window], around) for x, w in pairs)
    return functools.reduce(operator.add, parts)


def _unseen(axis: Axis) -> int:
    """1 if one more row would change no output: without any padding XLA takes twice as long."""
    return int(axis._replace(size=axis.size + 1).outputs == axis.outputs)


def weights_by_groups(window: Window, x: Array, y: Array, cache: int = CACHE) -> Array:
    """XLA's, summed over groups of examples whose small maps fit into a cache of bytes."""
    batch = x.shape[0]
    groups = max(1, min(batch // 8, _bytes(y) // cache))
    bounds = pairwise(i * batch // groups for i in range(groups + 1))
    parts = (weights_by_xla(window, x[a:b], y[a:b]) for a, b in bounds)
    return functools.reduce(operator.add, parts)


def conv_by_product(window: Window, x: Array, w: Array) -> Array:
    """The patches as rows of a matrix, times the kernel."""
    y = _patches(window, x) @ w.reshape(-1, w.shape[-1])
    return y.reshape(x.shape[0], *(a.outputs for a in window), w.shape[-1])


def weights_by_product(window: Window, x: Array, y: Array) -> Array:
    """The patches as columns of a matrix, times the small map."""
    # Not by transposing the patches, which are the larger of the two.
    w = (y.reshape(-1, y.shape[-1]).T @ _patches(window, x)).T
    return w.reshape(*(a.kernel for a in window), x.shape[-1], y.shape[-1])


def conv_transpose_by_product(window: Window, y: Array, w: Array) -> Array:
    """One product gives what each position adds through each tap; shifted sums gather it."""
    shape = (y.shape[0], *(a.outputs for a in window), *(a.kernel for a in window), w.shape[-2])
    taps = (y.reshape(-1, y.shape[-1]) @ w.reshape(-1, w.shape[-1]).T).reshape(shape)
    # The fewer sums: XLA computes them again for each operation that uses the result.
    if math.prod(a.outputs for a in window) <= math.prod(-(-a.kernel // a.stride) for a in window):
        return _sum_positions(window, taps)
    return _sum_taps(window, taps)


def _sum_positions(window: Window, taps: Array) -> Array:
    """[B, *outputs, *kernel, I] -> [B, *size, I]: one sum a position of the small map."""

    def place(*position):
        starts = [a.stride * i - a.padding for i, a in zip(position, window, strict=True)]
        around = [(s, a.size - a.kernel - s) for s, a in zip(starts, window, strict=True)]
        return pad(taps[(slice(None), *position)], around)

    return sum(place(*p) for p in product(*(range(a.outputs) for a in window)))


def _sum_taps(window: Window, taps: Array) -> Array:
    """[B, *outputs, *kernel, I] -> [B, *size, I]: one sum a tap that reaches a phase."""

    def phase(*starts):
        total = jnp.zeros((taps.shape[0], *(a.rows for a in window), taps.shape[-1]), taps.dtype)
        reached = [
            range(first, a.kernel, a.stride) for a, (first, _) in zip(window, starts, strict=True)
        ]
        for i, j in product(*reached):
            shifts = [
                tap // a.stride - offset
                for tap, a, (_, offset) in zip((i, j), window, starts, strict=True)
            ]
            around = [(s, a.rows - a.outputs - s) for s, a in zip(shifts, window, strict=True)]
            total += pad(taps[:, :, :, i, j], around)
        return total

    return _interleave(window, [phase(*p) for p in product(*(a.phases() for a in window))])


def conv_transpose_by_phases(window: Window, y: Array, w: Array) -> Array:
    """One plain convolution for each phase of the large map, with the taps that reach it."""
    down, across = window

    def phase(vertical, horizontal):
        (i, above), (j, before) = vertical, horizontal
        reached = w[i :: down.stride, j :: across.stride][::-1, ::-1].swapaxes(-1, -2)
        if 0 in reached.shape:
            return jnp.zeros((y.shape[0], down.rows, across.rows, w.shape[-2]), y.dtype)
        around = [
            (taps - 1 - offset, a.rows + offset - a.outputs)
            for taps, offset, a in zip(reached.shape, (above, before), window, strict=False)
        ]
        return _conv(y, reached, (1, 1), around)

    return _interleave(window, [phase(*p) for p in product(*(a.phases() for a in window))])


def conv_turned(window: Window, x: Array, w: Array) -> Array:
    """With stride 1: by product, as the transpose of the convolution with a mirrored kernel."""
    return conv_transpose_by_product(_turned(window), x, _turned_kernel(w))


def weights_turned(window: Window, x: Array, y: Array) -> Array:
    """With stride 1: by product, with the patches of the small map in place of the large one's."""
    return _turned_kernel(weights_by_product(_turned(window), y, x))


def _turned(window: Window) -> Window:
    """The convolution with stride 1 that the transpose of this one is: of y, with x as result."""
    return tuple(Axis(a.outputs, a.kernel, 1, a.kernel - 1 - a.padding) for a in window)


def _turned_kernel(w: Array) -> Array:
    return jnp.flip(w, (0, 1)).swapaxes(2, 3)


def covers(window: Window) -> bool:
    """Whether the kernel covers the large map and the small one has one position: a dense layer."""
    return all(a.kernel == a.size and a.padding == 0 for a in window)


def _patches(window: Window, x: Array) -> Array:
    """[B, *size, I] -> [B * prod(outputs), prod(kernel) * I]."""
    columns = math.prod(a.kernel for a in window) * x.shape[-1]
    if covers(window):
        return x.reshape(-1, columns)
    down, across = window
    x = pad(x, [(a.padding, a.span + a.kernel - 1 - a.size - a.padding) for a in window])
    taps = [
        x[:, i : i + down.span : down.stride, j : j + across.span : across.stride]
        for i in range(down.kernel)
        for j in range(across.kernel)
    ]
    return jnp.stack(taps, -2).reshape(-1, columns)


def _interleave(window: Window, phases: list[Array]) -> Array:
    """One map [B, *rows, I] for each phase -> [B, *size, I]: depth to space."""
    down, across = window
    batch, height, width, channels = phases[0].shape
    x = jnp.stack(phases, -2).reshape(batch, height, width, down.stride, across.stride, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, height * down.stride, width * across.stride, channels)
    return x[:, : down.size, : across.size]


def pad(x: Array, around: list[tuple[int, int]]) -> Array:
    """Pads the first spatial dimensions of x [B, ...] with zeros; negative numbers crop."""
    sides = [(0, 0), *around, *[(0, 0)] * (x.ndim - 1 - len(around))]
    return lax.pad(x, jnp.zeros((), x.dtype), [(*side, 0) for side in sides])


def _conv(x: Array, w: Array, stride, around, dilation=None, groups=1) -> Array:
    spatial = "DHW"[2 - x.ndim :]
    layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return lax.conv_general_dilated(
        x, w, stride, around, dilation, dimension_numbers=layout, feature_group_count=groups
    )


def _bytes(x: Array) -> int:
    return x.size * x.dtype.itemsize
