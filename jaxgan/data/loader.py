"""Batches, gathered ahead by a background thread."""

import queue
import threading
import weakref
from collections.abc import Iterator

import numpy as np

from jaxgan.data.errors import DataError
from jaxgan.data.order import coin_flips, indices
from jaxgan.data.spec import Dataset

_PATIENCE = 1.0  # seconds between two looks at whether the other side still lives


def batches(
    dataset: Dataset,
    *,
    seed: int,
    batch_size: int,
    start: int = 0,
    flip: bool = False,
    part: slice = slice(None),
    prefetch: int = 2,
) -> "Loader":
    """An endless iterator over batches, from draw number `start` (the examples drawn so far).

    Each batch is a dict of arrays that the receiver may keep: "image" `[b, H, W, C]` uint8,
    "label" `[b, K]` float32 (absent without labels) and "index" `[b]` int32, the example's number
    within the global batch of `batch_size`. `part` selects the contiguous slice of the global
    batch that belongs to this process. With `flip` a picture is mirrored with probability 1/2.
    Which pictures come, and which of them are mirrored, depends on (seed, draw number) alone.

    Raises `DataError` if the data have fewer pictures than a batch, or the settings make no sense.
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
    return Loader(_gather_forever(dataset, seed, batch_size, start, flip, members), prefetch)


def check_batch(dataset: Dataset, batch_size: int) -> None:
    """Raises `DataError` if the data have fewer pictures than a batch."""
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, not {batch_size}")
    if len(dataset) < batch_size:
        raise DataError(
            f"data set {dataset.spec.name!r} has {len(dataset)} pictures, fewer than one batch of "
            f"{batch_size}; add pictures or lower batch_size"
        )


class Loader(Iterator):
    """Runs `source` ahead of its consumer on a thread, by at most `prefetch` items.

    An exception in `source` is raised in the consumer. `close` (or leaving a `with` block, or
    dropping the last reference) stops the thread.
    """

    def __init__(self, source: Iterator, prefetch: int):
        self._queue = queue.Queue(maxsize=prefetch)
        self._stop = threading.Event()
        self._failure = None
        # The thread must not hold a reference to self, or a forgotten loader would live forever.
        self._thread = threading.Thread(
            target=_run_ahead,
            args=(source, self._queue, self._stop),
            name="jaxgan-loader",
            daemon=True,
        )
        self._thread.start()
        self._finalizer = weakref.finalize(self, self._stop.set)

    def __iter__(self) -> "Loader":
        return self

    def __next__(self):
        if self._failure is not None:
            raise self._failure
        if self._stop.is_set():
            raise StopIteration
        item, self._failure = self._take()
        if self._failure is not None:
            raise self._failure
        return item

    def close(self) -> None:
        """Stops the thread and waits for it; further batches are not given out."""
        self._stop.set()
        while not self._queue.empty():  # a thread that waits for room must see the stop
            self._queue.get_nowait()
        self._thread.join()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _take(self):
        while True:
            try:
                return self._queue.get(timeout=_PATIENCE)
            except queue.Empty:
                if not self._thread.is_alive() and self._queue.empty():
                    return None, RuntimeError("the loader's thread died without a word")


def _run_ahead(source: Iterator, results: queue.Queue, stop: threading.Event) -> None:
    try:
        for item in source:
            if not _put(results, stop, (item, None)):
                return
        _put(results, stop, (None, StopIteration()))
    except BaseException as failure:  # whatever it is, the consumer must learn of it
        _put(results, stop, (None, failure))


def _put(results: queue.Queue, stop: threading.Event, item) -> bool:
    while not stop.is_set():
        try:
            results.put(item, timeout=_PATIENCE)
            return True
        except queue.Full:
            continue
    return False


def _gather_forever(
    dataset: Dataset, seed: int, batch_size: int, start: int, flip: bool, members: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    first, count = int(members[0]), len(members)
    while True:
        draw = start + first
        chosen = indices(seed, len(dataset), draw, count)
        # New arrays every time: JAX may keep a host array without copying it.
        image = dataset.images[chosen]
        if flip:
            _mirror(image, coin_flips(seed, draw, count))
        batch = {"image": image, "index": members.copy()}
        if dataset.labels is not None:
            batch["label"] = dataset.labels[chosen]
        yield batch
        start += batch_size


def _mirror(image: np.ndarray, chosen: np.ndarray) -> None:
    # A channel at a time: NumPy is slow where the innermost axis has three items.
    plain = image[chosen]
    mirrored = np.empty_like(plain)
    for channel in range(image.shape[-1]):
        mirrored[..., channel] = plain[:, :, ::-1, channel]
    image[chosen] = mirrored
