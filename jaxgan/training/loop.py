"""The loop: it alone decides when an update runs, and when something is written down."""

from __future__ import annotations

import contextlib
import functools
import math
import pathlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import devices
from jaxgan.bars import bar
from jaxgan.core import Array, Gan, GanState, draws, init_state
from jaxgan.data import Dataset, batches, conditions_to_show
from jaxgan.errors import AdviceError
from jaxgan.sampling.draw import Rows, Translations
from jaxgan.stages import (
    Span,
    Stage,
    Stages,
    as_stages,
    carry_over,
    images_drawn,
    saved_stage,
    spans,
)
from jaxgan.step import end_step, update_step
from jaxgan.training.blocks import blocks
from jaxgan.training.check import check_batches
from jaxgan.training.explosion import Explosion
from jaxgan.training.progress import Clock, Compiling, headline
from jaxgan.training.record import AfterSave, Record, Schedule
from jaxgan.training.signals import GracefulStop, Stopped


class NonFiniteError(AdviceError, RuntimeError):
    """Too many updates in a row had a loss or gradient that was not finite."""


class Program(NamedTuple):
    """A Gan's compiled steps: each of its updates, the end of an iteration, and the whole of one.

    `whole` is there if every iteration plays every update once, on one batch. What two updates can
    compute side by side then is, and small networks wait less often for the next program.
    """

    updates: tuple[Callable, ...]
    end: Callable
    whole: Callable | None = None


def compile_program(
    gan: Gan, micro_batches: int = 1, on: Sequence[jax.Device] | None = None
) -> Program:
    """Returns the program of a Gan; compilation happens at the first call of each step.

    `micro_batches` is in how many pieces a device looks at its part of a batch, `on` names devices
    that are not this run's.
    """
    steps = [update_step(gan, number, micro_batches) for number in range(len(gan.updates))]
    end = end_step(gan)

    def whole(state, batch, rng):
        metrics = {}
        for step in steps:
            state, measured = step(state, batch, rng)
            metrics |= measured
        return end(state), metrics

    alike = all(update.every == update.repeat == 1 and not update.fresh for update in gan.updates)
    return Program(
        tuple(devices.pmap(step, on) for step in steps),
        devices.replicated_jit(end),
        devices.pmap(whole, on) if alike else None,
    )


def init(gan: Gan, seed: int) -> GanState:
    """Returns the first state of a run, on all devices."""
    key, _ = jax.random.split(jax.random.key(seed))
    return devices.replicate(jax.jit(lambda key: init_state(gan, key))(key))


def grow(state: GanState, gan: Gan, number: int, seed: int) -> GanState:
    """Returns the first state of stage `number`, the Gan's, from the last one of another."""
    key, _ = jax.random.split(jax.random.key(seed))
    # Through the host, so that a restored state and one that was just trained are the same to it.
    old = jax.tree.map(np.asarray, state)
    carry = jax.jit(lambda old, key: carry_over(old, gan, key))
    return devices.replicate(carry(old, jax.random.fold_in(key, number)))


def iterate(
    gan: Gan,
    program: Program,
    state: GanState,
    data: Iterator[Mapping[str, Array]],
    seed: int | Sequence[int],
) -> Iterator[tuple[int, GanState, Mapping[str, Array]]]:
    """Yields (finished steps, state, metrics) after each iteration, without end.

    The buffers of a state are given away when the next one is asked for.

    Args:
      gan: the method.
      program: its compiled steps.
      state: where to go on, replicated.
      data: batches as `devices.shard` sends them, from the state's position on.
      seed: the run's; those of several that the program trains side by side.
    """
    most = max(update.repeat for update in gan.updates)
    keys = [repeat_key(seed, repeat) for repeat in range(most)]
    step = int(state.step)
    while program.whole is not None:
        state, metrics = program.whole(state, next(data), keys[0])
        step += 1
        yield step, state, metrics
    while True:
        metrics = {}
        for number, update in enumerate(gan.updates):
            if step % update.every:
                continue
            for repeat in range(update.repeat):
                if draws(gan, number):
                    batch = next(data)
                state, measured = program.updates[number](state, batch, keys[repeat])
                metrics |= measured
        state = program.end(state)
        step += 1
        yield step, state, metrics


def _until(pause, end, step):
    return min(pause(step), end)


