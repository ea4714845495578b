"""Perceptual path length: how much pictures change along short steps between latents.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
arXiv:1812.04948, section 4.1. The paper measures change by LPIPS on VGG16; here it is the squared
Euclidean distance of whatever features are given, so numbers compare only where those are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.arrays import checked, checked_pair
from jaxgan.sampling.paths import Path


def path_lengths(
    generate: Callable[[np.ndarray], Any],
    read: Callable[[Any], Any],
    starts: Any,
    ends: Any,
    fractions: Any,
    *,
    path: Path,
    epsilon: float = 1e-4,
    batch_size: int = 64,
) -> np.ndarray:
    """d(G(I(t)), G(I(t + epsilon))) / epsilon^2 of each path [n], equations 2 and 3.

    Their mean is the perceptual path length; lower is smoother. As in the official code, lengths
    below the 1st and above the 99th percentile are left out.

    Args:
      generate: latents [batch_size, Z] float32 -> pictures as floats; nothing may round them, or
        one sees the rounding only. The same latents and place in the batch give the same picture.
      read: pictures -> features [batch_size, F].
      starts, ends: latents [N, Z], drawn independently.
      fractions: t [N]; uniform in [0, 1] is the paper's "full", 0 everywhere its "end".
      path: I, `slerp` for normal latents, `lerp` for a learned latent space. The official code
        gives all latents the length 1, as its mapping network does in any case; other networks
        need the length that was drawn.
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
        near, far = (features(path(a, b, t[rows] + step)) for step in (0, epsilon))
        lengths.append(np.square(near - far).sum(1) / epsilon**2)
    lengths = np.concatenate(lengths)[: len(starts)]
    low = np.percentile(lengths, 1, method="lower")
    high = np.percentile(lengths, 99, method="higher")
    return lengths[(lengths >= low) & (lengths <= high)]
