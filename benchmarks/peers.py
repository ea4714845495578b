"""Trains the same GANs in jaxgan and in PyTorch eager, in turn, and prints images per second.

python benchmarks/peers.py
python benchmarks/peers.py --rows=dcgan_64_b32,gan_mnist --repeats=9 --seconds=5

Ours is the training loop's own `iterate` on a data set in memory: gathering, transfer, every
update, the guard against NaN, the generator's average and the metrics count. PyTorch's side is
`torch_models.py`. Both have the same number of threads and float32 (on a GPU, TF32 products on
both sides). A ratio above 1 means that jaxgan is faster.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import machine
from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_list("rows", [], "Which rows, in this order. Default: all.")
flags.DEFINE_integer("repeats", 5, "Blocks a side, taken in turn.", lower_bound=1)
flags.DEFINE_float("seconds", 3.0, "The least length of a block.", lower_bound=0.0)
flags.DEFINE_integer("threads", 2, "CPU cores of both sides.", lower_bound=1)
flags.DEFINE_enum("side", "both", ["both", "ours", "theirs"], "Measure one alone, as a check.")
flags.DEFINE_enum("device", "auto", ["auto", "cpu", "cuda"], "Of both; auto: what JAX finds.")
flags.DEFINE_bool("channels_last", None, "PyTorch's layout. Default: the faster one, see README.")
flags.DEFINE_bool("fused_adam", None, "PyTorch's fused Adam. Default: the faster one.")


class Row(NamedTuple):
    """What is trained: a model, the fields of its Config that are not the defaults, its data."""

    model: str
    config: dict
    size: int
    channels: int
    batch_size: int


_COURSE = {"kernel": 5, "linear_stem": True, "bias": True}

ROWS = {
    "gan_mnist": Row("gan", {}, 28, 1, 100),
    "dcgan_64_b32": Row("dcgan", _COURSE, 64, 3, 32),
    "dcgan_64_b64": Row("dcgan", _COURSE, 64, 3, 64),
    "dcgan_32_b64": Row("dcgan", _COURSE, 32, 3, 64),
    "dcgan_64_w16": Row("dcgan", _COURSE | {"width": 16}, 64, 3, 64),
    "dcgan_64_k4": Row("dcgan", {}, 64, 3, 64),
    "wgan_gp_64_b32": Row("wgan_gp", {}, 64, 3, 32),
    "wgan_gp_64_b64": Row("wgan_gp", {}, 64, 3, 64),
}


class Side(NamedTuple):
    """One library's training: `run(n)` does n iterations and waits until they are done."""

    run: Callable[[int], None]
    parameters: int
    images: int  # real ones an iteration


def ours(row: Row, images) -> Side:
    """jaxgan's training loop on images [N, H, W, C] uint8."""
    import jax

    from jaxgan import train
    from jaxgan.core import Plan, images_drawn
    from jaxgan.data import Dataset, DataSpec, batches
    from jaxgan.models import MODELS

    spec = DataSpec("noise", row.size, row.channels, None, (), True)
    module = MODELS[row.model]
    config = dataclasses.replace(module.Config(), **row.config)
    gan = module.make(spec, config, Plan(row.batch_size, 1_000_000))
    data = batches(Dataset(spec, images, None, "noise"), seed=0, batch_size=row.batch_size)
    state = train.init(gan, 0)
    params = [variables["params"] for variables in state.variables.values()]
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    iterations = train.iterate(gan, train.compile_program(gan), state, data, 0)
    before = None

    def run(count: int) -> None:
        nonlocal before
        for _ in range(count):
            _, state, metrics = next(iterations)
            # As the loop does: it looks at the iteration before the last one.
            if before is not None and int(before["skipped_in_row"]):
                raise RuntimeError("an update was undone: the comparison is void")
            before = metrics
        jax.block_until_ready(state)

    return Side(run, count, images_drawn(gan, row.batch_size, 1))


def theirs(row: Row, images, device: str) -> Side:
    """PyTorch's training on the same images."""
    import torch
    import torch_models

    from jaxgan.models import MODELS

    config = dataclasses.replace(MODELS[row.model].Config(), **row.config)
    networks = torch_models.NETWORKS[row.model](config, row.size, row.channels)
    setting = torch_models.Setting(device, channels_last(row, device), fused_adam())
    step = torch_models.training(
        row.model,
        networks,
        config,
        torch.from_numpy(images).permute(0, 3, 1, 2),
        row.batch_size,
        setting,
    )

    def run(count: int) -> None:
        for _ in range(count):
            loss = step()
        if not loss.isfinite():  # waits for the device, too
            raise RuntimeError("PyTorch's loss is not finite: the comparison is void")

    count = sum(p.numel() for network in networks for p in network.parameters())
    return Side(run, count, getattr(config, "n_critic", 1) * row.batch_size)


