"""Measures all that wants a GPU, in parts of a few minutes that go on where the last one ended.

python benchmarks/gpu.py --minutes=8          # again and again, until it says that all is done
python benchmarks/gpu.py --report
python benchmarks/gpu.py --tiny --out=/tmp/tiny.jsonl    # tries the script on a CPU

Every measurement is a process of its own, since flags of XLA are read once and two libraries would
share the memory, and a line of --out. One that failed is a line, too; delete it to try again.

Measured: images a second of the rows of `peers.py`, by the host's schedule and by the device's, in
float32 (TF32 on both sides) and bfloat16, beside PyTorch eager and compiled; `stylegan2` at 128 and
256 px; the same with XLA's command buffers (CUDA graphs) off; kernels that an iteration launches;
the products that the device reaches, and the share of them that an iteration does.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
import peers
from absl import app, flags
from measure import Row, Side, measure, noise, ours

from jaxgan.core import Plan
from jaxgan.data import DataSpec
from jaxgan.models import MODELS
from jaxgan.stages import as_stages, gan_at
from jaxgan.training.dry_run import lowered_cost

flags.DEFINE_float("minutes", 8.0, "No measurement begins later than this.")
flags.DEFINE_float("limit", 240.0, "Seconds that one may take.")
flags.DEFINE_string("out", "build/gpu.jsonl", "Where the lines go.")
flags.DEFINE_integer("length", 64, "Cycles in a block of the device's schedule.", lower_bound=1)
flags.DEFINE_bool("tiny", False, "Small networks, for a CPU.")
flags.DEFINE_bool("report", False, "Show what has been measured.")
flags.DEFINE_string("one", None, "Make this one measurement, and print it.")
FLAGS = flags.FLAGS

_NO_GRAPHS = "--xla_gpu_enable_command_buffer="

_TINY = {
    "gan_mnist": Row("gan", {"generator_widths": (8,), "discriminator_widths": (8,)}, 28, 1, 8),
    "dcgan_64_b64": Row("dcgan", {"width": 4}, 16, 3, 8),
    "wgan_gp_64_b64": Row("wgan_gp", {"width": 4}, 16, 3, 8),
}
_LARGE = {
    "stylegan2_128": Row("stylegan2", {}, 128, 3, 32, cycle=16),
    "stylegan2_256": Row("stylegan2", {}, 256, 3, 16, cycle=16),
}


def _rows() -> Mapping[str, Row]:
    return _TINY if FLAGS.tiny else peers.ROWS | _LARGE


def names() -> Iterator[str]:
    """Names all measurements, what matters most first: ROW/SIDE/PRECISION, products/PRECISION."""
    for precision in ("float32", "bfloat16"):
        yield f"products/{precision}"
    for side in ("device", "eager", "host", "compile", "launches", "no_graphs"):
        for precision in ("bfloat16", "float32"):
            for row in _rows():
                yield f"{row}/{side}/{precision}"


def one(name: str) -> dict[str, Any]:
    """Makes a measurement."""
    if name.startswith("products/"):
        return {"flops": _products(name.partition("/")[2])}
    row_name, side_name, precision = name.split("/")
    row = _rows()[row_name]
    images = noise(row)
    if side_name in ("eager", "compile"):
        side = peers.theirs(row, images, precision, side_name == "compile")
    else:
        side = ours(row, images, precision, FLAGS.length * (side_name != "host"))
    if side_name == "launches":
        return {"launches": _launches(side) / (FLAGS.length * row.cycle)}
    speeds = [speed for (speed,) in measure([side])[0]]
    return {"images_per_second": speeds, "flop_per_image": _flop(row)}


def _products(precision: str) -> float:
    """FLOP/s of the largest products, which are the device's peak as it can be had."""
    side = 256 if FLAGS.tiny else 8192
    x = jnp.ones((side, side), precision)

    @jax.jit
    def run(x):
        for _ in range(16):
            x = x @ x / side
        return x

    run(x).block_until_ready()
    began = time.monotonic()
    run(x).block_until_ready()
    return 16 * 2 * side**3 / (time.monotonic() - began)


