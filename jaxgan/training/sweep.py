"""Trains many seeds, or many values of a setting, of one small GAN side by side in one program.

A state gets one more axis in front, of members, over which the usual steps are mapped. Each member
has a workdir of its own, which is an ordinary run's: it can be resumed and sampled alone. A network
that uses a fiftieth of a device trains nearly as fast in eight copies as in one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import pathlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from jaxgan import devices
from jaxgan.bars import bar
from jaxgan.core import AXIS, Gan, GanState, PyTree, init_state
from jaxgan.data import Dataset, DataSpec, batches
from jaxgan.errors import UsageError
from jaxgan.stages import Stages, images_drawn
from jaxgan.step import end_step, update_step
from jaxgan.training.check import check_batches, examples
from jaxgan.training.explosion import Explosion
from jaxgan.training.loop import Program, iterate, repeat_key, shown_rows
from jaxgan.training.progress import Clock, Compiling
from jaxgan.training.record import AfterSave, Record, Schedule
from jaxgan.training.signals import GracefulStop, Stopped

_AXES: dict[str, Any] = dict.fromkeys(("variables", "opt", "ema", "memory", "skipped"), 0)
MEMBERS = GanState(step=None, **_AXES)
"""The axes of a state of many. All are at one step, so that a lazy update is due for all."""

Make = Callable[[Mapping[str, Any]], Gan]
"""Values of fields of a Config -> the Gan; called while tracing, with traced values."""


class Member(NamedTuple):
    """One run of a sweep."""

    name: str  # such as "seed=0,learning_rate=0.0002"
    seed: int
    values: Mapping[str, float]  # of fields of the Config, the same fields for every member
    stages: Stages  # the member's own, which draw and measure
    workdir: pathlib.Path
    settings: Mapping[str, Any]  # what its `config.json` holds
    after_save: AfterSave | None = None


class Result(NamedTuple):
    """How a member ended."""

    name: str
    step: int
    metrics: Mapping[str, float]  # the last line of its log
    failed: bool  # too many updates in a row were undone, and it was not written any more


def check_field(make: Make, name: str, spec: DataSpec, batch_size: int) -> None:
    """Raises UsageError if a field of the Config cannot differ between members of one program."""

    def play(value, batch):
        gan, rng = make({name: value}), jax.random.key(0)
        state = init_state(gan, rng)
        for number in range(len(gan.updates)):
            state, _ = update_step(gan, number)(state, batch, rng)
        return end_step(gan)(state)

    try:
        one = jax.vmap(play, in_axes=(None, 0), out_axes=None, axis_name=AXIS)
        jax.eval_shape(one, np.float32(1), examples(spec, batch_size))
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError, TypeError):
        raise UsageError(
            f"{name} cannot be swept in one program: a shape, or which layers and terms there "
            "are, depends on it; train its values one after the other"
        ) from None


def compile_sweep(make: Make, members: Sequence[Member], micro_batches: int = 1) -> Program:
    """Returns the steps of all members, which are compiled at their first call.

    States and metrics have an axis of members in front, but for the step; so have batches and keys.
    """
    values = {
        name: np.asarray([member.values[name] for member in members], np.float32)
        for name in members[0].values
    }

    def update(number):
        def step(values, state, batch, rng):
            one = update_step(make(values), number, micro_batches)
            # Each member sees its whole batch: the axis of devices has a length of one.
            alone = jax.vmap(one, in_axes=(None, 0, None), out_axes=None, axis_name=AXIS)
            return alone(state, jax.tree.map(lambda x: x[None], batch), rng)

        return step

    def end(values, state):
        return end_step(make(values))(state)

    def side_by_side(step, *inputs, metrics=()):
        axes, places = MEMBERS, _places(len(members))
        mapped = jax.vmap(
            step, in_axes=(0, axes, *(0 for _ in inputs)), out_axes=(axes, 0) if metrics else axes
        )
        return jax.jit(
            functools.partial(mapped, values),
            in_shardings=(places, *inputs),
            out_shardings=(places, *metrics) if metrics else places,
            donate_argnums=0,
        )

    spread = devices.spreading(len(members))
    count = len(members[0].stages[0].gan.updates)
    steps = [side_by_side(update(n), spread, spread, metrics=(spread,)) for n in range(count)]
    return Program(tuple(steps), side_by_side(end))


def sweep(
    make: Make,
    members: Sequence[Member],
    dataset: Dataset,
    *,
    batch_size: int,
    steps: int,
    flip: bool = False,
    micro_batches: int = 1,
    schedule: Schedule = Schedule(),
    progress: bool = True,
) -> list[Result]:
    """Trains all members until `steps` iterations are done; goes on from what all have saved.

    A member whose updates keep being undone for not being finite is not written any more; the
    others go on. Members are spread over as many devices as divide their number.

    Args:
      make: makes the Gan of a member.
      members: the runs; `check_field` says which fields they may differ in.
      dataset: the pictures; each member draws them in the order of its seed.
      batch_size: of each member.
      steps: iterations.
      flip: whether to mirror pictures at random.
      micro_batches: in how many pieces a batch is looked at.
      schedule: how often something is written, for each member.
      progress: whether to draw a progress bar.

    Returns:
      How each member ended.

    Raises:
      UsageError: if the Gan grows, there are several processes, memory does not hold the members,
        or a workdir holds something else.
      CheckpointError: if a workdir cannot be written, or another run is using it.
      Stopped: after SIGTERM, SIGINT or SIGHUP, when the states have been saved.
    """
    stages = members[0].stages
    if len(stages) > 1:
        raise UsageError("a GAN that grows cannot be swept; train its members one after the other")
    if jax.process_count() > 1:
        raise UsageError("a sweep is trained by one process; start each member by itself")
    check_batches(stages, dataset, micro_batches)
    rows = shown_rows(stages, dataset, schedule.num_samples)
    with contextlib.ExitStack() as stack:
        records = [
            stack.enter_context(
                Record(
                    m.stages, m.workdir, schedule, m.seed, m.settings, rows, m.after_save, dataset
                )
            )
            for m in members
        ]
        state = _restored(records, members)
        first = 0 if state is None else int(state.step)
        results = [Result(member.name, first, {}, False) for member in members]
        if first >= steps:
            for number, record in enumerate(records):
                if first == steps > 0:
                    record.catch_up(first, _member(state, number), last=True)
            return results
        start = images_drawn(stages, first)
        data = _batches(members, dataset, batch_size, start, flip)
        stack.enter_context(contextlib.closing(data))
        stop = stack.enter_context(GracefulStop())
        compiling = Compiling(progress)
        program, data = _compiled(make, members, data, micro_batches)
        for record in records:
            record.begin(first)
        state = _first(make, members) if state is None else state
        state = jax.device_put(state, _places(len(members)))
        for number, record in enumerate(records):
            (record.catch_up if first else record.sample)(first, _member(state, number))
        shown_bar = stack.enter_context(bar(steps, "step", shown=progress, initial=first))
        clock = Clock(stages, first)
        explosions = [Explosion(member.name) for member in members]
        latest: dict[str, Any] = _interrupted(records)
        iterations = iterate(stages[0].gan, program, state, data, [m.seed for m in members])
        pause = schedule.pause(first, steps)
        for step, state, metrics in iterations:  # noqa: B020
            if step == first + 1:
                compiling.ends()
                stop.hear_interrupts()
                clock.pause(step)
            latest |= metrics
            shown_bar.update()
            stopping = stop.reached()
            last = step >= steps or stopping
            if not last and step < pause:
                continue
            pause = schedule.pause(step, steps)
            stop.saving = last
            regular = step >= steps or step % schedule.log_every == 0
            if regular or stopping:
                values = {name: np.asarray(value) for name, value in latest.items()}
                results = _logged(results, step, values | clock.measure(step), schedule.max_skipped)
                latest = {}
            for number, (record, result) in enumerate(zip(records, results, strict=True)):
                if not result.failed:
                    if result.step == step:
                        explosions[number](step, result.metrics)
                        record.metrics(step, result.metrics, None if regular else stop.requested)
                    mine = _member(state, number)
                    record.write(step, mine, last=step >= steps, stopping=stopping)
            clock.pause(step)
            if last or all(result.failed for result in results):
                break
        for record in records:
            record.finish()
        if step < steps and stop.requested is not None:
            raise Stopped(128 + stop.requested)
        return results


def _first(make: Make, members: Sequence[Member]) -> GanState:
    """The states of all members before the first step."""
    keys = jnp.stack([jax.random.split(jax.random.key(member.seed))[0] for member in members])
    init = functools.partial(init_state, make(members[0].values))
    return jax.jit(jax.vmap(init, out_axes=MEMBERS))(keys)


def _restored(records, members) -> GanState | None:
    """The states that were saved last by all members; None if none was saved."""
    steps = [set(record.steps()) for record in records]
    if not any(steps):
        return None
    shared = set.intersection(*steps)
    if not shared:
        missing = [m.name for m, there in zip(members, steps, strict=True) if not there]
        raise UsageError(
            "the members of this sweep have no step in common"
            + f", {', '.join(missing)} none at all" * bool(missing)
            + "; name another --workdir, or go on with each by itself"
        )
    states = [record.restore(max(shared)) for record in records]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    return stacked.replace(step=states[0].step)


def _interrupted(records):
    """The terms [members] of the line that a signal left, if the sweep goes on from there."""
    terms = [record.interrupted() for record in records]
    shared = set.intersection(*map(set, terms))
    return {name: np.array([mine[name] for mine in terms]) for name in shared}


def _member(state: GanState, number: int) -> GanState:
    """One member's state, as an ordinary run has it."""
    alone = jax.tree.map(lambda x: x[number], state.replace(step=None))
    return devices.replicate(alone.replace(step=state.step))


