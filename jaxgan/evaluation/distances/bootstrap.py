"""How far chance alone may move a number: Efron's percentile bootstrap, 1979."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxgan.evaluation.protocol import Measured


def interval(
    statistic: Callable[[np.ndarray], float],
    num: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    centered: bool = False,
    seed: int,
) -> Measured:
    """A statistic of `num` examples with its percentile interval.

    `statistic` is given indices [num] in [0, num) of examples, some twice and some not at all. So
    the costly part is done once, for instance

        interval(lambda rows: correct[rows].mean(), len(correct), seed=0)

    Distances between examples must be taken before: drawing neighbors twice would make them
    nearer.

    Args:
      statistic: indices -> number.
      num: examples, at least 1.
      resamples: draws; 100 give a rough range.
      level: the share of draws inside, in (0, 1).
      centered: takes the bias of resampling off both ends. A resample has fewer different examples,
        about 63 % of them. That moves a mean nowhere but a Fréchet distance up, often so far that
        the range does not hold the value.
      seed: of the draws.
    """
    random = np.random.default_rng(seed)
    value = float(statistic(np.arange(num)))
    draws = [float(statistic(random.integers(num, size=num))) for _ in range(resamples)]
    low, high = map(float, np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
    bias = float(np.mean(draws)) - value if centered else 0.0
    return Measured(value, low - bias, high - bias)