def _flop(row: Row) -> float:
    """FLOP of an iteration for each image that it draws."""
    names = tuple(map(str, range(row.labels)))
    spec = DataSpec("noise", row.size, row.channels, row.label_kind, names, True)
    made = MODELS[row.model].make(spec, row.config(), Plan(row.batch_size, 1_000_000))
    gan = gan_at(as_stages(made, row.size, row.batch_size), 1_000_000)
    total = 0.0
    for number, update in enumerate(gan.updates):
        cost = lowered_cost(gan, number, spec, row.batch_size, "cuda")
        total += cost["flops"] * update.repeat / update.every
    drawn = row.batch_size * gan.updates[0].repeat
    return total / drawn


def _launches(side: Side) -> int:
    """Kernels that one more call of a side launches; 0 where there is no GPU."""
    side.run(2)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            side.run(1)
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
    planes = [plane for plane in data.planes if plane.name.startswith("/device:GPU")]
    lines = [line for plane in planes for line in plane.lines if line.name.startswith("Stream")]
    return sum(len([*line.events]) for line in lines)


def measured() -> dict[str, dict[str, Any]]:
    """Returns what --out holds, by name."""
    path = pathlib.Path(FLAGS.out)
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def _in_a_process(name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, f"--one={name}", f"--length={FLAGS.length}"]
    command += ["--tiny", "--repeats=1", "--seconds=0.1"] if FLAGS.tiny else ["--repeats=3"]
    environment = {**os.environ}
    if "/no_graphs/" in name:
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {_NO_GRAPHS}".strip()
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=FLAGS.limit
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {FLAGS.limit:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["without a word"])[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def report() -> str:
    """Returns the tables of what has been measured."""
    found = measured()
    table = []
    for precision in ("float32", "bfloat16"):
        peak = found.get(f"products/{precision}", {}).get("flops")
        for row in _rows():
            of = {side: found.get(f"{row}/{side}/{precision}", {}) for side in _SIDES}
            speeds = {side: _median(line.get("images_per_second")) for side, line in of.items()}
            best = speeds["device"]
            share = best * of["device"]["flop_per_image"] / peak if best and peak else None
            per_kimg = 1000 / best if best else None
            launches = of["launches"].get("launches")
            cells = [*(speeds[side] for side in _SIDES[:-1]), per_kimg, launches]
            ratio = best / speeds["compile"] if best and speeds["compile"] else None
            table.append(
                [
                    f"{row}, {precision}",
                    *("-" if cell is None else f"{cell:.4g}" for cell in cells),
                    "-" if ratio is None else f"{ratio:.2f}",
                    "-" if share is None else f"{share:.1%}",
                ]
            )
    head = ["images/s", "device", "host", "no graphs", "PyTorch eager", "PyTorch compiled"]
    head += ["device, s/kimg", "launches", "device / compiled", "of products"]
    failed = [f"- {name}: {line['failed']}" for name, line in found.items() if "failed" in line]
    return "\n".join([machine.table(head, table), "", *failed])


_SIDES = ("device", "host", "no_graphs", "eager", "compile", "launches")


def _median(values: Sequence[float] | None) -> float | None:
    return None if values is None else float(np.median(values))


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if FLAGS.one is not None:
        peers.set_up()
        print(json.dumps(one(FLAGS.one)))
        return
    if FLAGS.report:
        print(report())
        return
    path, deadline = pathlib.Path(FLAGS.out), time.monotonic() + 60 * FLAGS.minutes
    path.parent.mkdir(parents=True, exist_ok=True)
    there = measured()
    left = [name for name in names() if name not in there]
    while left and time.monotonic() < deadline:
        name = left.pop(0)
        line = {"name": name, **_in_a_process(name)}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)
    print(f"{len(left)} are left; give the command again" if left else "all is done; see --report")


if __name__ == "__main__":
    app.run(main)
