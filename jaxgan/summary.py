"""What a run will cost, before it is started."""

from __future__ import annotations

import contextlib
import math
import time

import jax

from jaxgan import parallel
from jaxgan.core import Gan, images_drawn
from jaxgan.data import Dataset, batches
from jaxgan.train import compile_program, init, iterate

TIMED_STEPS = 3


def dry_run(gan: Gan, dataset: Dataset, batch_size: int, steps: int, seed: int) -> str:
    """Builds, compiles and times a few steps; returns a table for people and writes nothing.

    FLOPs and memory are the compiler's estimates for one device.
    """
    parallel.check_divisible(batch_size)
    state, program = init(gan, seed), compile_program(gan)
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
    return "\n".join(
        [
            *lines,
            f"{second:.3g} s a step, {per_kimg:.3g} s/kimg on {jax.device_count()} x "
            f"{jax.devices()[0].device_kind}, batch {batch_size}",
            f"{steps:,} steps take about {_duration(steps * second)}",
        ]
    )


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
