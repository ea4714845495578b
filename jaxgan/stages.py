"""Growing GANs: which stage is played when, and what one hands on to the next.

A model's `make` gives a Gan, or stages if it grows; `as_stages` makes both alike, and all that
trains, draws or measures takes stages. A checkpoint of the step at which a stage ends holds that
stage's state: what the next one adds is drawn when it begins, from the run's seed, so that a run
which was stopped there goes on as one that was not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgan import core
from jaxgan.core import Array, Gan, GanState, PyTree, Stage

Stages = tuple[Stage, ...]
"""In their order; the first one begins at step 0."""


class Span(NamedTuple):
    """The iterations that a stage plays."""

    number: int
    stage: Stage
    first: int  # finished steps when it begins
    end: int  # and when it ends


def as_stages(model: Gan | Stages, size: int, batch_size: int) -> Stages:
    """Returns what a model's `make` returned as stages; a single Gan is one, of that size and
    batch."""
    return (Stage(model, size, batch_size, 0),) if isinstance(model, Gan) else model


def wrapped(stages: Stages, wrapper: Callable[[Gan], Gan]) -> Stages:
    """Returns the stages with a wrapper around the Gan of each."""
    return tuple(stage._replace(gan=wrapper(stage.gan)) for stage in stages)


def next_stage(stages: Stages, step: int) -> int:
    """Returns the number of the stage that plays the iteration after `step` finished steps."""
    return max(number for number, stage in enumerate(stages) if stage.first <= step)


def saved_stage(stages: Stages, step: int) -> int:
    """Returns the number of the stage whose state a checkpoint of `step` holds."""
    return next_stage(stages, max(step - 1, 0))


def gan_at(stages: Stages, step: int) -> Gan:
    """Returns the Gan that fits a checkpoint of `step`.

    What does not depend on the stage (labels, latents) may be asked of any, so of step 0.
    """
    return stages[saved_stage(stages, step)].gan


def at_step(gan: Gan, step: int) -> Gan:
    """Returns the Gan that draws as after `step` steps, whatever step it is told; for use only."""

    def at(context):
        return context._replace(step=jnp.int32(step))

    def generate(variables, batch, context):
        return gan.generate(variables, batch, at(context))

    def synthesize(variables, w, context):
        return gan.style.synthesize(variables, w, at(context))

    style = None if gan.style is None else gan.style._replace(synthesize=synthesize)
    return gan._replace(generate=generate, style=style)


def spans(stages: Stages, first: int, end: int) -> Iterator[Span]:
    """Yields what is played from `first` finished steps to `end`, without stages of no length."""
    while first < end:
        number = next_stage(stages, first)
        last = number == len(stages) - 1
        until = end if last else min(end, stages[number + 1].first)
        yield Span(number, stages[number], first, until)
        first = until


def images_drawn(stages: Stages, steps: int) -> int:
    """Returns how many real examples `steps` iterations draw: the position in the data."""
    return sum(
        core.images_drawn(stage.gan, stage.batch_size, end)
        - core.images_drawn(stage.gan, stage.batch_size, first)
        for _, stage, first, end in spans(stages, 0, steps)
    )


def steps_drawing(stages: Stages, images: float) -> int:
    """Returns how many whole iterations draw at most so many real examples."""
    for stage, later in itertools.zip_longest(stages, stages[1:]):
        each = core.images_drawn(stage.gan, stage.batch_size, 1)
        steps = stage.first + int(images / each)
        if later is None or steps < later.first:
            break
        images -= (later.first - stage.first) * each
    return steps


def template(stages: Stages) -> Callable[[int], GanState]:
    """Returns step -> the shapes of the state that a checkpoint of it holds."""

    def shapes(step):
        gan = gan_at(stages, step)
        return jax.eval_shape(lambda key: core.init_state(gan, key), jax.random.key(0))

    return shapes


def carry_over(old: GanState, gan: Gan, rng: Array) -> GanState:
    """Returns a stage's first state: that of the stage before, as far as names and shapes agree.

    What is new starts as the Gan begins, in the average, too; the optimizers start over (Karras et
    al., 2017, arXiv:1710.10196, reset Adam with each resolution); the step count goes on.
    """
    new = core.init_state(gan, rng)
    kept = {name: getattr(old, name) for name in ("variables", "ema", "memory", "skipped")}
    taken = {name: taken_over(getattr(new, name), tree)[0] for name, tree in kept.items()}
    return new.replace(step=old.step, **taken)


def taken_over(new: PyTree, old: PyTree) -> tuple[PyTree, list[str]]:
    """Returns the new tree with the old one's leaves wherever path and shape are the same, in the
    new one's dtype; and of each other leaf a line with its name and both shapes."""
    known, fresh = core.named_leaves(old), []

    def take(name, leaf):
        before = known.get(name)
        if before is not None and before.shape == leaf.shape:
            return before.astype(leaf.dtype)
        there = "absent" if before is None else before.shape
        fresh.append(f"{name} ({there} there, {leaf.shape} here)")
        return leaf

    leaves = [take(name, leaf) for name, leaf in core.named_leaves(new).items()]
    return jax.tree.unflatten(jax.tree.structure(new), leaves), fresh
