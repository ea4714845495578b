"""Paths between latents: straight ones, and arcs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Path = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(start, end [..., Z], t [..., 1]) -> what lies there, the start at t = 0, the end at t = 1."""


def lerp(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The straight line, for a learned latent space."""
    return start * (1 - t) + end * t


def slerp(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The arc along which directions turn evenly and lengths change evenly.

    Normal latents lie near a sphere (White, 2016, arXiv:1609.04468, section 2.1), which an arc does
    not leave.
    """
    lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (start, end)]
    tiny = np.finfo(np.float64).tiny
    a, b = (x / np.maximum(length, tiny) for x, length in zip((start, end), lengths, strict=True))
    cosine = (a * b).sum(-1, keepdims=True)
    across = b - cosine * a
    sine = np.linalg.norm(across, axis=-1, keepdims=True)
    angle = t * np.arctan2(sine, cosine)
    direction = a * np.cos(angle) + across / np.maximum(sine, tiny) * np.sin(angle)
    return direction * lerp(lengths[0], lengths[1], t)


def walk(path: Path, start: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """Returns [N, count, ...] along a path from start to end [N, ...], both included."""
    t = np.linspace(0, 1, count, dtype=start.dtype).reshape(-1, *[1] * (start.ndim - 1))
    return path(start[:, None], end[:, None], t).astype(start.dtype)
