"""Times how fast evaluation reads pictures, beside PyTorch's eager networks.

python benchmarks/reading.py
python benchmarks/reading.py --threads=1 --cpu_time --seconds=1

The networks are Inception v3 on 64 px pictures, enlarged to 299, and ResNet-18 on 64 px ones, both
with made-up weights. Either side starts from uint8 pictures in memory and ends with features in
memory, a batch at a time; PyTorch's is under `inference_mode`, channels last.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import machine
import measure
import numpy as np
import torch
import torch_networks
from absl import app, flags
from torch.nn import functional as F

from jaxgan.evaluation.evaluator import in_batches, read_pictures
from jaxgan.evaluation.networks import classifier, inception
from jaxgan.evaluation.networks.network import Network

flags.DEFINE_integer("batch_size", 16, "Pictures read at a time.", lower_bound=1)
FLAGS = flags.FLAGS

LABELS = tuple(f"label {number}" for number in range(24))


def stored(peer: torch.nn.Module, load: Callable[[Path], Network]) -> Network:
    """Returns jaxgan's network with the weights of PyTorch's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(peer.state_dict(), path)
        return load(path)


def resnet(path: Path) -> Network:
    """Returns the classifier of a file."""
    return classifier.network(*classifier.load_torch_resnet18(path, LABELS))


def ours(network: Network, images: np.ndarray) -> measure.Side:
    """Returns what reads all images so many times."""

    def run(count: int) -> None:
        for _ in range(count):
            read_pictures(network, in_batches(images, FLAGS.batch_size), len(images))

    return measure.Side(run, 0, len(images))


def theirs(peer: torch.nn.Module, size: int | None, images: np.ndarray) -> measure.Side:
    """The same by PyTorch; `size` is what pictures are resized to."""
    peer = peer.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(count: int) -> None:
        for _ in range(count):
            for batch in in_batches(images, FLAGS.batch_size):
                x = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1
                if size is not None:
                    x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
                peer(x.contiguous(memory_format=torch.channels_last)).numpy()

    return measure.Side(run, 0, len(images))


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    measure.prepare()
    torch.set_num_threads(FLAGS.threads)
    images = np.random.default_rng(0).integers(0, 256, (4 * FLAGS.batch_size, 64, 64, 3), np.uint8)
    peers = {
        "Inception v3": (torch_networks.Inception(), inception.load, inception.SIZE),
        "ResNet-18": (torch_networks.ResNet18(len(LABELS)), resnet, None),
    }
    rows = []
    for name, (peer, load, size) in peers.items():
        peer = torch_networks.make_up(peer)
        sides = ours(stored(peer, load), images), theirs(peer, size, images)
        rounds, others = measure.measure(sides)
        speeds = [f"{statistics.median(values):.1f}" for values in zip(*rounds, strict=True)]
        ratio = statistics.median(a / b for a, b in rounds)
        rows.append([name, *speeds, f"{ratio:.2f}", f"{others:.2f}"])
    head = ["what", "jaxgan, images/s", "PyTorch, images/s", "jaxgan / PyTorch", "others' cores"]
    print(machine.table(head, rows))
    print(f"\n{machine.describe(['jax', 'jaxlib', 'torch'])}; {measure.conditions()} a side")


if __name__ == "__main__":
    app.run(main)
