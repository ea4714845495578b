"""What every network that reads pictures for a metric is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxgan.core import normalize
from jaxgan.evaluation.distances.frechet import Moments


class Reading(NamedTuple):
    """What a network sees in N pictures."""

    features: Any  # [N, F] float32 of JAX or NumPy; of very many pictures, those of the first
    logits: Any = None  # None, or [N, K] float32
    moments: Moments | None = None  # of all features; a network itself takes none
    labels: np.ndarray | None = None  # [N, K], what the pictures show, or were asked to


class Network(NamedTuple):
    """A network that reads pictures. Its name and digest are part of a number's protocol.

    `read` is pure and meant to be compiled by its caller; it raises UsageError, when it is traced,
    for pictures of a shape that the network does not take. The variables are NumPy arrays as they
    were loaded: put them on the devices once.
    """

    name: str  # "inception", "inception-unverified-<digest's start>", "classifier", "random"
    digest: str  # SHA-256 of the weights, hexadecimal
    resize: str  # how pictures come to its size, in words; "none" if they stay as they are
    variables: Any  # the weights, a tree of arrays
    # (variables, images [B, H, W, C], uint8 or floats in [-1, 1])
    read: Callable[[Any, jax.Array], Reading]
    label_names: tuple[str, ...] = ()  # of the logits
    label_kind: str | None = None  # "class": softmax; "tags": one sigmoid each
    channels: int | None = None  # of the pictures that it takes; None: gray or RGB


def features_of(network: Network) -> Partial:
    """Returns images [B, H, W, C] -> features [B, F] as a function that carries its weights: a
    pytree, which may be an argument of compiled functions."""

    def features(variables, images):
        return network.read(variables, images).features

    return Partial(features, network.variables)


def each_channel(network: Network) -> Network:
    """Returns what reads every channel [B, H, W, 1] alone, and puts what it sees side by side."""

    def read(variables, images):
        channels = jnp.split(images, images.shape[-1], -1)
        readings = [network.read(variables, channel) for channel in channels]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts, -1), *readings)

    return network._replace(
        name=f"{network.name}_each_channel",
        read=read,
        label_names=(),
        label_kind=None,
        channels=None,
    )


def reader(read: Callable[..., Reading]) -> Callable[..., Reading]:
    """Returns (variables, images [-1, 1]) -> `Reading` as a function that takes uint8 images, too.

    Its products are in float32: accelerators round factors to fewer bits, and a number should not
    depend on where it was computed. It raises TypeError for images of another dtype.
    """

    @functools.wraps(read)
    def precise(variables, images):
        if images.dtype not in (jnp.uint8, jnp.float32):
            raise TypeError(f"pictures must be uint8, or float32 in [-1, 1], not {images.dtype}")
        with jax.default_matmul_precision("float32"):
            return read(variables, normalize(images))

    return precise
