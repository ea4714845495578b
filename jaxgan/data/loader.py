"""Which example comes when, and batches of them, gathered ahead by a background thread.

The order is a pure function of the seed and the number of examples drawn, so that nothing has to be
saved to resume it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np

from jaxgan.data.few_labels import shown
from jaxgan.data.spec import Dataset
from jaxgan.errors import DataError

_WORD = (1 << 64) - 1
Batch = dict[str, np.ndarray]


def batches(
    dataset: Dataset,
    *,
    seed: int,
    batch_size: int,
    start: int = 0,
    flip: bool = False,
    part: slice = slice(None),
    place: Callable[[Batch], Any] = dict,
    prefetch: int = 2,
) -> "Loader":
    """An endless iterator over batches.

    A batch is a dict of arrays that the receiver may keep: "image" `[b, H, W, C]` uint8, "label"
    `[b, K]` float32 (absent without labels), "index" `[b]` int32, the example's number within the
    global batch, and "mirrored" `[b]` bool (absent without `flip`), which the receiver mirrors.
    Where few have labels, "label" is that of "labeled" `[b, H, W, C]` uint8, pictures from those
    few over and over.
    Which pictures come, and which of them are mirrored, depends on the seed and on how many
    examples were drawn before, on nothing else.

    Args:
      dataset: the pictures.
      seed: any integer.
      batch_size: examples in the global batch, that of all processes.
      start: how many examples have been drawn so far.
      flip: mirror each picture with probability 1/2.
      part: the contiguous slice of the global batch that belongs to this process.
      place: what becomes of a batch on the loader's thread, such as sending it to the devices.
      prefetch: how many batches are gathered ahead.

    Raises:
      DataError: if the data have fewer pictures than a batch, or a setting is out of range.
    """
    check_batch(dataset, batch_size)
    if start < 0:
        raise DataError(f"start counts the examples drawn so far and must not be {start}")
    if prefetch < 1:
        raise DataError(f"prefetch must be at least 1, not {prefetch}")
    members = np.arange(batch_size, dtype=np.int32)[part]
    if part.step not in (None, 1) or len(members) == 0:
        raise DataError(
            f"part must be a contiguous slice of the {batch_size} examples of a batch, not {part}"
        )
    rows = shown(dataset, seed)
    gather = partial(_gather, rows, seed, start, batch_size, flip, members)
    return Loader(lambda number: place(gather(number)), prefetch)


def check_batch(dataset: Dataset, batch_size: int) -> None:
    """Raises `DataError` if the data have fewer pictures than a batch."""
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, not {batch_size}")
    if len(dataset) < batch_size:
        raise DataError(
            f"data set {dataset.spec.name!r} has {len(dataset)} pictures, fewer than one batch of "
            f"{batch_size}; add pictures or lower --batch_size"
        )


def indices(seed: int, num_examples: int, start: int, count: int) -> np.ndarray:
    """The numbers `[count]` int64 of the examples that the draws from `start` on give.

    Every epoch is a permutation of its own of `range(num_examples)`; epochs follow one another
    without a gap, so a batch may hold the end of one and the beginning of the next.

    Raises:
      ValueError: if there are no examples, or `start` or `count` is negative.
    """
    if num_examples < 1:
        raise ValueError(f"num_examples must be at least 1, not {num_examples}")
    if start < 0 or count < 0:
        raise ValueError(f"start and count must not be negative, not {start} and {count}")
    pieces = [np.empty(0, np.int64)]
    while count > 0:
        epoch, offset = divmod(start, num_examples)
        piece = _permutation(seed & _WORD, epoch, num_examples)[offset : offset + count]
        pieces.append(piece)
        start += len(piece)
        count -= len(piece)
    return np.concatenate(pieces)


def coin_flips(seed: int, start: int, count: int) -> np.ndarray:
    """A fair coin for each of the `count` draws from `start` on, `[count]` bool.

    The top bit of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014) at the position of the draw, in the stream that the seed begins.
    """
    origin = _mix(np.array([seed & _WORD], np.uint64))
    draw = np.arange(start, start + count, dtype=np.uint64)
    return (_mix(origin + draw) >> np.uint64(63)).astype(bool)


class Loader(Iterator):
    """The batches `gather(0)`, `gather(1)`, ..., gathered ahead on a thread.

    An exception in `gather` is raised where its batch would have come. `close`, leaving a `with`
    block, or dropping the last reference stops the thread.
    """

    def __init__(self, gather: Callable[[int], Batch], prefetch: int):
        self._gather, self._number = gather, 0
        self._pool = ThreadPoolExecutor(1, "jaxgan-loader")
        self._waiting: deque[Future] = deque()
        for _ in range(prefetch):
            self._submit()

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        if not self._waiting:
            raise StopIteration
        batch = self._waiting[0].result()  # one that failed stays, so that none is left out
        self._waiting.popleft()
        self._submit()
        return batch

    def close(self) -> None:
        """Stops the thread and waits for it; further batches are not given out."""
        self._waiting.clear()
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _submit(self) -> None:
        self._waiting.append(self._pool.submit(self._gather, self._number))
        self._number += 1


def _gather(
    rows: tuple[Batch, ...],
    seed: int,
    draw: int,
    batch_size: int,
    flip: bool,
    members: np.ndarray,
    number: int,
) -> Batch:
    draw += number * batch_size + int(members[0])
    # New arrays every time: JAX may keep a host array without copying it.
    batch = {"index": members.copy()}
    for arrays in filter(None, rows):
        count = len(next(iter(arrays.values())))
        chosen = indices(seed, count, draw, len(members))
        batch |= {name: x[chosen] for name, x in arrays.items()}
    if flip:  # by the device, which mirrors many times as fast
        batch["mirrored"] = coin_flips(seed, draw, len(members))
    return batch


# Two epochs are alive when a batch straddles them, and two loaders may walk the same data.
@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    # Sorting the generator's raw words, and not Generator.permutation: NumPy promises that the
    # words stay the same in all its versions (NEP 19), and promises nothing else.
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(num_examples)
    permutation = np.argsort(words, kind="stable")
    permutation.flags.writeable = False
    return permutation


def _mix(position: np.ndarray) -> np.ndarray:
    z = (position + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
