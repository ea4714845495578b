"""Times the way from the command to the first finished training step.

python benchmarks/startup.py
python benchmarks/startup.py --models=dcgan,wgan_gp --repeats=3

Each run is a process of its own: `experiments/train.py --steps=1`, which also saves a checkpoint
and draws samples before it ends. "Cold" starts with an empty compilation cache, "warm" with what
the cold one left there. The pictures are prepared beforehand.
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
from typing import NamedTuple

import machine
from absl import app, flags

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parents[1]

flags.DEFINE_list("models", ["gan", "dcgan", "wgan_gp"], "Which models, on `shapes` at 64 px.")
flags.DEFINE_integer("repeats", 3, "Cold and warm starts of each, in turn.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Pictures a batch.", lower_bound=1)


class Start(NamedTuple):
    """Seconds since the command."""

    first_step: float
    end: float


def start(model: str, batch_size: int, cache: Path, workdir: Path) -> Start:
    """Runs one step of a model in a new process.

    Args:
      model: a name of `MODELS`.
      batch_size: pictures a batch.
      cache: the folder of compiled programs and prepared pictures.
      workdir: where the run is kept.
    """
    log = workdir / "metrics.jsonl"
    command = [sys.executable, "experiments/train.py", f"--model={model}", "--dataset=shapes"]
    command += ["--num_examples=256", "--steps=1", f"--batch_size={batch_size}"]
    command += [f"--workdir={workdir}", f"--compilation_cache={cache / 'compiled'}"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        first = None
        while process.poll() is None:
            # The line is written as soon as the step is done.
            if first is None and log.exists() and log.stat().st_size:
                first = time.perf_counter() - begin
            time.sleep(0.01)
        if process.returncode or first is None:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{output.read()}")
    return Start(first, time.perf_counter() - begin)


def measure(model: str, repeats: int, batch_size: int) -> list[str]:
    """Returns the table's row of a model."""
    cold, warm = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # Prepares the pictures, and lets the system read the libraries from the disk.
        start(model, batch_size, folder, folder / "first")
        for repeat in range(repeats):
            _forget(folder / "compiled")
            cold.append(start(model, batch_size, folder, folder / f"cold_{repeat}"))
            warm.append(start(model, batch_size, folder, folder / f"warm_{repeat}"))
    return [
        f"{model}, 64x64x3, batch {batch_size}",
        _spread([run.first_step for run in cold]),
        _spread([run.first_step for run in warm]),
        _spread([run.end for run in warm]),
    ]


def _forget(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    others, rows = machine.Others(), []
    for model in FLAGS.models:
        rows.append(measure(model, FLAGS.repeats, FLAGS.batch_size))
        print(*rows[-1], sep="  ", file=sys.stderr)
    head = ["seconds", "cold, first step", "warm, first step", "warm, whole command"]
    print(machine.table(head, rows))
    note = machine.describe(["jax", "jaxlib", "flax"])
    print(f"\n{note}; others took {others.cores():.2f} cores")


if __name__ == "__main__":
    app.run(main)
