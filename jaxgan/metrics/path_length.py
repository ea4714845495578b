"""Perceptual path length: how much pictures change along short steps between latents.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
arXiv:1812.04948, section 4.1. The paper measures change by LPIPS on VGG16; here it is the squared
Euclidean distance of whatever features are given, so numbers compare only where those are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxgan.errors import UsageError
from jaxgan.metrics.arrays import checked, checked_pair


class PathLength(NamedTuple):
    """Over the paths that are kept; lower is smoother."""

    mean: float
    lengths: np.ndarray  # [n] those from the 1st to the 99th percentile


def path_length(
    generate: Callable[[np.ndarray], Any],
    read: Callable[[Any], Any],
    starts: Any,
    ends: Any,
    fractions: Any,
    *,
    interpolate: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    epsilon: float = 1e-4,
    batch_size: int = 64,
) -> PathLength:
    """The mean of d(G(I(t)), G(I(t + epsilon))) / epsilon^2, equations 2 and 3.

    As in the official code, lengths below the 1st and above the 99th percentile are left out.

    Args:
      generate: latents [batch_size, Z] float32 -> pictures as floats; nothing may round them, or
        one sees the rounding only. The same latents and place in the batch give the same picture.
      read: pictures -> features [batch_size, F].
      starts, ends: latents [N, Z], drawn independently.
      fractions: t [N]; uniform in [0, 1] is the paper's "full", 0 everywhere its "end".
      interpolate: `slerp` for normal latents, `lerp` for a learned latent space.
      epsilon: the step.
      batch_size: the last batch is filled up.

    Raises:
      UsageError: if the arguments do not fit or pictures come as integers.
    """
    starts, ends = checked_pair(starts, ends, ("the first latents", "the last latents"), least=1)
    t = checked(np.reshape(fractions, (-1, 1)), "fractions", least=1).astype(np.float64)
    if not len(starts) == len(ends) == len(t):
        raise UsageError(
            f"{len(starts)} first latents, {len(ends)} last ones and {len(t)} fractions do not "
            "make paths; give as many of each"
        )
    if epsilon <= 0 or batch_size < 1:
        raise UsageError(f"epsilon {epsilon} and batch size {batch_size} must be positive")

    def features(latents: np.ndarray) -> np.ndarray:
        pictures = generate(latents.astype(np.float32))
        if np.issubdtype(pictures.dtype, np.integer):
            raise UsageError(
                f"a path length of {pictures.dtype} pictures would be one of their rounding; "
                "generate floats"
            )
        return checked(read(pictures), "the features of pictures").astype(np.float64)

    lengths = []
    for first in range(0, len(starts), batch_size):
        rows = np.arange(first, first + batch_size) % len(starts)
        a, b = starts[rows].astype(np.float64), ends[rows].astype(np.float64)
        near, far = (features(interpolate(a, b, t[rows] + step)) for step in (0, epsilon))
        lengths.append(np.square(near - far).sum(1) / epsilon**2)
    lengths = np.concatenate(lengths)[: len(starts)]
    low = np.percentile(lengths, 1, method="lower")
    high = np.percentile(lengths, 99, method="higher")
    kept = lengths[(lengths >= low) & (lengths <= high)]
    return PathLength(float(kept.mean()), kept)


def lerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The straight line from a to b [N, Z] at t [N, 1]."""
    return a + (b - a) * t


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The arc from a to b [N, Z] at t [N, 1]: directions turn evenly, lengths change evenly.

    The official code gives all the length 1, as its mapping network would in any case; others need
    the length of their normal latents.
    """
    length_a, length_b = (np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    tiny = np.finfo(np.float64).tiny
    a, b = a / np.maximum(length_a, tiny), b / np.maximum(length_b, tiny)
    cosine = (a * b).sum(1, keepdims=True)
    across = b - cosine * a
    sine = np.linalg.norm(across, axis=1, keepdims=True)
    angle = t * np.arctan2(sine, cosine)
    direction = a * np.cos(angle) + across / np.maximum(sine, tiny) * np.sin(angle)
    return direction * lerp(length_a, length_b, t)
