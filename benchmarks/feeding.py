"""Counts what the host sends to the devices an iteration: calls of programs, and bytes.

python benchmarks/feeding.py
python benchmarks/feeding.py --lengths=64 --flip

Nothing is computed: the programs are replaced by ones that count what they are given. Pictures that
lie on the device went up once and do not count; the state stays there.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from unittest import mock

import jax
import machine
import numpy as np
from absl import app, flags

from jaxgan import devices
from jaxgan.core import Gan, Plan
from jaxgan.data import Dataset, DataSpec, batches
from jaxgan.models import MODELS
from jaxgan.stages import as_stages
from jaxgan.training import blocks
from jaxgan.training.loop import Program, compile_program, iterate

flags.DEFINE_list("models", ["gan", "dcgan", "wgan_gp", "stylegan2"], "Of 64 px, gan of 28.")
flags.DEFINE_list("lengths", ["64", "1024"], "Iterations in a block.")
flags.DEFINE_integer("batch_size", 64, "Pictures a batch.", lower_bound=1)
flags.DEFINE_bool("flip", False, "Mirror pictures at random.")
FLAGS = flags.FLAGS

_CYCLE = 16  # iterations after which every lazy term has come


class _Counter:
    """Stands for a compiled program."""

    def __init__(self) -> None:
        self.calls = self.bytes = 0

    def sends(self, tree) -> None:
        self.bytes += sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))

    def update(self, state, batch, rng):
        self.calls += 1
        return state, {}

    def end(self, state):
        self.calls += 1
        return state

    def block(self, state, feed, index, data, count, rng):
        self.calls += 1
        self.sends(feed)
        self.sends(count)
        return state, {}


def _by_host(gan: Gan, state, dataset: Dataset) -> list[str]:
    """Calls and bytes an iteration by the host's schedule."""
    counter, compiled = _Counter(), compile_program(gan)
    program = Program(
        (counter.update,) * len(gan.updates), counter.end, compiled.whole and counter.update
    )
    what = {"seed": 0, "batch_size": FLAGS.batch_size, "flip": FLAGS.flip}

    def sent():
        with batches(dataset, **what) as loader:
            for batch in loader:
                counter.sends(batch)
                yield batch

    for _ in itertools.islice(iterate(gan, program, state, sent(), 0), _CYCLE):
        pass
    return [f"{counter.calls / _CYCLE:.3g}", _size(counter.bytes / _CYCLE)]


def _by_device(gan: Gan, state, dataset: Dataset, length: int) -> list[str]:
    """The same by the device's, in blocks of so many iterations."""
    counter = _Counter()
    with (
        mock.patch.object(devices, "pmap_block", lambda run, resident: counter.block),
        mock.patch.object(blocks, "_Pace", functools.partial(_Steady, length)),
    ):
        played = blocks.blocks(
            gan,
            state,
            dataset,
            batch_size=FLAGS.batch_size,
            seed=0,
            flip=FLAGS.flip,
            start=0,
            pause=lambda step: step + length,
            resident=True,
        )
        next(played)
    return [f"1/{length}", _size(counter.bytes / length)]


class _Steady:
    """Stands for what finds the length of a block, and has found it."""

    def __init__(self, length: int, *_: object) -> None:
        self.length = length

    def begins(self) -> None:
        pass

    def ends(self, count: int, metrics: object) -> None:
        pass


def _size(count: float) -> str:
    return f"{count / 1e6:.3g} MB" if count > 1e6 else f"{count / 1e3:.3g} kB"


def rows(model: str) -> list[str]:
    """Returns a table's row for a model."""
    size, channels = (28, 1) if model == "gan" else (64, 3)
    spec = DataSpec("noise", size, channels, None, (), True)
    images = np.zeros((2048, size, size, channels), np.uint8)
    dataset = Dataset(spec, images, None, "noise")
    module = MODELS[model]
    made = module.make(spec, module.Config(), Plan(FLAGS.batch_size, 1_000_000))
    gan = as_stages(made, size, FLAGS.batch_size)[-1].gan
    state = mock.Mock(step=0)
    cells = _by_host(gan, state, dataset)
    for length in map(int, FLAGS.lengths):
        cells += _by_device(gan, state, dataset, length)
    return [f"{model}, {size}x{size}x{channels}", *cells]


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    head = ["an iteration", "host: calls", "bytes"]
    for length in FLAGS.lengths:
        head += [f"blocks of {length}: calls", "bytes"]
    print(machine.table(head, map(rows, FLAGS.models)))
    print(f"\nbatch {FLAGS.batch_size}{', mirrored' * FLAGS.flip}")


if __name__ == "__main__":
    app.run(main)
