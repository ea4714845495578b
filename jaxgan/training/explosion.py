"""Warns of a run whose scores grow without bound while every number is still finite."""

from __future__ import annotations

import math
from collections.abc import Mapping

from absl import logging

EXPLODED = 1e4
"""A discriminator's adversarial loss, whatever its sign, that no training which goes well reaches:
as a mean of logits or of a Wasserstein critic's differences, it leaves no gradient of use."""


class Explosion:
    """Looks at the lines of a log, and warns once.

    Args:
      name: of the run, where several are trained at a time.
    """

    def __init__(self, name: str = "") -> None:
        self._name, self._told = name, False

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Warns if the discriminator's adversarial term is of a size that no good run's has."""
        # Not the sum: a penalty may be large at first. Not the generator's: Wasserstein's critics
        # may move real and generated scores alike.
        value = abs(values.get("discriminator/adversarial", 0.0))
        if self._told or not EXPLODED < value < math.inf:
            return
        self._told = True
        logging.warning(
            "%sscores explode: discriminator/adversarial is %.3g at step %d, and stays below %.0f "
            "in trainings that go well; pictures will not get better. Stop it, and begin anew with "
            "a lower learning rate (--set learning_rate=...) or a stronger penalty",
            *(f"{self._name}: " if self._name else "", value, step, EXPLODED),
        )
