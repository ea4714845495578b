"""Layers in which an example sees the others of its batch.

Minibatch discrimination: Salimans et al., "Improved Techniques for Training GANs", 2016,
arXiv:1606.03498, section 3.2. Minibatch standard deviation: Karras et al., "Progressive Growing of
GANs", 2018, arXiv:1710.10196, section 3.

A group is a contiguous range of the batch that one device holds, so with groups of a fixed size any
number of devices computes the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from jaxgan.errors import UsageError

_Rows = tuple[int, int]


def similarity(m: Array, *, group: int | None = None, block: int | None = None) -> Array:
    """Sums exp(-|m_i - m_j|_1), how near two examples are, over the examples j of i's group.

    Never holds more than a part of the table of differences [group, group, dims, kernels]. Can be
    differentiated twice in reverse; where two examples are equal, the distance has the slope 0.

    Args:
      m: [B, kernels, dims].
      group: examples in a group; None is the whole batch of the device.
      block: about how many numbers of the table are made at a time; None is on a CPU what its
        cache keeps, elsewhere enough to fill the machine.

    Returns:
      [B, kernels] in the dtype of m, in [1, group], with sums taken in float32 or better. As in the
      paper's equation an example counts as near itself; the official code leaves that out.

    Raises:
      UsageError: if the batch cannot be divided into groups.
    """
    batch, kernels, dims = m.shape
    group = group_size(batch, group, "minibatch discrimination")
    wide = m.astype(jnp.promote_types(m.dtype, jnp.float32))
    # To the sums, other groups are like other kernels: [group, dims, groups * kernels].
    wide = wide.reshape(-1, group, kernels, dims).transpose(1, 3, 0, 2).reshape(group, dims, -1)
    near = _similarity(_rows(wide, block), wide)
    near = near.reshape(group, -1, kernels).swapaxes(0, 1).reshape(batch, kernels)
    return near.astype(m.dtype)


def minibatch_stddev(x: Array, *, group: int | None) -> Array:
    """Appends the mean standard deviation within the group as one more channel.

    The standard deviation over the examples of a group is biased, with 1e-8 under the root, and
    averaged over positions and channels. The official code's groups interleave; these are
    contiguous.

    Args:
      x: [B, H, W, C].
      group: examples in a group; None is the whole batch of the device.

    Returns:
      [B, H, W, C + 1] in the dtype of x.

    Raises:
      UsageError: if the batch cannot be divided into groups.
    """
    batch, height, width, channels = x.shape
    group = group_size(batch, group, "minibatch standard deviation")
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    variance = wide.reshape(-1, group, height, width, channels).var(1)
    deviation = jnp.sqrt(variance + 1e-8).mean((1, 2, 3)).astype(x.dtype)
    plane = jnp.broadcast_to(jnp.repeat(deviation, group)[:, None, None, None], (*x.shape[:-1], 1))
    return jnp.concatenate([x, plane], -1)


class MinibatchDiscrimination(nn.Module):
    """Appends to each example's features its `similarity` to its group.

    The defaults are the official code's sizes in the paper's form. The code also divides by learned
    norms, sets scale and bias by the first batch, and leaves out the example itself.

    Attributes:
      kernels: how many similarities are appended.
      dims: dimensions of the space in which each is measured.
      group: as in `similarity`.
      kernel_init: initializer of "kernel" [F, kernels, dims], float32; by default columns of about
        unit length, as in the official code.
    """

    kernels: int = 100
    dims: int = 5
    group: int | None = None
    kernel_init: Callable = nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", in_axis=0, out_axis=(1, 2)
    )

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, F] -> [B, F + kernels]. Raises UsageError if B cannot be divided into groups."""
        shape = (x.shape[-1], self.kernels, self.dims)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        m = x @ kernel.reshape(x.shape[-1], -1).astype(x.dtype)
        # Parameters may be made with any batch.
        group = None if self.is_initializing() else self.group
        near = similarity(m.reshape(-1, *shape[1:]), group=group)
        return jnp.concatenate([x, near], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _similarity(rows: _Rows, m: Array) -> Array:
    """[n, dims, kernels] -> [n, kernels], with so many rows of the table of pairs at a time."""
    return _by_platform(_sums, rows, m)


def _by_platform(function: Callable, rows: _Rows, *arrays: Array) -> Array:
    here, elsewhere = (functools.partial(function, count) for count in rows)
    return lax.platform_dependent(*arrays, cpu=here, default=elsewhere)


def _sums(rows: int, m: Array) -> Array:
    def block(part: Array) -> Array:
        return _pairs(part[:, None] - m).sum(1)

    return _by_blocks(rows, block, m)


def _backward(rows: _Rows, m: Array, by_sums: Array) -> tuple[Array]:
    return (_by_platform(_pulls, rows, m, by_sums),)


def _pulls(rows: int, m: Array, by_sums: Array) -> Array:
    # The table is symmetric, so the gradient is one sum over rows that are computed again: of
    # -(g_i + g_j) exp(-|m_i - m_j|_1) sign(m_i - m_j).
    def block(part: Array, g: Array) -> Array:
        difference = part[:, None] - m
        pull = (_pairs(difference) * (g[:, None] + by_sums))[:, :, None]
        # A third of the time that a product with the sign takes.
        return jnp.where(difference > 0, -pull, jnp.where(difference < 0, pull, 0)).sum(1)

    # Computed again also for second derivatives, which would otherwise keep every block.
    return _by_blocks(rows, jax.checkpoint(block, prevent_cse=False), m, by_sums)


_similarity.defvjp(lambda rows, m: (_similarity(rows, m), m), _backward)


def _pairs(difference: Array) -> Array:
    """[rows, n, dims, kernels] -> [rows, n, kernels]."""
    return jnp.exp(-_absolute(difference).sum(2))


@jax.custom_jvp
def _absolute(x: Array) -> Array:
    return jnp.abs(x)


# That of JAX has the slope 1 at 0.
_absolute.defjvps(lambda tangent, _, x: tangent * jnp.sign(x))


def _by_blocks(rows: int, function: Callable, *arrays: Array) -> Array:
    """Maps function over blocks of rows of arrays [n, ...]; the last is filled up with zeros."""
    count = len(arrays[0])
    blocks = -(-count // rows)
    rest = blocks * rows - count

    def cut(x):
        return jnp.pad(x, [(0, rest), *[(0, 0)] * (x.ndim - 1)]).reshape(-1, rows, *x.shape[1:])

    out = lax.map(lambda parts: function(*parts), tuple(map(cut, arrays)))
    return out.reshape(-1, *out.shape[2:])[:count]


def _rows(m: Array, block: int | None) -> _Rows:
    """How many rows of the table make a block on a CPU, and how many elsewhere."""
    return _rows_of(m, block or 2**18), _rows_of(m, block or 2**24)


def _rows_of(m, block):
    # On a CPU a single row would be summed without vector instructions, and a single block, no
    # longer a loop's body, would be fused so that it computes each exponential many times.
    blocks = max(2, -(-len(m) // max(2, block // m.size)))
    return -(-len(m) // blocks)


def group_size(batch: int, group: int | None, what: str) -> int:
    """Returns the size of the groups of a device's batch, which is all of it for None.

    Raises:
      UsageError: if the batch cannot be divided into them; the message begins with `what` has them.
    """
    if group is None:
        return batch
    if group < 1:
        raise UsageError(f"{what}: the group size is {group}; it must be at least 1")
    if batch % group:
        near = sorted({max(batch // group, 1) * group, (batch // group + 1) * group})
        raise UsageError(
            f"{what}: a batch of {batch} on a device cannot be divided into groups of {group}; "
            f"use a batch of {' or '.join(map(str, near))} a device, or another group size"
        )
    return group
