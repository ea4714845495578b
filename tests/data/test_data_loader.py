"""The order of the examples, what is in a batch, and that a loader neither hangs nor lingers."""

import gc
import itertools
import threading
import time

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan import core
from jaxgan.data import DataError, Dataset, DataSpec, batches, indices
from jaxgan.data.loader import coin_flips

SEEDS = st.integers(-(2**70), 2**70)

# Computed once; a change of these numbers breaks the resuming of every run.
ORDER = [8, 4, 1, 6, 3, 2, 7, 5, 9, 0, 3, 9]
FLIPS = [0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0]


@given(SEEDS, st.integers(1, 50), st.integers(0, 200), st.integers(0, 120), st.integers(0, 120))
def test_any_cut_gives_the_same_indices(seed, num_examples, start, first, second):
    whole = indices(seed, num_examples, start, first + second)
    head = indices(seed, num_examples, start, first)
    tail = indices(seed, num_examples, start + first, second)
    np.testing.assert_array_equal(whole, np.concatenate([head, tail]))
    assert whole.dtype == np.int64 and whole.shape == (first + second,)


@given(SEEDS, st.integers(1, 50), st.integers(0, 5))
def test_every_epoch_is_a_permutation(seed, num_examples, epoch):
    drawn = indices(seed, num_examples, epoch * num_examples, num_examples)
    np.testing.assert_array_equal(np.sort(drawn), np.arange(num_examples))


def test_epochs_and_seeds_differ():
    first, second = indices(0, 100, 0, 200).reshape(2, 100)
    assert (first != second).any()
    assert (first != indices(1, 100, 0, 100)).any()


def test_the_order_is_the_one_of_every_machine_and_version():
    np.testing.assert_array_equal(indices(7, 10, 0, 12), ORDER)
    np.testing.assert_array_equal(coin_flips(7, 0, 12).astype(int), FLIPS)


def test_an_index_within_an_epoch_is_uniform():
    positions = np.stack([indices(seed, 5, 0, 5) for seed in range(4000)])
    counts = np.stack([np.bincount(column, minlength=5) for column in positions.T])
    # 800 expected with a standard deviation of 25.
    assert np.abs(counts - 800).max() < 130


@given(SEEDS, st.integers(0, 2**40), st.integers(0, 100), st.integers(0, 100))
def test_coin_flips_are_a_function_of_the_draw(seed, start, first, second):
    whole = coin_flips(seed, start, first + second)
    np.testing.assert_array_equal(whole[first:], coin_flips(seed, start + first, second))


def test_coin_flips_are_fair_and_differ_between_seeds():
    flips = np.stack([coin_flips(seed, 0, 10_000) for seed in range(4)])
    # 5,000 expected with a standard deviation of 50, also for the agreement of two seeds.
    assert np.abs(flips.sum(1) - 5000).max() < 250
    assert abs((flips[0] == flips[1]).sum() - 5000) < 250


@pytest.mark.parametrize("bad", [(0, 0, 1), (5, -1, 1), (5, 0, -1)])
def test_an_order_of_nonsense_is_refused(bad):
    with pytest.raises(ValueError, match="not"):
        indices(0, *bad)


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


def test_unlabeled_data_have_no_label(dataset):
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
        seen = (jax.jit(core.seen)(batch)["image"] for batch in (plain, flipped))
        for before, after, coin in zip(*seen, flipped["mirrored"], strict=True):
            np.testing.assert_array_equal(after, before[:, ::-1] if coin else before)
            mirrored += coin
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
    with batches(broken, seed=0, batch_size=2) as loader:
        for _ in range(2):
            with pytest.raises(OSError, match="the disk is gone"):
                next(loader)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("jaxgan-loader")]


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


def test_the_thread_runs_ahead_by_prefetch(dataset):
    gathered = []

    class Counting(np.ndarray):
        def __getitem__(self, key):
            gathered.append(key)
            return np.asarray(self)[key]

    counted = Dataset(dataset.spec, dataset.images.view(Counting), None, "")
    with batches(counted, seed=0, batch_size=2, prefetch=3) as loader:
        next(loader)
        deadline = time.monotonic() + 10
        while len(gathered) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(gathered) == 4  # one given, three waiting


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