def _batches(members, dataset, batch_size, start, flip) -> Generator[PyTree]:
    """Batches [members, b, ...], each member's in the order of its seed."""
    settings = {"batch_size": batch_size, "start": start, "flip": flip}
    with contextlib.ExitStack() as stack:
        loaders = [
            stack.enter_context(batches(dataset, seed=member.seed, **settings))
            for member in members
        ]
        for drawn in zip(*loaders, strict=True):
            yield devices.spread(jax.tree.map(lambda *parts: np.stack(parts), *drawn))


def _logged(results, step, values, limit):
    """The results with a line for each member that has not failed before."""
    lines = []
    for number, result in enumerate(results):
        if result.failed:
            lines.append(result)
            continue
        mine = {name: float(x[number]) if np.ndim(x) else x for name, x in values.items()}
        failed = mine["skipped_in_row"] >= limit
        if failed:
            logging.warning(
                "%s: %d updates in a row were undone by step %d for not being finite; it is not "
                "written any more",
                result.name,
                limit,
                step,
            )
        lines.append(Result(result.name, step, mine, failed))
    return lines


def _places(members: int) -> GanState:
    """Where a state of many lies: members are spread over the devices, the step is on each."""
    spread = devices.spreading(members)
    return jax.tree.map(
        lambda axis: devices.spreading(None) if axis is None else spread,
        MEMBERS,
        is_leaf=lambda axis: axis is None,
    )


def _compiled(make, members, data, micro_batches):
    """The program, if a device's memory holds the members; and the batches, of which it took one.

    Raises:
      UsageError: if it does not.
    """
    program, count = compile_sweep(make, members, micro_batches), len(members)
    state = jax.eval_shape(functools.partial(_first, make, members))
    batch, keys = next(data), repeat_key([member.seed for member in members], 0)
    updates = [step.lower(state, batch, keys).compile() for step in program.updates]
    needed, memory = max(map(devices.bytes_of, updates)), devices.memory()
    if needed > memory:
        raise UsageError(
            f"{count} members need {needed / 1e9:.3g} GB, this machine has {memory / 1e9:.3g} a "
            f"device; {int(count * memory / needed)} fit"
        )
    return Program(tuple(updates), program.end), itertools.chain([batch], data)
