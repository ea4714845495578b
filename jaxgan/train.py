"""The loop: it alone decides when an update runs, and when something is written down."""

from __future__ import annotations

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgan import parallel, sample
from jaxgan.core import Array, Gan, GanState, draws, init_state
from jaxgan.data import Dataset, batches, check_batch, conditions_to_show
from jaxgan.evaluate import Evaluator
from jaxgan.progress import Clock, headline, progress_bar
from jaxgan.record import Record, Schedule
from jaxgan.signals import GracefulStop, Stopped
from jaxgan.stages import (
    Made,
    Span,
    Stage,
    as_stages,
    carry_over,
    gan_at,
    holding,
    images_drawn,
    spans,
)
from jaxgan.step import end_step, update_step


class NonFiniteError(RuntimeError):
    """Too many updates in a row had a loss or gradient that was not finite."""


class Program(NamedTuple):
    """A Gan's compiled steps: each of its updates, the end of an iteration, and the whole of one.

    `whole` is there if every iteration plays every update once, on one batch. What two updates can
    compute side by side then is, and small networks wait less often for the next program.
    """

    updates: tuple[Callable, ...]
    end: Callable
    whole: Callable | None = None


def compile_program(gan: Gan, micro_batches: int = 1) -> Program:
    """Returns the program of a Gan; compilation happens at the first call of each step.

    `micro_batches` is in how many pieces a device looks at its part of a batch.
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
        tuple(map(parallel.pmap, steps)),
        parallel.replicated_jit(end),
        parallel.pmap(whole) if alike else None,
    )


def init(gan: Gan, seed: int) -> GanState:
    """Returns the first state of a run, on all devices."""
    key, _ = jax.random.split(jax.random.key(seed))
    return parallel.replicate(jax.jit(lambda key: init_state(gan, key))(key))


def grow(state: GanState, gan: Gan, number: int, seed: int) -> GanState:
    """Returns the first state of stage `number`, the Gan's, from the last one of another."""
    key, _ = jax.random.split(jax.random.key(seed))
    # Through the host, so that a restored state and one that was just trained are the same to it.
    old = jax.tree.map(np.asarray, state)
    carry = jax.jit(lambda old, key: carry_over(old, gan, key))
    return parallel.replicate(carry(old, jax.random.fold_in(key, number)))


def iterate(
    gan: Gan,
    program: Program,
    state: GanState,
    data: Iterator[Mapping[str, np.ndarray]],
    seed: int,
) -> Iterator[tuple[int, GanState, Mapping[str, Array]]]:
    """Yields (finished steps, state, metrics) after each iteration, without end.

    The buffers of a state are given away when the next one is asked for.

    Args:
      gan: the method.
      program: its compiled steps.
      state: where to go on, replicated.
      data: batches [b, ...] of this process, from the state's position on.
      seed: the run's.
    """
    _, key = jax.random.split(jax.random.key(seed))
    most = max(update.repeat for update in gan.updates)
    keys = [jax.random.fold_in(key, repeat) for repeat in range(most)]
    step = int(state.step)
    while program.whole is not None:
        state, metrics = program.whole(state, parallel.shard(next(data)), keys[0])
        step += 1
        yield step, state, metrics
    while True:
        metrics = {}
        for number, update in enumerate(gan.updates):
            if step % update.every:
                continue
            for repeat in range(update.repeat):
                if draws(gan, number):
                    batch = parallel.shard(next(data))
                state, measured = program.updates[number](state, batch, keys[repeat])
                metrics |= measured
        state = program.end(state)
        step += 1
        yield step, state, metrics


def play(
    stages: tuple[Stage, ...],
    dataset: Dataset,
    state: GanState,
    steps: int,
    *,
    seed: int,
    flip: bool,
    micro_batches: int = 1,
) -> Iterator[tuple[Span, int, GanState, Mapping[str, Array]]]:
    """Yields (what is played, finished steps, state, metrics) after each iteration.

    It goes from the state, which is that of a checkpoint, to `steps`, through the stages between.
    """
    for span in spans(stages, int(state.step), steps):
        number, (gan, _, batch_size, _), first, end = span
        if number != holding(stages, first):
            state = grow(state, gan, number, seed)
        data = batches(
            dataset,
            seed=seed,
            batch_size=batch_size,
            start=images_drawn(stages, first),
            flip=flip,
            part=parallel.process_part(batch_size),
        )
        with contextlib.closing(data):
            program = compile_program(gan, micro_batches)
            iterations = iterate(gan, program, state, data, seed)
            for step, state, metrics in iterations:
                yield span, step, state, metrics
                if step == end:
                    break


