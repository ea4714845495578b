"""Work that one process does for all of them."""

import pickle
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")


class Process0Error(RuntimeError):
    """What process 0 met, told to the others."""


def from_process_0(work: Callable[[], T]) -> T:
    """The result of `work`, done by process 0 alone and sent to the others.

    A collective call: all processes make it, in the same order. The result must pickle.

    Raises:
      Exception: on process 0 whatever `work` raises. On the others Process0Error with its text, so
        that none waits for an answer which will not come.
    """
    if jax.process_count() == 1:
        return work()
    result, failure = None, None
    if jax.process_index() == 0:
        try:
            result = work()
        except Exception as error:
            failure = error
    text = None if failure is None else f"{type(failure).__name__} on process 0: {failure}"
    answer = _broadcast(pickle.dumps((result, text), protocol=5))
    if failure is not None:
        raise failure
    result, text = pickle.loads(answer)
    if text is not None:
        raise Process0Error(text)
    return result


def _broadcast(message: bytes) -> bytes:
    high, low = divmod(len(message), 1 << 30)  # JAX has no 64-bit integers by default
    high, low = multihost_utils.broadcast_one_to_all(np.array([high, low], np.int32))
    content = np.zeros((int(high) << 30) + int(low), np.uint8)
    if jax.process_index() == 0:
        content[:] = np.frombuffer(message, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(content)).tobytes()
