"""What a run will cost, before it is started."""

from __future__ import annotations

import contextlib
import math
import time

import jax

from jaxgan import parallel
from jaxgan.core import Stage, images_drawn
from jaxgan.data import Dataset, batches
from jaxgan.stages import Made, as_stages, spans
from jaxgan.train import compile_program, init, iterate

TIMED_STEPS = 3


def dry_run(
    gan: Made, dataset: Dataset, batch_size: int, steps: int, seed: int, micro_batches: int = 1
) -> str:
    """Builds, compiles and times a few steps; returns a table for people and writes nothing.

    FLOPs and memory are the compiler's estimates for one device. Of a Gan that grows, each stage
    that the steps reach has its own table.
    """
    stages = as_stages(gan, dataset.spec.size, batch_size)
    lines, total = [], 0.0
    for number, stage, first, end in spans(stages, 0, max(steps, 1)):
        if len(stages) > 1:
            lines.append(
                f"stage {number + 1} of {len(stages)}: {stage.size} px, batch {stage.batch_size}, "
                f"steps {first:,} to {end:,}"
            )
        cost, second = _dry_run(stage, dataset, seed, micro_batches)
        lines += cost
        total += (end - first) * second
    return "\n".join([*lines, f"{steps:,} steps take about {_duration(total if steps else 0)}"])


def _dry_run(
    stage: Stage, dataset: Dataset, seed: int, micro_batches: int
) -> tuple[list[str], float]:
    """Returns a stage's lines, and how many seconds a step takes."""
    gan, _, batch_size, _ = stage
    parallel.check_divisible(batch_size, micro_batches)
    state, program = init(gan, seed), compile_program(gan, micro_batches)
    lines = [
        f"{name}: {_count(variables['params']):,} parameters"
        for name, variables in state.variables.items()
    ]
    data = batches(
        dataset, seed=seed, batch_size=batch_size, part=parallel.process_part(batch_size)
    )
    with contextlib.closing(data):
        batch = parallel.shard(next(data))
        for update, function in zip(gan.updates, program.updates, strict=True):
            lines.append(f"{_describe(update)}: {_cost(function, state, batch)}")
        iterations = iterate(gan, program, state, data, seed)
        _, state, _ = next(iterations)
        jax.block_until_ready(state)
        began = time.monotonic()
        for _ in range(TIMED_STEPS):
            _, state, _ = next(iterations)
        jax.block_until_ready(state)
    second = (time.monotonic() - began) / TIMED_STEPS
    per_kimg = second * 1000 / images_drawn(gan, batch_size, 1)
    lines.append(
        f"{second:.3g} s a step, {per_kimg:.3g} s/kimg on {jax.device_count()} x "
        f"{jax.devices()[0].device_kind}, batch {batch_size}"
    )
    return lines, second


def _count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _describe(update) -> str:
    often = f", {update.repeat} times a step" if update.repeat > 1 else ""
    often += f", every {update.every} steps" if update.every > 1 else ""
    terms = [name for name, (weight, _) in update.objective.items() if weight]
    return f"update of the {update.player} ({', '.join(terms)}{often})"


def _cost(function, state, batch) -> str:
    compiled = function.lower(state, batch, jax.random.key(0)).compile()
    flops, memory = compiled.cost_analysis()["flops"], compiled.memory_analysis()
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    needed += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return f"{flops / 1e9:.3g} GFLOP, {needed / 2**20:,.0f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
