"""Precision and recall, density and coverage: balls around points stand for their manifold.

Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019,
arXiv:1904.06991, equation 2; Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative
Models", 2020, arXiv:2002.09797, section 3. Around each point there is a ball that reaches to its
k-th nearest neighbour in the same set, itself not counted.

A point on the sphere is inside, as in the first paper and its code; the second one's code leaves it
out, and without ties gives the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan.errors import UsageError
from jaxgan.metrics.arrays import checked_pair
from jaxgan.metrics.neighbours import BLOCK, Block, Frame, nearest, squared_distances

_ROUNDING = 2.0**-20  # relative to |x|^2 + |y|^2: what float32 may add to the distance of equals


class Prdc(NamedTuple):
    """All are better when higher."""

    precision: float  # share of generated pictures in some real ball, in [0, 1]
    recall: float  # share of real pictures in some generated ball, in [0, 1]
    density: float  # real balls that hold a generated picture, mean by k; may be above 1
    coverage: float  # share of real balls that hold some generated picture, in [0, 1]


class Membership(NamedTuple):
    """Who lies in whose balls. Means over it are the metrics, and so can be drawn anew."""

    held: np.ndarray  # [M] int, how many real balls hold each generated picture
    recalled: np.ndarray  # [N] bool, whether some generated ball holds each real picture
    covered: np.ndarray  # [N] bool, whether each real ball holds some generated picture
    neighbours: int

    def prdc(self) -> Prdc:
        """The four metrics."""
        return Prdc(
            float((self.held > 0).mean()),
            float(self.recalled.mean()),
            float(self.held.mean() / self.neighbours),
            float(self.covered.mean()),
        )


def prdc(real: Any, fake: Any, *, neighbours: int = 5, block: int = BLOCK) -> Prdc:
    """Precision, recall, density and coverage; arguments and errors as of `membership`."""
    return membership(real, fake, neighbours=neighbours, block=block).prdc()


def membership(real: Any, fake: Any, *, neighbours: int = 5, block: int = BLOCK) -> Membership:
    """Finds who lies in whose balls; compiled, on the default device, by blocks.

    Args:
      real, fake: features [N, F] and [M, F]; numbers of different N and M do not compare.
      neighbours: k; the papers take 3 and 5.
      block: points on each side whose distances are held at a time.

    Raises:
      UsageError: if a side has no more than k pictures, k is below 1, or the features do not fit.
    """
    if neighbours < 1:
        raise UsageError(f"a ball that reaches to neighbour {neighbours} has no size; at least 1")
    names = ("the real features", "the generated features")
    real, fake = checked_pair(real, fake, names, least=neighbours + 1)
    frame = Frame.of(fake, real)
    reals, fakes = (
        _balls(frame, list(frame.blocks(x, block)), _radii(x, neighbours, block))
        for x in (real, fake)
    )
    held: list[Any] = [0] * len(fakes)
    recalled, covered = [], []
    for some in reals:
        inside = [_inside(some, other) for other in fakes]
        held = [count + more for count, (more, _, _) in zip(held, inside, strict=True)]
        recalled.append(np.any([part for _, part, _ in inside], 0))
        covered.append(np.any([part for _, _, part in inside], 0))
    return Membership(
        np.concatenate(held)[: len(fake)],
        np.concatenate(recalled)[: len(real)],
        np.concatenate(covered)[: len(real)],
        neighbours,
    )


def _radii(x: np.ndarray, neighbours: int, block: int) -> np.ndarray:
    # Each finds itself, or one that is equal to it.
    return nearest(x, x, neighbours + 1, block=block).distances[:, -1]


def _balls(frame: Frame, blocks: list[Block], radii: np.ndarray) -> list[tuple[Block, Array]]:
    size = len(blocks[0].points)
    full = np.zeros(size * len(blocks), np.float32)
    full[: len(radii)] = radii / frame.unit
    return list(zip(blocks, map(jnp.asarray, np.split(full, len(blocks))), strict=True))


@jax.jit
def _inside(reals: tuple[Block, Array], fakes: tuple[Block, Array]) -> tuple[Array, Array, Array]:
    """What `Membership` holds, [m], [n], [n], of two blocks of balls."""
    (real, real_radii), (fake, fake_radii) = reals, fakes
    near = [x._replace(squares=x.squares * (1 - _ROUNDING)) for x in (real, fake)]
    squared = squared_distances(*near)
    in_real = squared <= jnp.square(real_radii)[:, None]
    in_fake = squared <= jnp.square(fake_radii)
    return in_real.sum(0), in_fake.any(1), in_real.any(1)
