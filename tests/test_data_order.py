"""The order of the data is a pure function of the seed and the draws made so far."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.data.order import coin_flips, indices

SEEDS = st.integers(-(2**70), 2**70)


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
def test_nonsense_is_refused(bad):
    with pytest.raises(ValueError, match="not"):
        indices(0, *bad)


# Computed once; a change of these numbers breaks the resuming of every run.
ORDER = [8, 4, 1, 6, 3, 2, 7, 5, 9, 0, 3, 9]
FLIPS = [0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0]
