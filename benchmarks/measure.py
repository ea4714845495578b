"""Runs trainings in turn and measures them: what `peers.py` and `steps.py` share."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import machine
import numpy as np
from absl import flags

from jaxgan import devices
from jaxgan.core import Plan, images_drawn
from jaxgan.data import Dataset, DataSpec, batches
from jaxgan.models import MODELS
from jaxgan.precision import with_precision
from jaxgan.stages import as_stages, gan_at
from jaxgan.training import blocks
from jaxgan.training import loop as train

flags.DEFINE_integer("threads", 2, "CPU cores, the same for all.", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "Blocks a side, taken in turn.", lower_bound=1)
flags.DEFINE_float("seconds", 3.0, "The least length of a block.", lower_bound=0.0)
flags.DEFINE_float(
    "patience", 0.0, "Seconds a row to wait for other processes to leave the machine quiet."
)
flags.DEFINE_bool(
    "cpu_time",
    False,
    "Count the processor time of all threads in place of elapsed time. Together with --threads=1 "
    "this compares what the computations cost on a machine that is not quiet.",
)
FLAGS = flags.FLAGS

_QUIET = 0.1  # cores that others may take


class Row(NamedTuple):
    """What is trained: a model, the fields of its Config that are not the defaults, its data."""

    model: str
    fields: dict
    size: int
    channels: int
    batch_size: int
    label_kind: str | None = None
    labels: int = 0
    cycle: int = 1  # iterations after which lazy terms come round again: run by so many

    def config(self):
        return dataclasses.replace(MODELS[self.model].Config(), **self.fields)

    def title(self) -> str:
        labels = f", {self.labels} labels" if self.labels else ""
        size = f"{self.size}x{self.size}x{self.channels}"
        return f"{self.model}, {size}, batch {self.batch_size}{labels}"


class Side(NamedTuple):
    """One library's training: `run(n)` does n cycles of iterations and waits for their end."""

    run: Callable[[int], None]
    parameters: int
    images: int  # real ones a cycle


def prepare() -> None:
    """Sets the process up as `experiments/train.py` does, on so many cores."""
    machine.use_cores(FLAGS.threads)
    devices.keep_freed_memory()


def conditions() -> str:
    """Says for below a table how its numbers were taken."""
    return f"{'processor' if FLAGS.cpu_time else 'elapsed'} time, {FLAGS.threads} CPU threads"


def noise(row: Row) -> np.ndarray:
    """Returns synthetic images [2048, H, W, C] uint8; what is on them does not matter."""
    shape = (2048, row.size, row.size, row.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def noise_labels(row: Row, count: int) -> np.ndarray | None:
    """Returns one-hot labels [count, K] float32, also where they are called tags, or None."""
    if not row.labels:
        return None
    chosen = np.random.default_rng(1).integers(0, row.labels, count)
    return np.eye(row.labels, dtype=np.float32)[chosen]


def ours(row: Row, images: np.ndarray, precision: str = "float32", length: int = 0) -> Side:
    """jaxgan's training loop on images [N, H, W, C] uint8.

    With a `length` the device runs blocks of so many cycles, in place of the host.
    """
    names = tuple(map(str, range(row.labels)))
    spec = DataSpec("noise", row.size, row.channels, row.label_kind, names, True)
    labels = noise_labels(row, len(images))
    made = MODELS[row.model].make(spec, row.config(), Plan(row.batch_size, 1_000_000))
    gan = gan_at(as_stages(made, row.size, row.batch_size), 1_000_000)
    gan = with_precision(gan, precision)
    dataset = Dataset(spec, images, labels, "noise")
    if length:
        return _in_blocks(row, gan, dataset, length)
    data = batches(dataset, seed=0, batch_size=row.batch_size, place=devices.shard)
    state = train.init(gan, 0)
    parameters = _count(state)
    iterations = train.iterate(gan, train.compile_program(gan), state, data, 0)
    before = None

    def run(count: int) -> None:
        nonlocal before
        for _ in range(count * row.cycle):
            _, state, metrics = next(iterations)
            # As the loop does: it looks at the iteration before the last one.
            if before is not None and int(before["skipped_in_row"]):
                raise RuntimeError("an update was undone: the measurement is void")
            before = metrics
        jax.block_until_ready(state)

    return Side(run, parameters, images_drawn(gan, row.batch_size, row.cycle))


def _in_blocks(row, gan, dataset, length):
    count, state = row.cycle * length, train.init(gan, 0)
    parameters = _count(state)
    iterations = blocks.blocks(
        gan,
        state,
        dataset,
        batch_size=row.batch_size,
        seed=0,
        flip=False,
        start=0,
        pause=lambda step: step + count,
        length=count,
    )

    def run(blocks: int) -> None:
        for _ in range(blocks):
            _, state, metrics = next(iterations)
        if int(metrics["skipped"]):
            raise RuntimeError("an update was undone: the measurement is void")
        jax.block_until_ready(state)

    return Side(run, parameters, images_drawn(gan, row.batch_size, count))


def _count(state):
    params = [variables["params"] for variables in state.variables.values()]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def measure(sides: Sequence[Side]) -> tuple[list[list[float]], float]:
    """Runs blocks of the sides in turn; a round that others disturbed is run again for a while.

    Returns:
      Images per second [rounds][sides], and the mean number of cores that other processes took.
    """
    clock = time.process_time if FLAGS.cpu_time else time.perf_counter
    counts = []
    for side in sides:
        side.run(2)  # compiles, fills caches
        start = clock()
        side.run(1)
        counts.append(max(1, round(FLAGS.seconds / (clock() - start))))

    rounds, disturbances, deadline = [], [], time.monotonic() + FLAGS.patience
    while len(rounds) < FLAGS.repeats:
        if time.monotonic() < deadline and _is_busy():
            continue
        others, speeds = machine.Others(), [0.0] * len(sides)
        # Each goes first as often as second, so that nothing that the other leaves behind counts.
        order = range(len(sides)) if len(rounds) % 2 == 0 else reversed(range(len(sides)))
        for number in order:
            time.sleep(0.05)
            side, count = sides[number], counts[number]
            start = clock()
            side.run(count)
            speeds[number] = side.images * count / (clock() - start)
        disturbance = others.cores()
        if disturbance > _QUIET and time.monotonic() < deadline:
            continue
        rounds.append(speeds)
        disturbances.append(disturbance)
    return rounds, statistics.mean(disturbances)


def _is_busy() -> bool:
    others = machine.Others()
    time.sleep(0.5)
    return others.cores() > _QUIET
