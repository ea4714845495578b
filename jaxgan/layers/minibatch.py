"""What an example has in common with the others of its batch.

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

# Of the table of differences [n, n, dims, kernels], this many numbers are made at a time: on a CPU
# what its cache keeps, elsewhere enough to fill the machine.
_BLOCK = 2**18
_BLOCK_OF_ACCELERATOR = 2**24


def similarity(m: Array, *, group: int | None = None, include_self: bool = True) -> Array:
    """Sums, over the examples of a group, how near they are: exp(-|m_i - m_j|_1) for each kernel.

    Never holds more than a part of the table of pairs. Can be differentiated twice in reverse;
    where two examples are equal, the subgradient of the distance is 0.

    Args:
      m: [B, kernels, dims].
      group: examples in a group; None is the whole batch of the device.
      include_self: whether an example counts as near itself, which adds 1, as in the paper's
        equation; its official code leaves it out.

    Returns:
      [B, kernels] in the dtype of m, sums taken in float32 or better; in [1, group], or less 1
      without itself.

    Raises:
      UsageError: if the batch cannot be divided into groups.
    """
    batch, kernels, dims = m.shape
    group = _group_size(batch, group, "minibatch discrimination")
    wide = m.astype(jnp.promote_types(m.dtype, jnp.float32))
    # A group is no more than further kernels to the sums, and so need not be an axis of its own.
    wide = wide.reshape(-1, group, kernels, dims).transpose(1, 3, 0, 2).reshape(group, dims, -1)
    near = _similarity(_rows(wide), wide)
    near = near.reshape(group, -1, kernels).swapaxes(0, 1).reshape(batch, kernels)
    return (near if include_self else near - 1).astype(m.dtype)


def minibatch_stddev(x: Array, *, group: int | None) -> Array:
    """Appends the mean standard deviation within the group as one more channel.

    Over the examples of a group, biased, with 1e-8 under the root; then averaged over positions and
    channels. The official code's groups interleave; these are contiguous.

    Args:
      x: [B, H, W, C].
      group: examples in a group; None is the whole batch of the device.

    Returns:
      [B, H, W, C + 1] in the dtype of x.

    Raises:
      UsageError: if the batch cannot be divided into groups.
    """
    batch, height, width, channels = x.shape
    group = _group_size(batch, group, "minibatch standard deviation")
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    variance = wide.reshape(-1, group, height, width, channels).var(1)
    deviation = jnp.sqrt(variance + 1e-8).mean((1, 2, 3)).astype(x.dtype)
    plane = jnp.broadcast_to(jnp.repeat(deviation, group)[:, None, None, None], (*x.shape[:-1], 1))
    return jnp.concatenate([x, plane], -1)


class MinibatchDiscrimination(nn.Module):
    """Appends to each example's features how near it is to the others of its group.

    The defaults are the official code's sizes in the paper's form. The code also divides by learned
    norms, sets scale and bias by the first batch, and leaves out the example itself.

    Attributes:
      kernels: how many similarities are appended.
      dims: dimensions of the space in which each is measured.
      group, include_self: as in `similarity`.
      kernel_init: initialiser of "kernel" [F, kernels, dims], float32; by default columns of about
        unit length, as in the official code.
    """

    kernels: int = 100
    dims: int = 5
    group: int | None = None
    include_self: bool = True
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
        near = similarity(m.reshape(-1, *shape[1:]), group=group, include_self=self.include_self)
        return jnp.concatenate([x, near], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _similarity(rows: int, m: Array) -> Array:
    """[n, dims, kernels] -> [n, kernels], with `rows` rows of the table of pairs at a time."""

    def block(some: Array) -> Array:
        return _pairs(some[:, None] - m).sum(1)

    return _by_blocks(rows, block, m)


def _forward(rows: int, m: Array) -> tuple[Array, Array]:
    return _similarity(rows, m), m


def _backward(rows: int, m: Array, by_sums: Array) -> tuple[Array]:
    # The table is symmetric, so the gradient is one sum over rows that are computed anew: of
    # -(g_i + g_j) exp(-|m_i - m_j|_1) sign(m_i - m_j).
    def block(some: Array, g: Array) -> Array:
        difference = some[:, None] - m
        pull = (_pairs(difference) * (g[:, None] + by_sums))[:, :, None]
        # A third of the time that a product with the sign takes.
        return jnp.where(difference > 0, -pull, jnp.where(difference < 0, pull, 0)).sum(1)

    # Computed anew also for second derivatives, which would else keep every block.
    return (_by_blocks(rows, jax.checkpoint(block, prevent_cse=False), m, by_sums),)


_similarity.defvjp(_forward, _backward)


def _pairs(difference: Array) -> Array:
    """[rows, n, dims, kernels] -> [rows, n, kernels]."""
    return jnp.exp(-_absolute(difference).sum(2))


@jax.custom_jvp
def _absolute(x: Array) -> Array:
    return jnp.abs(x)


# JAX's own has the slope 1 at 0.
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


def _rows(m: Array) -> int:
    """How many rows of the table make a block."""
    block = _BLOCK if jax.default_backend() == "cpu" else _BLOCK_OF_ACCELERATOR
    # On a CPU a single row would be summed without vector instructions, and a single block, no
    # longer a loop's body, would be fused so that it computes each exponential many times.
    blocks = max(2, -(-len(m) // max(2, block // m.size)))
    return -(-len(m) // blocks)


def _group_size(batch: int, group: int | None, what: str) -> int:
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