def channels_last(row: Row, device: str) -> bool:
    """Whether PyTorch gets NHWC images; the default is what was measured to be faster."""
    if FLAGS.channels_last is not None:
        return FLAGS.channels_last
    return row.model != "gan"


def fused_adam() -> bool:
    """Whether PyTorch's Adam is the fused one."""
    return True if FLAGS.fused_adam is None else FLAGS.fused_adam


def measure(sides: Sequence[Side], repeats: int, seconds: float) -> tuple[list, float]:
    """Runs blocks of the sides in turn.

    Returns:
      Images per second [repeats][sides], and the mean number of cores that other processes took.
    """
    counts = []
    for side in sides:
        side.run(2)  # compiles, fills caches
        start = time.perf_counter()
        side.run(1)
        counts.append(max(1, round(seconds / (time.perf_counter() - start))))
    blocks, others = [], machine.Others()
    for repeat in range(repeats):
        speeds = [0.0] * len(sides)
        # Each goes first as often as second, so that nothing that the other leaves behind counts.
        order = range(len(sides)) if repeat % 2 == 0 else reversed(range(len(sides)))
        for number in order:
            time.sleep(0.05)
            side, count = sides[number], counts[number]
            start = time.perf_counter()
            side.run(count)
            speeds[number] = side.images * count / (time.perf_counter() - start)
        blocks.append(speeds)
    return blocks, others.cores()


def line(name: str, row: Row, blocks: list, parameters: int, others: float) -> list[str]:
    """Formats a row of the table."""
    cells = [_spread([speeds[i] for speeds in blocks], "{:.0f}") for i in range(len(blocks[0]))]
    if len(blocks[0]) == 2:
        cells.append(_spread([ours / theirs for ours, theirs in blocks], "{:.2f}"))
    picture = f"{row.size}x{row.size}x{row.channels}"
    title = f"`{name}`: {row.model}, {picture}, batch {row.batch_size}"
    return [title, f"{parameters / 1e6:.2f} M", *cells, f"{others:.2f}"]


def _spread(values: Sequence[float], form: str) -> str:
    low, middle, high = (form.format(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def _noise(row: Row):
    """Returns synthetic images [2048, H, W, C] uint8; what is on them does not matter."""
    import numpy as np

    shape = (2048, row.size, row.size, row.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    unknown = [name for name in FLAGS.rows if name not in ROWS]
    if unknown:
        raise app.UsageError(f"unknown rows {', '.join(unknown)}; there are {', '.join(ROWS)}")
    machine.use_cores(FLAGS.threads)
    import jax
    import torch

    if FLAGS.device != "auto":
        jax.config.update("jax_platforms", FLAGS.device)
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.set_num_threads(FLAGS.threads)
    torch.set_flush_denormal(True)  # as XLA does
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, JAX's default there
    torch.backends.cudnn.benchmark = True

    lines = []
    for name in FLAGS.rows or ROWS:
        row = ROWS[name]
        images = _noise(row)
        sides = []
        if FLAGS.side != "theirs":
            sides.append(ours(row, images))
        if FLAGS.side != "ours":
            sides.append(theirs(row, images, device))
        if len({side.parameters for side in sides}) > 1:
            raise RuntimeError(f"{name}: the networks differ: {sides}")
        blocks, others = measure(sides, FLAGS.repeats, FLAGS.seconds)
        lines.append(line(name, row, blocks, sides[0].parameters, others))
        print(*lines[-1], sep="  ", file=sys.stderr)

    titles = {"ours": ["jaxgan, images/s"], "theirs": ["PyTorch, images/s"]}
    titles["both"] = [*titles["ours"], *titles["theirs"], "jaxgan / PyTorch"]
    print(machine.table(["what", "parameters", *titles[FLAGS.side], "others' cores"], lines))
    gpu = jax.devices()[0].device_kind if device == "cuda" else None
    note = machine.describe(["jax", "jaxlib", "flax", "optax", "torch"], gpu)
    print(f"\n{note}; {FLAGS.threads} CPU threads a side, PyTorch eager")


if __name__ == "__main__":
    app.run(main)
