"""Trains the same GANs in jaxgan and in PyTorch eager, in turn, and prints images per second.

python benchmarks/peers.py
python benchmarks/peers.py --rows=dcgan_64_b32,gan_mnist --repeats=9 --seconds=5

Ours is the training loop's own `iterate` on a data set in memory: gathering, transfer, every
update, the guard against NaN, the generator's average and the metrics count. PyTorch's side is
`torch_models.py`, `torch_progan.py`, `torch_star.py` and `torch_style.py`. Both have the same
number of threads and float32 (on a GPU, TF32 products on both sides). A ratio above 1 means that
jaxgan is faster.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Sequence

import jax
import machine
import numpy as np
import torch
import torch_models
import torch_progan
import torch_star
import torch_style
from absl import app, flags
from measure import Row, Side, conditions, measure, noise, noise_labels, ours, prepare

from jaxgan.models import stylegan2

FLAGS = flags.FLAGS

flags.DEFINE_list("rows", [], "Which rows, in this order. Default: all.")
flags.DEFINE_enum("side", "both", ["both", "ours", "theirs"], "Measure one alone, as a check.")
flags.DEFINE_bool(
    "channels_last",
    None,
    "PyTorch's layout. Default: the faster one, false for wgan_gp only.",
)
flags.DEFINE_bool("fused_adam", True, "PyTorch's fused Adam, or its default one.")
flags.DEFINE_bool(
    "reuse_images",
    False,
    "PyTorch moves the generator on the images that the discriminator has just seen, as its DCGAN "
    "example does, and so computes one generator pass less than jaxgan. Not for wgan_gp "
    "and stylegan2.",
)

_COURSE = {"kernel": 5, "linear_stem": True, "bias": True}

_NARROW = {"channel_base": 2048, "max_width": 128}

_TRANSLATING = {  # those of the small recipe
    "width": 16,
    "blocks": 3,
    "discriminator_width": 24,
    "n_critic": 2,
    "learning_rate": 5e-4,
    "ema_half_life": 5000.0,
}

ROWS = {
    "gan_mnist": Row("gan", {}, 28, 1, 100),
    "dcgan_64_b32": Row("dcgan", _COURSE, 64, 3, 32),
    "dcgan_64_b64": Row("dcgan", _COURSE, 64, 3, 64),
    "dcgan_32_b64": Row("dcgan", _COURSE, 32, 3, 64),
    "dcgan_64_w16": Row("dcgan", _COURSE | {"width": 16}, 64, 3, 64),
    "dcgan_64_k4": Row("dcgan", {}, 64, 3, 64),
    "wgan_gp_64_b32": Row("wgan_gp", {}, 64, 3, 32),
    "wgan_gp_64_b64": Row("wgan_gp", {}, 64, 3, 64),
    "wgan_gp_64_tags": Row("wgan_gp", {}, 64, 3, 32, "tags", 24),
    "sagan_64_w16": Row("sagan", {"width": 16}, 64, 3, 32, "class", 10),
    "progan_32": Row("progan", {"start_size": 32, "width": 64}, 32, 3, 16),
    "stylegan2_64": Row("stylegan2", _NARROW, 64, 3, 8, cycle=16),
    "stargan_64_w16": Row("stargan", _TRANSLATING, 64, 3, 16, "class", 12),
    "improved_mnist": Row("improved", {}, 28, 1, 64, "class", 10),
}


def theirs(
    row: Row, images: np.ndarray, precision: str = "float32", compiled: bool = False
) -> Side:
    """PyTorch's training on images [N, H, W, C] uint8, eager or by `torch.compile`."""
    config = row.config()
    channels_last = FLAGS.channels_last
    if channels_last is None:
        channels_last = row.model != "wgan_gp"
    setting = torch_models.Setting(_device(), channels_last, FLAGS.fused_adam, FLAGS.reuse_images)
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2)
    if row.model == "stylegan2":
        config = stylegan2.resolved(config, row.size, row.batch_size)
        networks = torch_style.stylegan2(config, row.size, row.channels)
        step = torch_style.training(networks, config, pictures, row.batch_size, setting)
    elif row.model == "progan":
        networks = torch_progan.networks(config, row.size, row.channels)
        step = torch_progan.training(networks, config, pictures, row.batch_size, setting)
    elif row.model == "stargan":
        networks = torch_star.networks(config, row.size, row.channels, row.labels)
        labels = torch.from_numpy(noise_labels(row, len(images)))
        step = torch_star.training(networks, config, pictures, labels, row.batch_size, setting)
    else:
        networks = torch_models.NETWORKS[row.model](config, row.size, row.channels, row.labels)
        labels = noise_labels(row, len(images))
        labels = None if labels is None else torch.from_numpy(labels)
        step = torch_models.training(
            row.model, networks, config, pictures, labels, row.batch_size, setting
        )

    for network in networks if compiled else ():
        network.compile()
    half = torch.autocast(_device(), torch.bfloat16, enabled=precision == "bfloat16")

    def run(count: int) -> None:
        for _ in range(count * row.cycle):
            with half:
                loss = step()
        if not loss.isfinite():  # waits for the device, too
            raise RuntimeError("PyTorch's loss is not finite: the measurement is void")

    parameters = sum(p.numel() for network in networks for p in network.parameters())
    images_a_step = getattr(config, "n_critic", 1) * row.batch_size
    return Side(run, parameters, row.cycle * images_a_step)


