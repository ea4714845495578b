"""What a run will cost, before it is started, on the devices that are here or on others."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Generator, Iterator, Mapping

import jax

from jaxgan import devices
from jaxgan.core import AXIS, Gan, Stage, images_drawn, init_state
from jaxgan.data import Dataset, DataSpec, batches
from jaxgan.stages import Stages, spans
from jaxgan.step import update_step
from jaxgan.training import blocks, targets
from jaxgan.training.check import check_batches, examples
from jaxgan.training.loop import compile_program, init, iterate
from jaxgan.training.targets import Target

TIMED_STEPS = 3
_LESS = "try a smaller batch, or more pieces of it (--gradient_accumulation)"


def dry_run(
    stages: Stages,
    dataset: Dataset,
    steps: int,
    seed: int,
    micro_batches: int = 1,
    on_device: bool = False,
    target: Target | None = None,
) -> Iterator[str]:
    """Builds, compiles and times a few steps; yields lines for people and writes nothing.

    FLOPs and memory are the compiler's estimates for one device; what does not fit its memory is
    not timed. Of a Gan that grows, each stage that the steps reach has lines of its own.

    Args:
      stages: the method.
      dataset: the pictures.
      steps: iterations.
      seed: of weights and the order of the pictures.
      micro_batches: in how many pieces a device looks at its part of a batch.
      on_device: whether blocks of iterations run inside one program.
      target: devices for which it is compiled only, and the time is the compiler's estimate, if it
        makes one; None for those of this run.

    Raises:
      UsageError: if a batch cannot be divided as devices, pieces and groups want it.
    """
    where, total = target or targets.here(), 0.0
    check_batches(stages, dataset, micro_batches, where.counts()[0])
    for number, stage, first, end in spans(stages, 0, max(steps, 1)):
        if len(stages) > 1:
            yield (
                f"stage {number + 1} of {len(stages)}: {stage.size} px, batch {stage.batch_size}, "
                f"steps {first:,} to {end:,}"
            )
        try:
            needed, second = yield from _cost_of(stage, dataset, micro_batches, on_device, where)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            said = str(error).partition("\n")[0].removeprefix("RESOURCE_EXHAUSTED: ")
            yield f"does not fit {where.name} ({said.rstrip('.')}); {_LESS}"
            return
        if needed > where.memory:
            they = f"{target.name} has" if target else "this machine has"
            there = f"{where.memory / 1e9:.3g} a device"
            yield f"needs {needed / 1e9:.3g} GB, {they} {there}; {_LESS}"
            return
        if target is None:
            second = _measured(stage, dataset, seed, micro_batches, on_device)
        if second is not None:
            drawn = images_drawn(stage.gan, stage.batch_size, 1)
            by = "" if target is None else ", by its compiler's estimate"
            yield (
                f"{second:.3g} s a step, {drawn / second:,.0f} images/s, "
                f"{second * 1000 / drawn:.3g} s/kimg on {where.name}, batch {stage.batch_size}{by}"
            )
            total += (end - first) * second
    if total:
        yield f"{steps:,} steps take about {_duration(total if steps else 0)}"


def lowered_cost(
    gan: Gan, number: int, spec: DataSpec, size: int, platform: str, micro_batches: int = 1
) -> Mapping[str, float]:
    """Returns what an update costs a device before it is optimized, by the names of XLA.

    Args:
      gan: the method.
      number: the update's.
      spec: of the pictures.
      size: examples that the device looks at.
      platform: "cpu", "cuda" or "tpu"; no compiler for it need be there.
      micro_batches: in how many pieces.
    """
    step = update_step(gan, number, micro_batches)
    alone = jax.vmap(step, in_axes=(None, 0, None), out_axes=None, axis_name=AXIS)
    key = jax.random.key(0)
    state = jax.eval_shape(functools.partial(init_state, gan), key)
    traced = jax.jit(alone).trace(state, examples(spec, size), key)
    return traced.lower(lowering_platforms=(platform,)).cost_analysis()


def _cost_of(
    stage: Stage, dataset: Dataset, micro_batches: int, on_device: bool, where: Target
) -> Generator[str, None, tuple[int, float | None]]:
    """Yields a stage's lines; returns how many bytes of a device's memory its largest program
    takes, and the seconds of a step if the compiler estimates them. Allocates nothing."""
    gan, _, batch_size, _ = stage
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(functools.partial(init_state, gan), key)
    program = compile_program(gan, micro_batches, where.devices)
    count, local = where.counts()
    batch = examples(dataset.spec, batch_size // count, local)
    for name, variables in state.variables.items():
        yield f"{name}: {_count(variables['params']):,} parameters"
    most, end = 0, _compiled(program.end, devices.shapes(state, where.devices))
    seconds = where.seconds(end)
    for number, update in enumerate(gan.updates):
        compiled = _compiled(program.updates[number], state, batch, key)
        needed, took = devices.bytes_of(compiled), where.seconds(compiled)
        # After CUDA's compiler has optimized a program, it does not say.
        cost = compiled.cost_analysis() or lowered_cost(
            gan, number, dataset.spec, batch_size // count, "cuda", micro_batches
        )
        facts = [f"{cost['flops'] / 1e9:.3g} GFLOP", f"{needed / 2**20:,.0f} MiB"]
        if took is not None:
            facts += [f"{cost['bytes accessed'] / 1e9:.3g} GB accessed", f"{took * 1e3:.3g} ms"]
        facts += (f"{times} {name}" for name, times in targets.collectives(compiled).items())
        yield f"{_describe(update)}: {', '.join(facts)}"
        most = max(most, needed)
        if took is not None:
            seconds += took * update.repeat / update.every
    if on_device:
        block = blocks.lower(
            gan,
            state,
            dataset,
            batch_size=batch_size,
            memory=where.memory,
            micro_batches=micro_batches,
            on=where.devices,
        )
        needed = devices.bytes_of(block.compile())
        yield f"a block of steps, with the pictures: {needed / 2**20:,.0f} MiB"
        most = max(most, needed)
    return most, seconds


def _compiled(function, *arguments):
    return function.lower(*arguments).compile()


def _measured(
    stage: Stage, dataset: Dataset, seed: int, micro_batches: int, on_device: bool
) -> float:
    """Returns how many seconds a step takes here."""
    gan, _, batch_size, _ = stage
    state = init(gan, seed)
    with contextlib.ExitStack() as stack:
        if on_device:
            iterations = blocks.blocks(
                gan,
                state,
                dataset,
                batch_size=batch_size,
                seed=seed,
                flip=False,
                start=0,
                pause=_later,
                micro_batches=micro_batches,
                length=TIMED_STEPS,
            )
        else:
            part = devices.process_part(batch_size)
            data = batches(
                dataset, seed=seed, batch_size=batch_size, part=part, place=devices.shard
            )
            stack.enter_context(contextlib.closing(data))
            program = compile_program(gan, micro_batches)
            iterations = iterate(gan, program, state, data, seed)
        first, state, _ = next(iterations)
        jax.block_until_ready(state)
        began, step = time.monotonic(), first
        while step < first + TIMED_STEPS:
            step, state, _ = next(iterations)
        jax.block_until_ready(state)
    return (time.monotonic() - began) / TIMED_STEPS


def _later(step: int) -> int:
    return step + TIMED_STEPS


def _count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _describe(update) -> str:
    often = f", {update.repeat} times a step" if update.repeat > 1 else ""
    often += f", every {update.every} steps" if update.every > 1 else ""
    terms = [name for name, (weight, _) in update.objective.items() if weight]
    return f"update of the {update.player} ({', '.join(terms)}{often})"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
