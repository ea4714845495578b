"""Several processes as one run: how they join, and what one of them tells the others.

Each method here is collective: all processes call it, in the same order. What goes between them is
JSON and plain arrays, never a pickle, since whoever reaches the coordinator's port could send one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import struct
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")
Arrays = dict[str, np.ndarray]


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: int = 120,
) -> None:
    """Joins a run over several processes; must come before anything else asks for devices.

    Args:
      coordinator: `host:port` of process 0. With None, JAX asks the cluster it runs on (Slurm,
        GKE, Cloud TPU).
      num_processes: how many processes take part.
      process_id: which one this is, from 0.
      timeout: seconds in which all must have come.
    """
    jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        initialization_timeout=timeout,
        shutdown_timeout_seconds=60,  # of those that end well; who fails does not wait
    )


def cluster() -> str | None:
    """Returns the name of a cluster on which this is one of several processes, None elsewhere.

    By what clusters say in the environment, so that elsewhere nothing is asked over a network:
    Slurm in the steps of `srun`, GKE in the names of workers. A machine with a TPU asks its cloud.
    """
    said = os.environ.get
    if said("SLURM_STEP_NODELIST") and int(said("SLURM_STEP_NUM_TASKS") or 1) > 1:
        return "Slurm"
    workers = said("TPU_PROCESS_ADDRESSES") or said("TPU_WORKER_HOSTNAMES")
    if workers:
        several = len(workers.split(",")) > 1
        return ("GKE" if said("KUBERNETES_SERVICE_HOST") else "Cloud TPU") if several else None
    chips = pathlib.Path("/dev").glob("accel[0-9]*")
    return "Cloud TPU" if any(chips) and importlib.util.find_spec("libtpu") else None


class Process0Error(RuntimeError):
    """What process 0 met, told to the others."""


def from_process_0(work: Callable[[], T]) -> T:
    """The result of `work`, done by process 0 alone and told to the others.

    The result is what JSON can hold, None too.

    Raises:
      Exception: on process 0 whatever `work` raises. On the others Process0Error with its text, so
        that none waits for an answer which will not come.
    """
    if jax.process_count() == 1:
        return work()
    return _told(lambda: (work(), {}))[0]


def arrays_from_process_0(work: Callable[[], tuple[T, Arrays]]) -> tuple[T, Arrays]:
    """As `from_process_0`, for a result of something that JSON can hold and arrays by name."""
    return work() if jax.process_count() == 1 else _told(work)


def _told(work):
    result, failure = (None, {}), None
    if jax.process_index() == 0:
        try:
            result = work()
        except Exception as error:
            failure = error
    text = None if failure is None else f"{type(failure).__name__} on process 0: {failure}"
    answer = _broadcast(packed({"value": result[0], "failure": text}, result[1]))
    if failure is not None:
        raise failure
    said, arrays = unpacked(answer)
    if said["failure"] is not None:
        raise Process0Error(said["failure"])
    return said["value"], arrays


def gather(value: T) -> list[T]:
    """What each process gives, in their order; something that JSON can hold."""
    message = np.frombuffer(packed(value, {}), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(message), np.int32)).tolist()
    rows = multihost_utils.process_allgather(np.resize(message, max(lengths)))
    return [unpacked(row[:n].tobytes())[0] for row, n in zip(rows, lengths, strict=True)]


def packed(value: Any, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Bytes that hold what JSON can hold, and arrays by name.

    Raises:
      TypeError: if the value holds something else.
    """
    about = {name: [x.dtype.name, x.shape] for name, x in arrays.items()}
    head = json.dumps([value, about], default=_refused).encode()
    content = (np.ascontiguousarray(x).reshape(-1).view(np.uint8).data for x in arrays.values())
    return b"".join([struct.pack("<q", len(head)), head, *content])


def unpacked(message: bytes) -> tuple[Any, Arrays]:
    """What `packed` was given."""
    start = 8 + struct.unpack_from("<q", message)[0]
    value, about = json.loads(message[8:start])
    arrays = {}
    for name, (dtype, shape) in about.items():
        array = np.ndarray(shape, np.dtype(dtype), message, start)
        arrays[name], start = array.copy(), start + array.nbytes
    return value, arrays


def _refused(value: object) -> NoReturn:
    raise TypeError(f"{value!r:.80} cannot be told to other processes; only what JSON can hold")


def _broadcast(message: bytes) -> bytes:
    high, low = divmod(len(message), 1 << 30)  # JAX has no 64-bit integers by default
    high, low = multihost_utils.broadcast_one_to_all(np.array([high, low], np.int32))
    content = np.zeros((int(high) << 30) + int(low), np.uint8)
    if jax.process_index() == 0:
        content[:] = np.frombuffer(message, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(content)).tobytes()
