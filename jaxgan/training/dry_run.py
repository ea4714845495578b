"""What a run will cost, before it is started."""

from __future__ import annotations

import contextlib
import functools
import math
import time

import jax

from jaxgan import devices
from jaxgan.core import Stage, images_drawn, init_state
from jaxgan.data import Dataset, Loader, batches
from jaxgan.stages import Stages, spans
from jaxgan.training.check import check_batches
from jaxgan.training.loop import compile_program, init, iterate

TIMED_STEPS = 3


def dry_run(stages: Stages, dataset: Dataset, steps: int, seed: int, micro_batches: int = 1) -> str:
    """Builds, compiles and times a few steps; returns a table for people and writes nothing.

    FLOPs and memory are the compiler's estimates for one device; what does not fit its memory is
    not timed. Of a Gan that grows, each stage that the steps reach has its own table.

    Raises:
      UsageError: if a batch cannot be divided as devices, pieces and groups want it.
    """
    check_batches(stages, dataset, micro_batches)
    lines, total = [], 0.0
    for number, stage, first, end in spans(stages, 0, max(steps, 1)):
        if len(stages) > 1:
            lines.append(
                f"stage {number + 1} of {len(stages)}: {stage.size} px, batch {stage.batch_size}, "
                f"steps {first:,} to {end:,}"
            )
        cost, needed = _cost_of(stage, dataset, seed, micro_batches)
        lines += cost
        memory = devices.memory()
        if needed > memory:
            lines.append(
                f"needs {needed / 1e9:.3g} GB, this machine has {memory / 1e9:.3g} a device; try a "
                "smaller batch, or more pieces of it (--gradient_accumulation)"
            )
            return "\n".join(lines)
        timing, second = _timing_of(stage, dataset, seed, micro_batches)
        lines.append(timing)
        total += (end - first) * second
    return "\n".join([*lines, f"{steps:,} steps take about {_duration(total if steps else 0)}"])


def _cost_of(
    stage: Stage, dataset: Dataset, seed: int, micro_batches: int
) -> tuple[list[str], int]:
    """Returns a stage's lines, and how many bytes its largest update takes; allocates nothing."""
    gan, _, batch_size, _ = stage
    state = jax.eval_shape(functools.partial(init_state, gan), jax.random.key(0))
    program = compile_program(gan, micro_batches)
    lines = [
        f"{name}: {_count(variables['params']):,} parameters"
        for name, variables in state.variables.items()
    ]
    most = 0
    with contextlib.closing(_batches(dataset, seed, batch_size)) as data:
        batch = next(data)
    for update, function in zip(gan.updates, program.updates, strict=True):
        flops, needed = _cost(function, state, batch)
        lines.append(f"{_describe(update)}: {flops / 1e9:.3g} GFLOP, {needed / 2**20:,.0f} MiB")
        most = max(most, needed)
    return lines, most


def _timing_of(stage: Stage, dataset: Dataset, seed: int, micro_batches: int) -> tuple[str, float]:
    """Returns a line, and how many seconds a step takes."""
    gan, _, batch_size, _ = stage
    state, program = init(gan, seed), compile_program(gan, micro_batches)
    with contextlib.closing(_batches(dataset, seed, batch_size)) as data:
        iterations = iterate(gan, program, state, data, seed)
        _, state, _ = next(iterations)
        jax.block_until_ready(state)
        began = time.monotonic()
        for _ in range(TIMED_STEPS):
            _, state, _ = next(iterations)
        jax.block_until_ready(state)
    second = (time.monotonic() - began) / TIMED_STEPS
    per_kimg = second * 1000 / images_drawn(gan, batch_size, 1)
    line = (
        f"{second:.3g} s a step, {per_kimg:.3g} s/kimg on {jax.device_count()} x "
        f"{jax.devices()[0].device_kind}, batch {batch_size}"
    )
    return line, second


def _batches(dataset: Dataset, seed: int, batch_size: int) -> Loader:
    part = devices.process_part(batch_size)
    return batches(dataset, seed=seed, batch_size=batch_size, part=part, place=devices.shard)


def _count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _describe(update) -> str:
    often = f", {update.repeat} times a step" if update.repeat > 1 else ""
    often += f", every {update.every} steps" if update.every > 1 else ""
    terms = [name for name, (weight, _) in update.objective.items() if weight]
    return f"update of the {update.player} ({', '.join(terms)}{often})"


def _cost(function, state, batch) -> tuple[float, int]:
    """Returns the floating-point operations and the bytes of an update."""
    compiled = function.lower(state, batch, jax.random.key(0)).compile()
    memory = compiled.memory_analysis()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    needed += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return compiled.cost_analysis()["flops"], needed


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
