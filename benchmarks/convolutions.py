"""Times every way to compute a DCGAN's convolutions, and one to colors, on a CPU.

python benchmarks/convolutions.py
python benchmarks/convolutions.py --batch_size=64 --kernel=4 --threads=1
python benchmarks/convolutions.py --kernel=3 --stride=1

The rules of `jaxgan/layers/cpu/images.py` are the crossings of these curves.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import jax
import machine
import numpy as np
from absl import app, flags

from jaxgan import devices
from jaxgan.layers.cpu import lowering
from jaxgan.layers.cpu.lowering import Axis

flags.DEFINE_integer("batch_size", 32, "Images.", lower_bound=1)
flags.DEFINE_integer("kernel", 5, "Extent of the kernel.", lower_bound=2)
flags.DEFINE_integer("stride", 2, "1, which also turns some, or 2.", lower_bound=1, upper_bound=2)
flags.DEFINE_integer("width", 64, "Channels at half the image's size.", lower_bound=1)
flags.DEFINE_integer("threads", 2, "CPU cores.", lower_bound=1)
flags.DEFINE_integer("repeats", 7, "Runs of each; the median counts.", lower_bound=1)
FLAGS = flags.FLAGS

# Each map of the trio: which two of (large map, kernel, small map) it takes, its ways, XLA's first.
_MAPS = {
    "convolution": ((0, 1), ["conv_by_xla", "conv_by_parts", "conv_by_product"]),
    "transposed": (
        (2, 1),
        ["conv_transpose_by_xla", "conv_transpose_by_phases", "conv_transpose_by_product"],
    ),
    "weight gradient": ((0, 2), ["weights_by_xla", "weights_by_groups", "weights_by_product"]),
}


def measure(run: Callable, *arrays: jax.Array) -> float:
    """Milliseconds, without compilation."""
    compiled = jax.jit(run)
    times = []
    for _ in range(1 + FLAGS.repeats):
        start = time.perf_counter()
        compiled(*arrays).block_until_ready()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def compare(size: int, inputs: int, outputs: int) -> list[list[str]]:
    """A row of the table for each map of one layer."""
    axis = Axis(size, FLAGS.kernel, FLAGS.stride, (FLAGS.kernel - 1) // 2)
    side = axis.outputs
    shapes = [
        (FLAGS.batch_size, size, size, inputs),
        (FLAGS.kernel, FLAGS.kernel, inputs, outputs),
        (FLAGS.batch_size, side, side, outputs),
    ]
    rng = np.random.default_rng(0)
    arrays = [jax.numpy.asarray(rng.normal(size=shape), np.float32) for shape in shapes]
    rows = []
    for name, (places, ways) in _MAPS.items():
        taken = [arrays[place] for place in places]
        if FLAGS.stride == 1 and name != "transposed":
            ways = [*ways, ways[0].replace("_by_xla", "_turned")]
        times = [
            measure(lambda a, b, way=way: getattr(lowering, way)((axis, axis), a, b), *taken)
            for way in ways
        ]
        best = ways[times.index(min(times))].rpartition("_")[2]
        cells = [f"{t:.1f}" for t in times] + [""] * (4 - len(times))
        rows.append([f"{size} px, {inputs} to {outputs}: {name}", *cells, best])
        print("  ".join(rows[-1]), flush=True)
    return rows


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    machine.use_cores(FLAGS.threads)
    devices.keep_freed_memory()
    widths = [3, *(FLAGS.width * 2**i for i in range(4))]
    rows = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        rows += compare(64 >> i, inputs, outputs)
    rows += compare(64, FLAGS.width, 3)
    head = ["layer, ms", "XLA's own", "parts, phases, groups", "product", "turned", "best"]
    print(machine.table(head, rows))
    where = machine.describe(["jax", "jaxlib"])
    print(f"\n{where}; batch {FLAGS.batch_size}, kernel {FLAGS.kernel}, stride {FLAGS.stride}")


if __name__ == "__main__":
    app.run(main)
