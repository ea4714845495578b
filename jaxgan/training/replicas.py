"""Whether all devices and processes still hold the same state, looked at before every save."""

from __future__ import annotations

import jax
import numpy as np

from jaxgan import processes
from jaxgan.core import PyTree, named_leaves
from jaxgan.training.checkpoint import CheckpointError
from jaxgan.training.integrity import checksum


def check_replicas(step: int, state: PyTree) -> None:
    """Raises CheckpointError, on all processes, if copies of the state are not the same bits.

    What makes them so is arithmetic that differs between machines, or memory that is damaged. It
    is a collective call.

    Args:
      step: finished steps, for the message.
      state: arrays that are replicated over all devices of all processes.
    """
    leaves = {n: x for n, x in named_leaves(state).items() if isinstance(x, jax.Array)}
    found = [_on_devices(leaves)]
    if jax.process_count() > 1:
        sums = {name: checksum(np.asarray(x.addressable_data(0))) for name, x in leaves.items()}
        told = processes.gather([found[0], sums])
        found = [said and f"{said} of process {number}" for number, (said, _) in enumerate(told)]
        found.append(_on_processes([sums for _, sums in told]))
    for difference in filter(None, found):
        raise CheckpointError(
            f"step {step} is not saved: copies of the state are no longer the same: {difference}; "
            "earlier steps are untouched: the same command goes on from them. If it comes again, "
            "see that all machines have the same hardware, drivers and libraries"
        )


def _on_devices(leaves):
    """In what the devices of this process differ; None if in nothing."""
    if jax.local_device_count() == 1:
        return None  # nothing need be fetched for it
    for name, leaf in leaves.items():
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        for number, other in enumerate(others, 1):
            if not np.array_equal(_bytes(first), _bytes(other)):
                return f"{name} of device {number} is not that of device 0"
    return None


def _on_processes(sums):
    for number, other in enumerate(sums):
        for name, value in other.items():
            if value != sums[0].get(name):
                return f"{name} of process {number} is not that of process 0"
    return None


def _bytes(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
