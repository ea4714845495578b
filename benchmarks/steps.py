"""Cost of a training step against batch and image size, and the memory of a run on many pictures.

python benchmarks/steps.py
python benchmarks/steps.py --models=dcgan --sizes=64 --batches=8,16 --width=64 --pictures=1000

The networks are the models' own ones at a smaller width, so that two CPU cores get through the
table. Memory is the peak of resident memory of `experiments/train.py` on folders of different
numbers of pictures, prepared beforehand: its own memory should not grow with them, since the
prepared pictures are mapped and not loaded. What is mapped (and can be dropped at any time) counts
among files.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import machine
import numpy as np
from absl import app, flags
from measure import Row, conditions, measure, noise, ours, prepare

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parents[1]

flags.DEFINE_list("models", ["dcgan", "wgan_gp"], "Which models.")
flags.DEFINE_list("sizes", ["32", "64", "128"], "Sides of the images in pixels.")
flags.DEFINE_list("batches", ["8", "16", "32", "64", "128"], "Images a batch.")
flags.DEFINE_integer("width", 16, "Channels at half the image's size.", lower_bound=1)
flags.DEFINE_list("pictures", ["1000", "16000"], "Pictures in the folders, for the memory.")
FLAGS.set_default("repeats", 3)
FLAGS.set_default("seconds", 0.5)


def cost(model: str, size: int, batch_size: int) -> str:
    """Measures a step, all updates of an iteration; returns a cell of the table."""
    row = Row(model, {"width": FLAGS.width}, size, 3, batch_size)
    side = ours(row, noise(row))
    rounds, _ = measure([side])
    speed = statistics.median(speed for (speed,) in rounds)
    return f"{1e3 * side.images / speed:.0f} ms, {speed:.0f}/s"


def costs(model: str) -> str:
    """Returns a model's table."""
    rows = []
    for batch_size in map(int, FLAGS.batches):
        cells = [cost(model, int(size), batch_size) for size in FLAGS.sizes]
        rows.append([str(batch_size), *cells])
        print(model, *rows[-1], sep="  ", file=sys.stderr)
    head = [f"{model}, batch", *(f"{size} px" for size in FLAGS.sizes)]
    return machine.table(head, rows)


def memory() -> str:
    """Returns the table of peak memory against the number of pictures."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few"
        _write_pictures(few, 64)
        _peaks(few, folder, "--steps=1")  # what is compiled here is only read below
        for count in map(int, FLAGS.pictures):
            pictures = Path(folder) / str(count)
            _write_pictures(pictures, count)
            peaks = [
                *_peaks(pictures, folder, "--dry_run"),
                *_peaks(pictures, folder, "--steps=300"),
            ]
            prepared = f"{count * 64 * 64 * 3 / 2**20:.0f}"
            rows.append([str(count), prepared, *(f"{peak / 2**10:.0f}" for peak in peaks)])
            print(*rows[-1], sep="  ", file=sys.stderr)
    head = ["pictures, 64x64x3", "prepared, MiB"]
    for what in ("preparing", "training"):
        head += [f"{what}: own, MiB", "files, MiB"]
    return machine.table(head, rows)


def _write_pictures(folder: Path, count: int) -> None:
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06d}.png", compress_level=0)


def _peaks(pictures: Path, folder: str, *arguments: str) -> tuple[int, int]:
    """Runs a training; returns its peaks of resident memory in KiB: its own, and files'."""
    command = [sys.executable, "experiments/train.py", "--model=dcgan", "--dataset=folder"]
    command += [f"--data_dir={pictures}", f"--workdir={pictures}_run", "--set=width=8"]
    command += [f"--compilation_cache={folder}/compiled", *arguments]
    environment = os.environ | {"XDG_CACHE_HOME": folder, "PYTHONPATH": str(ROOT)}
    own = files = 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        while process.poll() is None:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            status = dict(line.split(":", 1) for line in lines)
            own = max(own, _kibibytes(status.get("RssAnon")))
            files = max(files, _kibibytes(status.get("RssFile")))
            time.sleep(0.02)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{output.read()}")
    return own, files


def _kibibytes(field: str | None) -> int:
    return int(field.split()[0]) if field else 0  # a process that has ended has no memory


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    prepare()
    others = machine.Others()
    tables = [costs(model) for model in FLAGS.models]
    if FLAGS.pictures:
        tables.append(memory())
    print(*tables, sep="\n\n")
    note = machine.describe(["jax", "jaxlib", "flax"])
    print(f"\n{note}; width {FLAGS.width}; {conditions()}; others took {others.cores():.2f} cores")


if __name__ == "__main__":
    app.run(main)
