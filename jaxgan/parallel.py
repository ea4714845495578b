"""The only place that knows how many devices there are: data parallelism by pmap.

Every device holds the whole state and its part of the batch. Steps see the axis `core.AXIS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import numpy as np

from jaxgan.core import AXIS, PyTree
from jaxgan.errors import UsageError


def initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins a run over several processes; must come before anything else asks for devices.

    Args:
      coordinator: `host:port` of process 0. With None, JAX asks the cluster it runs on (Slurm,
        GKE, Cloud TPU).
      num_processes: how many processes take part.
      process_id: which one this is, from 0.
    """
    jax.distributed.initialize(coordinator, num_processes, process_id, shutdown_timeout_seconds=10)


def is_main() -> bool:
    """Whether this process writes files and talks to people."""
    return jax.process_index() == 0


def check_divisible(batch_size: int, micro_batches: int = 1) -> None:
    """Raises UsageError unless every device gets the same number of examples, for every one of the
    pieces in which it looks at them."""
    if micro_batches < 1:
        raise UsageError(f"gradients are averaged over at least 1 micro-batch, not {micro_batches}")
    devices = jax.device_count() * micro_batches
    if batch_size <= 0 or batch_size % devices:
        below, above = batch_size // devices * devices, -(-batch_size // devices) * devices
        near = f"{below} or {above}" if below > 0 else f"{max(above, devices)}"
        among = f"{jax.device_count()} devices"
        among += f" and {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise UsageError(
            f"a batch of {batch_size} cannot be divided among {among}; try --batch_size={near}"
        )


def process_part(batch_size: int) -> slice:
    """Returns the range of the global batch that this process feeds to its devices."""
    size = batch_size // jax.process_count()
    return slice(jax.process_index() * size, (jax.process_index() + 1) * size)


def pmap(step: Callable) -> Callable:
    """Compiles (state, batch, rng) -> (state, metrics) over all devices.

    State, key and results are replicated, the batch comes from `shard`, the old state's buffers
    are given away.
    """
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0)


def replicated_jit(function: Callable) -> Callable:
    """Compiles state -> state on the replicated state; the old buffers are given away."""
    return jax.jit(function, donate_argnums=0)


def _everywhere():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), (AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def replicate(tree: PyTree) -> PyTree:
    """Copies a tree of arrays to every device, in the form that `pmap` returns.

    Without it the second call of a step would compile again.
    """
    return jax.device_put(tree, _everywhere())


def shard(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits this process's part of a batch [b, ...] into [local devices, b / devices, ...]."""
    devices = jax.local_device_count()
    return {name: x.reshape(devices, -1, *x.shape[1:]) for name, x in batch.items()}


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
    even = all(len(x) % jax.local_device_count() == 0 for x in jax.tree.leaves(batch))
    return jax.device_put(batch, _here((AXIS,) if even else ()))
