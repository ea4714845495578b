"""Batches: what is in them, and that a loader neither hangs nor lingers."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest

from jaxgan.data import DataError, Dataset, DataSpec, batches, indices


@pytest.fixture
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)
    labels = np.eye(10, dtype=np.float32)
    spec = DataSpec("made_up", 4, 3, "class", tuple("0123456789"))
    return Dataset(spec, images, labels, "made up")


def take(dataset, count, **settings):
    with batches(dataset, seed=3, batch_size=4, **settings) as loader:
        return list(itertools.islice(loader, count))


def test_a_batch_holds_what_the_order_says(dataset):
    for number, batch in enumerate(take(dataset, 5, start=6)):
        chosen = indices(3, 10, 6 + 4 * number, 4)
        np.testing.assert_array_equal(batch["image"], dataset.images[chosen])
        np.testing.assert_array_equal(batch["label"].argmax(1), chosen)
        np.testing.assert_array_equal(batch["index"], np.arange(4))
        kinds = {name: array.dtype for name, array in batch.items()}
        assert kinds == {"image": np.uint8, "label": np.float32, "index": np.int32}


def test_unlabelled_data_have_no_label(dataset):
    bare = Dataset(dataset.spec, dataset.images, None, "")
    assert take(bare, 1)[0].keys() == {"image", "index"}


def test_resumed_in_an_epoch_it_goes_on_the_same(dataset):
    whole = take(dataset, 6, flip=True)
    resumed = take(dataset, 4, flip=True, start=8)
    for one, other in zip(whole[2:], resumed, strict=True):
        np.testing.assert_equal(one, other)


def test_the_parts_of_the_processes_make_up_the_batch(dataset):
    whole = take(dataset, 4, flip=True)
    parts = [take(dataset, 4, flip=True, part=slice(*ends)) for ends in [(0, 1), (1, 4)]]
    for batch, *pieces in zip(whole, *parts, strict=True):
        for name in batch:
            together = np.concatenate([piece[name] for piece in pieces])
            np.testing.assert_array_equal(batch[name], together)


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_mirrors_about_half_left_to_right(dataset, channels):
    images = np.ascontiguousarray(dataset.images[..., :channels])
    dataset = Dataset(dataset.spec, images, None, "")
    mirrored = 0
    for plain, flipped in zip(take(dataset, 50), take(dataset, 50, flip=True), strict=True):
        for before, after in zip(plain["image"], flipped["image"], strict=True):
            changed = (before != after).any()
            np.testing.assert_array_equal(after, before[:, ::-1] if changed else before)
            mirrored += changed
    assert 70 < mirrored < 130


def test_batches_are_the_receivers_own(dataset):
    before = dataset.images.copy()
    first, second = take(dataset, 2)
    kept = second["image"].copy()
    first["image"][:] = 0
    first["index"][:] = -1
    np.testing.assert_array_equal(second["image"], kept)
    np.testing.assert_array_equal(dataset.images, before)


def test_an_error_in_the_thread_reaches_the_consumer(dataset):
    class Failing(np.ndarray):
        def __getitem__(self, key):
            raise OSError("the disk is gone")

    broken = Dataset(dataset.spec, dataset.images.view(Failing), None, "")
    loader = batches(broken, seed=0, batch_size=2)
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            next(loader)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "jaxgan-loader"]


def test_close_stops_the_thread(dataset):
    loader = batches(dataset, seed=0, batch_size=2)
    next(loader)
    assert len(loader_threads()) == 1
    loader.close()
    assert not loader_threads()
    with pytest.raises(StopIteration):
        next(loader)
    loader.close()


def test_a_forgotten_loader_stops_its_thread(dataset):
    loader = batches(dataset, seed=0, batch_size=2)
    next(loader)
    del loader
    gc.collect()
    deadline = time.monotonic() + 10
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not loader_threads()


def test_the_thread_runs_ahead_by_prefetch_and_no_more(dataset):
    gathered = []

    class Counting(np.ndarray):
        def __getitem__(self, key):
            gathered.append(key)
            return np.asarray(self)[key]

    counted = Dataset(dataset.spec, dataset.images.view(Counting), None, "")
    with batches(counted, seed=0, batch_size=2, prefetch=3) as loader:
        next(loader)
        deadline = time.monotonic() + 10
        while len(gathered) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(gathered) == 5  # one given, three waiting, one in hand


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 11}, "'made_up' has 10 pictures, fewer than one batch of 11"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"start": -1}, "start .* must not be -1"),
        ({"prefetch": 0}, "prefetch must be at least 1, not 0"),
        ({"part": slice(4, 8)}, "contiguous slice"),
        ({"part": slice(0, 4, 2)}, "contiguous slice"),
    ],
)
def test_nonsense_is_refused_at_the_start(dataset, settings, words):
    with pytest.raises(DataError, match=words):
        batches(dataset, seed=0, **({"batch_size": 4} | settings))
