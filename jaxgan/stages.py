"""Growing GANs: which stage is played when, and what one hands on to the next.

`make` gives a Gan or a tuple of stages; what takes either asks here. A checkpoint of the step at
which a stage ends holds that stage's state: what the next one adds is drawn anew whenever it
begins, from the run's seed, so that a run which stops there goes on as one that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgan import core
from jaxgan.core import Array, Gan, GanState, PyTree, Stage

Made = Gan | tuple[Stage, ...]
"""What `make` returns: one Gan, or stages in their order, the first beginning at step 0."""


class Span(NamedTuple):
    """The iterations that a stage plays."""

    number: int
    stage: Stage
    first: int  # finished steps when it begins
    end: int  # and when it ends


def as_stages(made: Made, size: int, batch_size: int) -> tuple[Stage, ...]:
    """Returns the stages; a single Gan is one of that size and batch."""
    return (Stage(made, size, batch_size, 0),) if isinstance(made, Gan) else made


def wrapped(made: Made, wrapper: Callable[[Gan], Gan]) -> Made:
    """Returns what was made with a wrapper around its Gan, or around that of each stage."""
    if isinstance(made, Gan):
        return wrapper(made)
    return tuple(stage._replace(gan=wrapper(stage.gan)) for stage in made)


def playing(stages: tuple[Stage, ...], step: int) -> int:
    """Returns the number of the stage that goes on after `step` finished steps."""
    return max(number for number, stage in enumerate(stages) if stage.first <= step)


def holding(stages: tuple[Stage, ...], step: int) -> int:
    """Returns the number of the stage whose state a checkpoint of `step` holds."""
    return playing(stages, max(step - 1, 0))


def gan_at(made: Made, step: int) -> Gan:
    """Returns the Gan that fits a checkpoint of `step`.

    What does not depend on the stage (labels, latents) may be asked of any, so of step 0.
    """
    return made if isinstance(made, Gan) else made[holding(made, step)].gan


def pinned(gan: Gan, step: int) -> Gan:
    """Returns the Gan that draws as after `step` steps, whatever step it is told; for use only."""

    def at(context):
        return context._replace(step=jnp.int32(step))

    def generate(variables, batch, context):
        return gan.generate(variables, batch, at(context))

    def synthesise(variables, w, context):
        return gan.style.synthesise(variables, w, at(context))

    style = None if gan.style is None else gan.style._replace(synthesise=synthesise)
    return gan._replace(generate=generate, style=style)


def spans(stages: tuple[Stage, ...], first: int, end: int) -> Iterator[Span]:
    """Yields what is played from `first` finished steps to `end`, without stages of no length."""
    while first < end:
        number = playing(stages, first)
        last = number == len(stages) - 1
        until = end if last else min(end, stages[number + 1].first)
        yield Span(number, stages[number], first, until)
        first = until


def images_drawn(stages: tuple[Stage, ...], steps: int) -> int:
    """Returns how many real examples `steps` iterations draw: the position in the data."""
    return sum(
        core.images_drawn(stage.gan, stage.batch_size, end)
        - core.images_drawn(stage.gan, stage.batch_size, first)
        for _, stage, first, end in spans(stages, 0, steps)
    )


def steps_drawing(stages: tuple[Stage, ...], images: float) -> int:
    """Returns how many whole iterations draw at most so many real examples."""
    for number, stage in enumerate(stages):
        each = core.images_drawn(stage.gan, stage.batch_size, 1)
        steps = int(images / each)
        if number == len(stages) - 1 or stage.first + steps < stages[number + 1].first:
            return stage.first + steps
        images -= (stages[number + 1].first - stage.first) * each


def template(made: Made) -> Callable[[int], GanState]:
    """Returns step -> the shapes of the state that a checkpoint of it holds."""

    def shapes(step):
        gan = gan_at(made, step)
        return jax.eval_shape(lambda key: core.init_state(gan, key), jax.random.key(0))

    return shapes


def carry_over(old: GanState, gan: Gan, rng: Array) -> GanState:
    """Returns a stage's first state: that of the stage before, as far as names and shapes agree.

    What is new starts as the Gan begins, in the average, too; the optimisers start anew (Karras et
    al., 2017, arXiv:1710.10196, reset Adam with each resolution); the step count goes on.
    """
    new = core.init_state(gan, rng)
    return new.replace(
        step=old.step,
        variables=_taken(new.variables, old.variables),
        ema=_taken(new.ema, old.ema),
        memory=_taken(new.memory, old.memory),
        skipped=_taken(new.skipped, old.skipped),
    )


def _taken(new: PyTree, old: PyTree) -> PyTree:
    """The new tree with the old one's leaves wherever path and shape are the same."""
    known = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(old)}

    def pick(path, leaf):
        before = known.get(jax.tree_util.keystr(path))
        return leaf if before is None or before.shape != leaf.shape else before

    return jax.tree_util.tree_map_with_path(pick, new)
