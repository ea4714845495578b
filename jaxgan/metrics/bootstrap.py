"""How far chance alone may move a number: Efron's percentile bootstrap, 1979."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxgan.errors import UsageError


class Interval(NamedTuple):
    """A number and the range in which it falls when examples are drawn anew."""

    estimate: float  # of all examples
    low: float
    high: float
    bias: float  # mean over resamples, less the estimate

    def centred(self) -> Interval:
        """Takes the bias of resampling off both ends.

        A resample has fewer different examples, about 63 % of them. That moves a mean nowhere but a
        Fréchet distance up, often so far that the range does not hold the estimate.
        """
        return self._replace(low=self.low - self.bias, high=self.high - self.bias)


def interval(
    statistic: Callable[[np.ndarray], float],
    num: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int,
) -> Interval:
    """The percentile interval of a statistic of `num` examples.

    `statistic` is given indices [num] in [0, num) of examples, some twice and some not at all. So
    the costly part is done once, for instance

        interval(lambda i: correct[i].mean(), len(correct), seed=0)
        interval(lambda i: frechet_distance(Moments.of(fake[i]), real_moments), len(fake), seed=0,
                 resamples=100).centred()

    Distances between examples must be taken before: drawing neighbours twice would make them
    nearer. So for precision and the like, draw from a `Membership`.

    Args:
      statistic: indices -> number.
      num: examples.
      resamples: draws; 100 give a rough range.
      level: the share of draws inside, in (0, 1).
      seed: of the draws.

    Raises:
      UsageError: if a setting is out of its range.
    """
    if num < 1 or resamples < 1 or not 0 < level < 1:
        raise UsageError(
            f"no interval of {num} examples with {resamples} resamples at level {level}: it needs "
            "at least one of each, and a level between 0 and 1"
        )
    random = np.random.default_rng(seed)
    estimate = float(statistic(np.arange(num)))
    draws = [float(statistic(random.integers(num, size=num))) for _ in range(resamples)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), float(np.mean(draws)) - estimate)