def repeat_key(seed: int | Sequence[int], repeat: int) -> Array:
    """Returns a run's key for a repeat of an update; [members] of them for several seeds."""
    if not isinstance(seed, int):
        return jnp.stack([repeat_key(each, repeat) for each in seed])
    _, key = jax.random.split(jax.random.key(seed))
    return jax.random.fold_in(key, repeat)


def play(
    stages: tuple[Stage, ...],
    dataset: Dataset,
    state: GanState,
    steps: int,
    *,
    seed: int,
    flip: bool,
    pause: Callable[[int], int],
    micro_batches: int = 1,
    on_device: bool = False,
) -> Generator[tuple[Span, int, GanState, Mapping[str, Array]]]:
    """Yields (what is played, finished steps, state, metrics) after each iteration, or `on_device`
    after a block of them that goes no further than `pause` says.

    It goes from the state, which is that of a checkpoint, to `steps`, through the stages between.
    """
    for span in spans(stages, int(state.step), steps):
        number, (gan, _, batch_size, _), first, end = span
        if number != saved_stage(stages, first):
            state = grow(state, gan, number, seed)
        what: dict[str, Any] = {
            "batch_size": batch_size,
            "seed": seed,
            "flip": flip,
            "start": images_drawn(stages, first),
        }
        with contextlib.ExitStack() as stack:
            if on_device:
                iterations = blocks(
                    gan,
                    state,
                    dataset,
                    **what,
                    pause=functools.partial(_until, pause, end),
                    micro_batches=micro_batches,
                )
            else:
                part = devices.process_part(batch_size)
                data = batches(dataset, **what, part=part, place=devices.shard)
                stack.enter_context(contextlib.closing(data))
                program = compile_program(gan, micro_batches)
                iterations = iterate(gan, program, state, data, seed)
            for step, state, metrics in iterations:
                yield span, step, state, metrics
                if step == end:
                    break


