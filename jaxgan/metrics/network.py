"""What every network that reads pictures for a metric is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Reading(NamedTuple):
    """What a network sees in a batch of pictures."""

    features: jax.Array  # [B, F] float32
    logits: jax.Array | None = None  # [B, K] float32


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
    read: Callable[
        [Any, jax.Array], Reading
    ]  # (variables, images [B, H, W, C], uint8 or floats in [-1, 1])
    label_names: tuple[str, ...] = ()  # of the logits
    label_kind: str | None = None  # "class": softmax; "tags": one sigmoid each
    channels: int | None = None  # of the pictures that it takes; None: grey or RGB


def unit_range(images: jax.Array) -> jax.Array:
    """uint8 -> float32 in [-1, 1], which pass unchanged; raises TypeError for other dtypes."""
    if images.dtype == jnp.float32:
        return images
    if images.dtype != jnp.uint8:
        raise TypeError(f"pictures must be uint8, or float32 in [-1, 1], not {images.dtype}")
    return (images.astype(jnp.float32) - 127.5) / 127.5


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


def full_precision(read: Callable[..., Reading]) -> Callable[..., Reading]:
    """Returns `read` with products in float32: accelerators round factors to fewer bits, and a
    number should not depend on where it was computed."""

    @functools.wraps(read)
    def precise(*arguments):
        with jax.default_matmul_precision("float32"):
            return read(*arguments)

    return precise
