"""What a GAN is.

A GAN is two networks and a short list of updates. An update moves one player by one optimiser
step along the gradient of a weighted sum of terms. A term is a pure function of one round of the
game, the `View`. Everything else is data on top of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

AXIS = "device"
PLAYERS = ("generator", "discriminator")

Array = jax.Array
PyTree = Any
Batch = Mapping[str, Array]
"""`image` [B, H, W, C] (voxels [B, D, H, W, 1]), uint8 on arrival and float32 in [-1, 1] inside;
`label` [B, K] float32, one-hot for classes, multi-hot for tags, absent if unlabelled;
`index` [B] int32, the example's number within the global batch;
`latent` [B, Z], only where the caller chooses the latents instead of having them drawn."""
Variables = Mapping[str, PyTree]
"""`params` and the collections that no optimiser moves (`batch_stats`, ...)."""


class Context(NamedTuple):
    """What a network call may know besides its inputs.

    `refresh` marks the one pass of a player's own update in which its slow statistics, spectral
    normalisation's vectors, advance: the generator's pass, or the discriminator's on real images.
    """

    step: Array
    rng: Array  # [B], one key an example
    memory: Mapping[str, PyTree]
    train: bool
    refresh: bool = False


class Fake(NamedTuple):
    """A generated batch."""

    image: Array  # [B, H, W, C] in [-1, 1], or about there where the last layer is linear
    label: Array | None = None  # [B, K], what it was asked to be


class Scores(NamedTuple):
    """The discriminator's answer. `source` is a logit: large means real."""

    source: Array  # [B] or [B, h, w]
    label: Array | None = None  # [B, K] logits
    features: Array | None = None  # [B, F]


class View(NamedTuple):
    """One round of the game: all that a term may look at. jit prunes what it does not."""

    batch: Batch
    fake: Fake
    on_real: Scores
    on_fake: Scores
    generate: Callable[[Batch, Array], Fake]  # (batch, rng [B]); no statistics are stored
    score: Callable[..., Scores]  # (image, label=None); no statistics are stored
    variables: Mapping[str, Variables]
    memory: Mapping[str, PyTree]
    step: Array
    rng: Array  # [B], for the terms' own draws


Term = Callable[[View], Array | tuple[Array, Mapping[str, PyTree]]]
"""A scalar, or a scalar and what to remember (entries of the memory)."""
Objective = Mapping[str, tuple[float, Term]]
"""Name -> weight and term. The name is the metric; a term of weight 0 is only watched."""


class Update(NamedTuple):
    """One optimiser step of one player."""

    player: str
    objective: Objective
    every: int = 1  # lazy regularisation: on steps divisible by this
    repeat: int = 1  # n_critic: that many times
    fresh: bool = False  # draws a batch of its own; the first update of a step always does
    when: Callable[[Mapping[str, PyTree]], Array] | None = None  # memory -> move, or stay put


def _unchanged(batch: Batch, context: Context) -> Batch:
    return batch


def _no_average(step: Array) -> float:
    return 0.0


class Style(NamedTuple):
    """A generator in two halves, for what is done between them: truncation, mixing, projection."""

    w: Callable[[Variables, Array, Array | None], Array]  # z [B, Z], label -> [B, layers, F]
    average: Callable[[Variables], Array]  # -> [F], of w
    synthesise: Callable[[Variables, Array, Context], Array]  # w -> images [B, H, W, C]


class Gan(NamedTuple):
    """A whole method: pure functions and numbers."""

    init: Callable[[Array], Mapping[str, Variables]]  # key -> variables of both players
    generate: Callable[[Variables, Batch, Context], tuple[Fake, PyTree]]
    score: Callable[[Variables, Array, Array | None, Context], tuple[Scores, PyTree]]
    updates: tuple[Update, ...]
    optimizers: Mapping[str, optax.GradientTransformation]
    latent: Callable[[Array], Array] | None = None  # keys [B] -> [B, Z], as `generate` draws them
    prepare: Callable[[Batch, Context], Batch] = _unchanged  # real images as D shall see them
    memory: Mapping[str, PyTree] = MappingProxyType({})
    ema: optax.Schedule = _no_average  # step -> decay; 0 keeps the last weights
    conditional: bool = False  # `generate` needs the batch's labels
    style: Style | None = None  # where there is a w between the latent and the image


@struct.dataclass
class GanState:
    """All that training changes, and exactly what a checkpoint holds."""

    step: Array  # int32, finished iterations
    variables: Mapping[str, Variables]
    opt: Mapping[str, optax.OptState]
    ema: Variables  # the generator's: params and batch_stats averaged, the rest copied
    memory: Mapping[str, PyTree]
    skipped: Mapping[str, Array]  # "row" [updates] int32: in a row, each; "total" int32


class Plan(NamedTuple):
    """What `make` may know of the run."""

    batch_size: int
    steps: int


class Stage(NamedTuple):
    """A part of the training of a growing GAN; it lasts until the next one begins."""

    gan: Gan
    size: int  # of the pictures that it generates
    batch_size: int
    first: int  # finished steps when it begins


def init_state(gan: Gan, rng: Array) -> GanState:
    """Returns the state before the first step.

    Raises:
      ValueError: if the first update does not run on every step: it draws what the others look at.
    """
    if gan.updates[0].every != 1:
        raise ValueError(
            f"the first update must run on every step and has every={gan.updates[0].every}: it "
            "draws the batch that later ones look at; put another update before it"
        )
    variables = gan.init(rng)
    return GanState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        opt={name: tx.init(variables[name]["params"]) for name, tx in gan.optimizers.items()},
        # Copied, because aliased buffers cannot be donated.
        ema=jax.tree.map(jnp.copy, variables["generator"]),
        # Python's numbers would be weakly typed, and the second step compile again.
        memory=jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), dict(gan.memory)),
        skipped={
            "row": jnp.zeros(len(gan.updates), jnp.int32),
            "total": jnp.zeros((), jnp.int32),
        },
    )


def batch_mean(x: Array) -> Array:
    """Returns the mean of x [B, ...] over the global batch, as [...].

    A term that is not linear in the batch mean must take it inside: averaging the devices'
    gradients afterwards would give another number on every device count.
    """
    return jax.lax.pmean(x.mean(0), AXIS)


def example_keys(rng: Array, index: Array) -> Array:
    """Returns one key for each example [B], the same whichever device holds it."""
    return jax.vmap(jax.random.fold_in, (None, 0))(rng, index)


def normalise(image: Array) -> Array:
    """Maps uint8 images to float32 in [-1, 1]; floats pass unchanged."""
    # In this order the ends are -1 and 1 exactly, also where XLA multiplies by the reciprocal.
    return (image.astype(jnp.float32) - 127.5) / 127.5 if image.dtype == jnp.uint8 else image


def draws(gan: Gan, number: int) -> bool:
    """Whether update `number` draws batches, instead of looking at the last one drawn."""
    return number == 0 or gan.updates[number].fresh


def images_drawn(gan: Gan, batch_size: int, steps: int) -> int:
    """Returns how many real examples `steps` iterations draw: the position in the data."""
    return sum(
        -(-steps // update.every) * update.repeat * batch_size
        for number, update in enumerate(gan.updates)
        if draws(gan, number)
    )