def train(
    gan: Gan | tuple[Stage, ...],
    dataset: Dataset,
    *,
    batch_size: int,
    steps: int,
    seed: int = 0,
    flip: bool = False,
    micro_batches: int = 1,
    on_device: bool = False,
    workdir: str | pathlib.Path | None = None,
    schedule: Schedule = Schedule(),
    settings: Mapping[str, Any] = MappingProxyType({}),
    start: Callable[[GanState], GanState] | None = None,
    after_save: AfterSave | None = None,
    begins: Callable[[GanState], None] | None = None,
    inputs: np.ndarray | None = None,
    progress: bool = True,
) -> GanState:
    """Trains until `steps` iterations are done; goes on from the workdir's last checkpoint.

    The result depends on the arguments only, not on how often the run was interrupted.

    Args:
      gan: the method, or the stages of one that grows.
      dataset: the pictures.
      batch_size: over all devices; stages have their own.
      steps: iterations, each one step of the generator for most methods.
      seed: of weights, noise and the order of the pictures.
      flip: whether to mirror pictures at random.
      micro_batches: pieces of a batch whose gradients are averaged, to save memory; what looks at a
        whole batch (batch normalization, feature matching, groups) then looks at a piece.
      on_device: whether blocks of iterations run inside one program (see `blocks`), for GPUs and
        TPUs; the two agree to rounding, so a run that goes on keeps to what it began with.
      workdir: where checkpoints, metrics and samples go; None writes nothing.
      schedule: how often.
      settings: what the workdir's `config.json` holds; a run that goes on must have the same (but
        for those in `workdir.MAY_CHANGE`).
      start: changes the first state of a new run (fine-tuning).
      after_save: what is done with the saved state every `schedule.evaluate_every` steps and at
        the end, such as an `EvaluateSaved`.
      begins: is called with the state from which the run begins or goes on.
      inputs: what sample grids translate, uint8 [N, H, W, C], if the method translates; None for
        the first of the pictures.
      progress: whether to draw a progress bar, and to say what is waited for.

    Returns:
      The last state, on all devices.

    Raises:
      UsageError: if a batch cannot be divided as devices, pieces and groups want it, or the
        workdir holds something else.
      CheckpointError: if the workdir cannot be written, or another run is using it.
      NonFiniteError: after `schedule.max_skipped` undone updates in a row; the checkpoints stay.
      Stopped: after SIGTERM, SIGINT or SIGHUP, when the state has been saved.
    """
    stages = as_stages(gan, dataset.spec.size, batch_size)
    check_batches(stages, dataset, micro_batches)
    with contextlib.ExitStack() as stack:
        rows = shown_rows(stages, dataset, schedule.num_samples, inputs)
        record = stack.enter_context(
            Record(stages, workdir, schedule, seed, settings, rows, after_save, dataset)
        )
        restored = record.restore()
        if restored is not None:
            state = devices.replicate(restored)
        else:
            state = init(stages[0].gan, seed)
            state = state if start is None else devices.replicate(start(state))
        first = int(state.step)
        if first >= steps:
            if first == steps > 0:
                record.catch_up(first, state, last=True)
            return state

        iterations = play(
            stages,
            dataset,
            state,
            steps,
            seed=seed,
            flip=flip,
            pause=functools.partial(schedule.pause, steps=steps),
            micro_batches=micro_batches,
            on_device=on_device,
        )
        stack.enter_context(contextlib.closing(iterations))
        stop = stack.enter_context(GracefulStop())
        record.begin(first)
        if begins is not None:
            begins(state)
        if first == 0:
            record.sample(0, state)
        else:
            record.catch_up(first, state)
        shown = progress and devices.is_main()
        compiling = Compiling(shown)
        shown_bar = stack.enter_context(bar(steps, "step", shown=shown, initial=first))
        watch = _Watch(schedule.max_skipped, record)
        explosion = Explosion()
        clock = Clock(stages, first)
        before = first
        # Since the last regular line: lazy updates seldom run just before it.
        latest: dict[str, Any] = record.interrupted()

        for span, step, state, metrics in iterations:
            grown = step == span.end < steps
            watch(step, metrics)
            if before == first:
                stop.hear_interrupts()
            if before == span.first:
                compiling.ends()
                clock.pause(step)  # what was compiled does not count
            if grown:
                compiling = Compiling(shown)
            latest |= metrics
            stopping = stop.reached()
            last = step >= steps or stopping
            if last:
                watch(step, metrics)  # for once without delay
            regular = step >= steps or step % schedule.log_every == 0
            if regular or stopping:
                values = {name: float(value) for name, value in latest.items()}
                latest = {}
                values = clock.measure(step) | values
                size = f"{span.stage.size} px, " * (len(stages) > 1)
                shown_bar.set_postfix_str(size + headline(values), refresh=False)
                explosion(step, values)
                record.metrics(step, values, None if regular else stop.requested)
            shown_bar.update(step - before)
            before = step
            stop.saving = last
            if record.write(step, state, last=step >= steps, grown=grown, stopping=stopping):
                clock.pause(step)
            if last:
                break
        record.end()
        if step < steps:
            raise Stopped(128 + stop.requested)
        return state


def shown_rows(
    stages: Stages, dataset: Dataset, num: int, inputs: np.ndarray | None = None
) -> Rows | Translations | None:
    """Returns what a sample grid of about `num` pictures shows in its rows; None without labels.

    A Gan that translates shows what it makes of `inputs`, or of the first pictures of the data.
    """
    gan, names = stages[0].gan, dataset.spec.label_names
    if not gan.conditional:
        return None
    conditions = conditions_to_show(dataset, num)
    if gan.targets is None:
        return Rows.of(conditions, names, max(1, num // len(conditions)))
    images = dataset.images if inputs is None else inputs
    return Translations.of(images[: max(1, num // (1 + len(conditions)))], conditions, names)


class _Watch:
    """Ends a run whose updates keep being undone.

    It looks at the iteration before the last one, so that the device need not wait, and the host
    is never more than one iteration ahead.
    """

    def __init__(self, limit: int, record: Record) -> None:
        self._before: Mapping[str, Array] | None
        self._limit, self._record, self._before = limit, record, None

    def __call__(self, step: int, metrics: Mapping[str, Array]) -> None:
        before, self._before = self._before, metrics
        if before is None or int(before["skipped_in_row"]) < self._limit:
            return
        names = [name for name, value in before.items() if not math.isfinite(value)]
        # A sum is so because of one of its terms.
        names = [name for name in names if not name.endswith("/loss")] or names
        last = self._record.last_saved()
        kept = "No checkpoint was saved" if last is None else f"The checkpoint of step {last} stays"
        raise NonFiniteError(
            f"stopped at step {step}: {self._limit} updates in a row were undone because of "
            f"{', '.join(names) or 'a gradient or weight'} not being finite. {kept}; try a lower "
            "learning rate (--set learning_rate=...)"
        )
