"""Precision and recall, density and coverage: balls around points stand for their manifold.

Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019,
arXiv:1904.06991, equation 2; Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative
Models", 2020, arXiv:2002.09797, section 3. Around each point there is a ball that reaches to its
k-th nearest neighbor in the same set, itself not counted.

A point on the sphere is inside, as in the first paper and its code; the second one's code leaves it
out, and without ties gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan import devices
from jaxgan.evaluation.distances.arrays import checked_pair
from jaxgan.evaluation.distances.neighbors import BLOCK, Block, Frame, nearest, squared_distances

_ROUNDING = 2.0**-20  # relative to |x|^2 + |y|^2: what float32 may add to the distance of equals


def prdc(
    real: Any, fake: Any, *, neighbors: int = 5, block: int = BLOCK
) -> Mapping[str, np.ndarray]:
    """Finds who lies in whose balls; compiled, by blocks, spread over this process's devices.

    The means of what it returns are the metrics, higher is better, and can be drawn again:
    "precision": [M] bool, whether some real ball holds each generated picture;
    "recall": [N] bool, whether some generated ball holds each real picture;
    "density": [M] float, how many real balls hold each generated picture, by k;
    "coverage": [N] bool, whether each real ball holds some generated picture.

    Args:
      real, fake: features [N, F] and [M, F]; numbers of different N and M do not compare.
      neighbors: k, at least 1; the papers take 3 and 5.
      block: points on each side whose distances are held at a time.

    Raises:
      UsageError: if a side has no more than k pictures, or the features do not fit.
    """
    names = ("the real features", "the generated features")
    real, fake = checked_pair(real, fake, names, least=neighbors + 1)
    frame = Frame.of(fake, real)
    reals, fakes = (
        _balls(frame, list(frame.blocks(x, block)), _radii(x, neighbors, block))
        for x in (real, fake)
    )
    fakes = [devices.copies(balls) for balls in fakes]
    held: list[Any] = [0] * len(fakes)
    recalled, covered = [], []
    for balls in reals:
        balls = devices.spread(balls)
        inside = [_inside(balls, other) for other in fakes]
        held = [count + more for count, (more, _, _) in zip(held, inside, strict=True)]
        recalled.append(np.any([part for _, part, _ in inside], 0))
        covered.append(np.any([part for _, _, part in inside], 0))
    each = np.concatenate(held)[: len(fake)]
    return {
        "precision": each > 0,
        "recall": np.concatenate(recalled)[: len(real)],
        "density": each / neighbors,
        "coverage": np.concatenate(covered)[: len(real)],
    }


def _radii(x: np.ndarray, neighbors: int, block: int) -> np.ndarray:
    # Each finds itself, or one that is equal to it.
    return nearest(x, x, neighbors + 1, block=block).distances[:, -1]


def _balls(frame: Frame, blocks: list[Block], radii: np.ndarray) -> list[tuple[Block, Any]]:
    size = len(blocks[0].points)
    full = np.zeros(size * len(blocks), np.float32)
    full[: len(radii)] = radii / frame.unit
    return list(zip(blocks, np.split(full, len(blocks)), strict=True))


@jax.jit
def _inside(reals: tuple[Block, Array], fakes: tuple[Block, Array]) -> tuple[Array, Array, Array]:
    """Of two blocks of balls: how many real ones hold each fake point [m], whether a fake one holds
    each real point [n], and whether each real one holds a fake point [n]."""
    (real, real_radii), (fake, fake_radii) = reals, fakes
    near = [x._replace(squares=x.squares * (1 - _ROUNDING)) for x in (real, fake)]
    squared = squared_distances(*near)
    in_real = squared <= jnp.square(real_radii)[:, None]
    in_fake = squared <= jnp.square(fake_radii)
    return in_real.sum(0), in_fake.any(1), in_real.any(1)