def compare(name: str) -> list[str]:
    """Measures a row of the table, and returns its cells."""
    row = ROWS[name]
    images = noise(row)
    sides = {"ours": [ours], "theirs": [theirs], "both": [ours, theirs]}[FLAGS.side]
    sides = [side(row, images) for side in sides]
    if len({side.parameters for side in sides}) > 1:
        raise RuntimeError(f"{name}: the networks differ: {sides}")
    rounds, others = measure(sides)
    cells = [_spread([speeds[i] for speeds in rounds], "{:.0f}") for i in range(len(sides))]
    if len(sides) == 2:
        cells.append(_spread([ours / theirs for ours, theirs in rounds], "{:.2f}"))
    size = f"{sides[0].parameters / 1e6:.2f} M"
    return [f"`{name}`: {row.title()}", size, *cells, f"{others:.2f}"]


def _spread(values: Sequence[float], form: str) -> str:
    low, middle, high = (form.format(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({low} to {high})"


def _device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def set_up() -> None:
    """Prepares both libraries."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves PyTorch GPU memory
    prepare()
    torch.set_num_threads(FLAGS.threads)
    torch.set_flush_denormal(True)  # as XLA does
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, which is JAX's default there
    torch.backends.cudnn.benchmark = True
    if _device() == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("JAX sees a GPU and PyTorch does not; install PyTorch for CUDA")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    unknown = [name for name in FLAGS.rows if name not in ROWS]
    if unknown:
        raise app.UsageError(f"unknown rows {', '.join(unknown)}; there are {', '.join(ROWS)}")
    set_up()
    rows = []
    for name in FLAGS.rows or ROWS:
        rows.append(compare(name))
        print(*rows[-1], sep="  ", file=sys.stderr)
    titles = {"ours": ["jaxgan, images/s"], "theirs": ["PyTorch, images/s"]}
    titles["both"] = [*titles["ours"], *titles["theirs"], "jaxgan / PyTorch"]
    print(machine.table(["what", "parameters", *titles[FLAGS.side], "others' cores"], rows))
    gpu = jax.devices()[0].device_kind if _device() == "cuda" else None
    note = machine.describe(["jax", "jaxlib", "flax", "optax", "torch"], gpu)
    print(f"\n{note}; PyTorch eager; {conditions()} a side")


if __name__ == "__main__":
    app.run(main)
