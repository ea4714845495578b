"""What a GAN is.

A GAN is two networks and a short list of updates. An update moves one player by one optimizer
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
`label` [B, K] float32, one-hot for classes, multi-hot for tags, absent if unlabeled;
`labeled` [B, H, W, C], only where few images have labels: those that `label` belongs to, while
nothing is known of `image`;
`index` [B] int32, the example's number within the global batch;
`mirrored` [B] bool, which images are to be mirrored before anything looks at them, absent if none;
`latent` [B, Z], only where the caller chooses the latents instead of having them drawn;
`w` [B, layers, F], only where the caller chooses intermediate latents."""
Variables = Mapping[str, PyTree]
"""`params` and the collections that no optimizer moves (`batch_stats`, ...)."""


class Context(NamedTuple):
    """What a network call may know besides its inputs.

    `refresh` marks the one pass of a player's own update in which its slow statistics, spectral
    normalization's vectors, advance: the generator's pass, or the discriminator's on real images.
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
    label_logits: Array | None = None  # [B, K]
    features: Array | None = None  # [B, F]


class View(NamedTuple):
    """One round of the game: all that a term may use. jit prunes what it does not."""

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
    style: Style | None = None  # the generator's two halves, if it has them


Term = Callable[[View], Array | tuple[Array, Mapping[str, PyTree]]]
"""A scalar, or a scalar and what to remember (entries of the memory)."""
Objective = Mapping[str, tuple[float, Term]]
"""Name -> weight and term. The name is the metric, and `adversarial` that of what the players
disagree on; a term of weight 0 is measured and moves nothing. The name `loss` is taken: it is the
weighted sum of a player's first update."""


class Update(NamedTuple):
    """One optimizer step of one player."""

    player: str
    objective: Objective
    every: int = 1  # lazy regularization: on steps divisible by this
    repeat: int = 1  # n_critic: that many times
    fresh: bool = False  # draws another batch; the first update of a step always draws one
    when: Callable[[Mapping[str, PyTree]], Array] | None = None  # memory -> move, or stay put


def _unchanged(batch: Batch, context: Context) -> Batch:
    return batch


def _no_average(step: Array) -> float:
    return 0.0


class Style(NamedTuple):
    """A generator in two halves, for what is done between them: truncation, mixing, projection."""

    w: Callable[[Variables, Array, Array | None], Array]  # z [B, Z], label -> [B, layers, F]
    average: Callable[[Variables], Array]  # -> [F], of w
    synthesize: Callable[[Variables, Array, Context], Array]  # w -> images [B, H, W, C]


class Gan(NamedTuple):
    """A whole method: pure functions and numbers.

    A Gan with `targets` translates: its `generate` turns the batch's pictures into others that show
    the batch's labels. In training these are `targets` of the pictures' own labels [B, K] and of
    the keys [B] that `generate` has; in use the caller's.
    """

    init: Callable[[Array], Mapping[str, Variables]]  # key -> variables of both players
    generate: Callable[[Variables, Batch, Context], tuple[Fake, PyTree]]
    score: Callable[[Variables, Array, Array | None, Context], tuple[Scores, PyTree]]
    updates: tuple[Update, ...]
    optimizers: Mapping[str, optax.GradientTransformation]
    latent: Callable[[Array], Array] | None = None  # keys [B] -> [B, Z], as `generate` draws them
    prepare: Callable[[Batch, Context], Batch] = _unchanged  # real images as D sees them
    memory: Mapping[str, PyTree] = MappingProxyType({})
    ema: optax.Schedule = _no_average  # step -> decay; 0 keeps the last weights
    conditional: bool = False  # `generate` needs the batch's labels
    style: Style | None = None  # where there is a w between the latent and the image
    targets: Callable[[Array, Array], Array] | None = None  # where pictures are translated


class GanState(struct.PyTreeNode):
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
      ValueError: if the first update, which draws the others' batch, does not run on every step.
    """
    if gan.updates[0].every != 1:
        raise ValueError(
            f"the first update must run on every step and has every={gan.updates[0].every}: it "
            "draws the batch that later ones use; put another update before it"
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


def normalize(image: Array) -> Array:
    """Maps uint8 images to float32 in [-1, 1]; floats pass unchanged."""
    # In this order the ends are -1 and 1 exactly, also where XLA multiplies by the reciprocal.
    return (image.astype(jnp.float32) - 127.5) / 127.5 if image.dtype == jnp.uint8 else image


def seen(batch: Batch) -> dict[str, Array]:
    """Returns the batch with its images as players see them: normalized, and mirrored where it says
    so."""
    batch = dict(batch)
    mirrored = batch.pop("mirrored", None)
    for name in ("image", "labeled"):
        if name in batch:
            batch[name] = normalize(_mirror(batch[name], mirrored))
    return batch


def _mirror(image, mirrored):
    if mirrored is None:
        return image
    chosen = mirrored.reshape(-1, *(1,) * (image.ndim - 1))
    return jnp.where(chosen, jnp.flip(image, -2), image)


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves of a tree by their path, such as "generator/params/Dense_0/kernel".

    Raises:
      ValueError: if two leaves have the same name, as with the keys 0 and "0".
    """
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in named:
            raise ValueError(f"two leaves of the tree are called {name!r}; rename one of them")
        named[name] = leaf
    return named


def moves(update: Update) -> bool:
    """Whether an update has a term with weight, so that there is something to minimize."""
    return any(counts(weight) for weight, _ in update.objective.values())


def counts(weight: float | Array) -> bool:
    """Whether a term is minimized, and not only measured; one whose weight is traced is."""
    return isinstance(weight, jax.core.Tracer) or bool(weight)


def draws(gan: Gan, number: int) -> bool:
    """Whether update `number` draws batches, instead of using the last one drawn."""
    return number == 0 or gan.updates[number].fresh


def images_drawn(gan: Gan, batch_size: int, steps: int) -> int:
    """Returns how many real examples `steps` iterations draw: the position in the data."""
    return sum(
        -(-steps // update.every) * update.repeat * batch_size
        for number, update in enumerate(gan.updates)
        if draws(gan, number)
    )
