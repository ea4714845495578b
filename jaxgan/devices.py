"""The only place that knows how many devices and processes there are.

Data parallelism is by pmap: every device holds the whole state and its part of the batch. Steps see
the axis `core.AXIS`.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from jaxgan.core import AXIS, PyTree
from jaxgan.errors import UsageError

DETERMINISTIC = "--xla_gpu_exclude_nondeterministic_ops=true --xla_gpu_autotune_level=0"
"""Flags of XLA: sums in a fixed order, and no choice of kernels by measuring them."""

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def is_main() -> bool:
    """Whether this process writes files and talks to people."""
    return jax.process_index() == 0


def check_divisible(batch_size: int, micro_batches: int = 1, count: int | None = None) -> None:
    """Raises UsageError unless every device gets the same number of examples, for every one of the
    pieces in which it looks at them; `count` is of devices that are not this run's."""
    if micro_batches < 1:
        raise UsageError(f"gradients are averaged over at least 1 micro-batch, not {micro_batches}")
    count = count or jax.device_count()
    devices = count * micro_batches
    if batch_size <= 0 or batch_size % devices:
        below, above = batch_size // devices * devices, -(-batch_size // devices) * devices
        near = f"{below} or {above}" if below > 0 else f"{max(above, devices)}"
        among = f"{count} devices"
        among += f" and {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise UsageError(
            f"a batch of {batch_size} cannot be divided among {among}; try --batch_size={near}"
        )


def process_part(batch_size: int) -> slice:
    """Returns the range of the global batch that this process feeds to its devices."""
    size = batch_size // jax.process_count()
    return slice(jax.process_index() * size, (jax.process_index() + 1) * size)


def pmap(step: Callable, on: Sequence[jax.Device] | None = None) -> Callable:
    """Compiles (state, batch, rng) -> (state, metrics) over all devices.

    State, key and results are replicated, the batch comes from `shard`, the old state's buffers
    are given away. `on` names other devices, which need not be there if nothing is called.
    """
    return _pmap(step, (None, 0, None), on)


def pmap_block(run: Callable, resident: bool, on: Sequence[jax.Device] | None = None) -> Callable:
    """Compiles (state, feed, index, data, count, rng) -> (state, metrics) over all devices.

    As `pmap` does it; feed and index come split, and so do the data unless they are resident.
    """
    axes = (None, 0, 0, None if resident else 0, None, None)
    return _pmap(run, axes, on)


def _pmap(function, axes, on):
    about = {"axis_name": AXIS, "in_axes": axes, "out_axes": None, "devices": on}
    return jax.pmap(function, **about, donate_argnums=0)


def replicated_jit(function: Callable) -> Callable:
    """Compiles state -> state on the replicated state; the old buffers are given away."""
    return jax.jit(function, donate_argnums=0)


def _everywhere(on=None):
    mesh = jax.sharding.Mesh(np.array(on or jax.devices()), (AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def replicate(tree: PyTree) -> PyTree:
    """Copies a tree of arrays to every device, in the form that `pmap` returns.

    Without it the second call of a step would compile again.
    """
    return jax.device_put(tree, _everywhere())


def shapes(tree: PyTree, on: Sequence[jax.Device] | None = None) -> PyTree:
    """Returns the shapes of a tree, as of arrays that `replicate` copies; `on` names devices that
    are not this run's."""
    place = _everywhere(on)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)


def shard(batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Sends this process's part of a batch [b, ...] to its devices, as [local devices, b / devices,
    ...]."""
    count = jax.local_device_count()
    return place({name: x.reshape(count, -1, *x.shape[1:]) for name, x in batch.items()})


def place(tree: PyTree) -> PyTree:
    """Sends arrays [local devices, ...] to the devices of this process, a row to each.

    A CPU reads the host's memory as it is.
    """
    if jax.local_devices()[0].platform == "cpu":
        return tree
    return jax.device_put(tree, _here((AXIS,)))


def _here(spec):
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))


def copies(tree: PyTree) -> PyTree:
    """Copies a tree of arrays to every device of this process, for functions that are only jitted.

    Such a function computes on all of them what it computes with a batch from `spread`.
    """
    return jax.device_put(tree, _here(()))


def spread(batch: PyTree) -> PyTree:
    """Places arrays [B, ...] on this process's devices, a part on each where B can be divided."""
    (size,) = {len(x) for x in jax.tree.leaves(batch)}
    return jax.device_put(batch, spreading(size))


def spreading(size: int | None) -> jax.sharding.Sharding:
    """Returns how `spread` places arrays [size, ...]; None for what `copies` does."""
    even = size is not None and size % jax.local_device_count() == 0
    return _here((AXIS,) if even else ())


def be_deterministic() -> None:
    """Lets GPUs compute the same bits every time; must come before anything asks for devices."""
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{given} {DETERMINISTIC}".strip()


def check_deterministic() -> None:
    """Raises UsageError if there are GPUs here that may compute other bits every time."""
    given = os.environ.get("XLA_FLAGS", "").split()
    if jax.devices()[0].platform == "gpu" and not {*DETERMINISTIC.split()} <= {*given}:
        raise UsageError(
            "--deterministic must be known before JAX starts; begin with "
            "os.environ['XLA_FLAGS'] = jaxgan.devices.DETERMINISTIC"
        )


def memory() -> int:
    """Returns how many bytes a device of this process may take; on a CPU, devices share."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    container = pathlib.Path("/sys/fs/cgroup/memory.max")
    if container.exists() and (text := container.read_text().strip()).isdecimal():
        limits.append(int(text))
    return min(limits) // jax.local_device_count()


def bytes_of(compiled: jax.stages.Compiled) -> int:
    """Returns how many bytes of a device's memory a program takes while it runs."""
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return held + memory.output_size_in_bytes - memory.alias_size_in_bytes


def keep_freed_memory() -> bool:
    """Lets the process keep the memory that it frees; call it before the first computation.

    On a CPU, XLA allocates the temporary memory of a step at its start and frees it at its end.
    glibc returns blocks of that size to the kernel, which clears them again, page by page, at the
    next step: up to a quarter of a convolutional GAN's time. The peak of memory stays what it was.

    Returns:
      Whether the C library is one that can be told so, glibc; other ones are left as they are.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    # Threads share one arena: those of their own fetch every large block from the kernel.
    options = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))
    return all([mallopt(option, value) for option, value in options])
