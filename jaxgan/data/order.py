"""The order of the data: a pure function of the seed and the number of examples drawn."""

from functools import lru_cache

import numpy as np

_WORD = (1 << 64) - 1


def indices(seed: int, num_examples: int, start: int, count: int) -> np.ndarray:
    """Which examples the draws `start` to `start + count - 1` are, `[count]` int64.

    Every epoch is a permutation of its own of `range(num_examples)`; epochs follow one another
    without a gap, so a batch may hold the end of one and the beginning of the next.
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
    """A fair coin for each of the draws `start` to `start + count - 1`, `[count]` bool.

    The top bit of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014) at the position of the draw, in the stream that the seed begins.
    """
    origin = _mix(np.array([seed & _WORD], np.uint64))
    draw = np.arange(start, start + count, dtype=np.uint64)
    return (_mix(origin + draw) >> np.uint64(63)).astype(bool)


# Two epochs are alive when a batch straddles them, and two loaders may walk the same data.
@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    # Sorting the generator's raw words, and not Generator.permutation: NumPy promises that the
    # words stay the same in all its versions (NEP 19), and no more than that.
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(num_examples)
    permutation = np.argsort(words, kind="stable")
    permutation.flags.writeable = False
    return permutation


def _mix(position: np.ndarray) -> np.ndarray:
    z = (position + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