def train(
    gan: Made,
    dataset: Dataset,
    *,
    batch_size: int,
    steps: int,
    seed: int = 0,
    flip: bool = False,
    micro_batches: int = 1,
    workdir: str | pathlib.Path | None = None,
    schedule: Schedule = Schedule(),
    settings: Mapping[str, Any] = MappingProxyType({}),
    start: Callable[[GanState], GanState] | None = None,
    evaluator: Evaluator | None = None,
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
        whole batch (batch normalisation, feature matching, groups) then looks at a piece.
      workdir: where checkpoints, metrics and samples go; None writes nothing.
      schedule: how often.
      settings: what the workdir's `config.json` shall hold; a run that goes on must have the same
        (but for those in `workdir.FREE`).
      start: changes the first state of a new run (fine-tuning).
      evaluator: measures the generator, `schedule.evaluate_every` steps and at the end.
      progress: whether to draw a progress bar.

    Returns:
      The last state, on all devices.

    Raises:
      UsageError: if the batch cannot be divided among the devices, or the workdir holds something
        else.
      CheckpointError: if the workdir cannot be written, or another run is using it.
      NonFiniteError: after `schedule.max_skipped` undone updates in a row; the checkpoints stay.
      Stopped: after SIGTERM or SIGINT, when the state has been saved.
    """
    stages = as_stages(gan, dataset.spec.size, batch_size)
    for stage in stages:
        parallel.check_divisible(stage.batch_size, micro_batches)
        check_batch(dataset, stage.batch_size)
    with contextlib.ExitStack() as stack:
        conditional = gan_at(gan, 0).conditional
        rows = _rows(dataset, schedule.num_samples) if conditional else None
        record = stack.enter_context(
            Record(gan, workdir, schedule, seed, settings, rows, evaluator)
        )
        restored = record.restore()
        if restored is not None:
            state = parallel.replicate(restored)
        else:
            state = init(gan_at(gan, 0), seed)
            state = state if start is None else parallel.replicate(start(state))
        first = int(state.step)
        if first >= steps:
            return state

        iterations = play(
            stages, dataset, state, steps, seed=seed, flip=flip, micro_batches=micro_batches
        )
        stack.enter_context(contextlib.closing(iterations))
        stop = stack.enter_context(GracefulStop())
        record.begin(first)
        bar = stack.enter_context(progress_bar(first, steps, progress and parallel.is_main()))
        watch = _Watch(schedule.max_skipped)
        clock = Clock(stages, first)
        latest: dict[str, Array] = {}  # since the last line: lazy updates seldom run just before it

        for span, step, state, metrics in iterations:
            grown = step == span.end < steps
            watch(step, metrics)
            if step == span.first + 1:
                clock.pause(step)  # what was compiled does not count
            latest |= metrics
            last = step >= steps or stop.requested is not None
            if last:
                watch(step, metrics)  # for once without delay
            if last or step % schedule.log_every == 0:
                values = {name: float(value) for name, value in latest.items()}
                latest = {}
                values = clock.measure(step) | values
                shown = headline(values)
                if len(stages) > 1:
                    shown = f"{span.stage.size} px, {shown}"
                bar.set_postfix_str(shown, refresh=False)
                record.metrics(step, values)
            bar.update()
            # The save first: who sent the signal may not wait for a picture.
            measured = evaluator and (last or step % schedule.evaluate_every == 0)
            if last or grown or measured or step % schedule.checkpoint_every == 0:
                stop.saving = last
                record.save(step, state)
            if last or step % schedule.sample_every == 0:
                record.sample(step, state)
            if measured and stop.requested is None:
                record.evaluate(step, state)
                clock.pause(step)
            if last:
                break
        record.finish()
        if step < steps:
            raise Stopped(128 + stop.requested)
        return state


def _rows(dataset: Dataset, num: int) -> sample.Rows:
    conditions = conditions_to_show(dataset, num)
    return sample.Rows.of(conditions, dataset.spec.label_names, max(1, num // len(conditions)))


class _Watch:
    """Ends a run whose updates keep being undone.

    It looks at the iteration before the last one, so that the device need not wait, and the host
    is never more than one iteration ahead.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._before = limit, None

    def __call__(self, step: int, metrics: Mapping[str, Array]) -> None:
        before, self._before = self._before, metrics
        if before is None or int(before["skipped_in_row"]) < self._limit:
            return
        names = [name for name, value in before.items() if not math.isfinite(value)]
        raise NonFiniteError(
            f"stopped at step {step}: {self._limit} updates in a row were undone because of "
            f"{', '.join(names) or 'a gradient or weight'} not being finite. The last good "
            "checkpoint is kept; try a lower learning rate (--set learning_rate=...)"
        )
