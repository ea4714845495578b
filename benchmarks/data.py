"""How fast pictures are prepared and loaded, and how much memory that takes.

    python benchmarks/data.py [--count=20000] [--size=64] [--batch_size=64] [--seconds=5]

Prepares `count` made-up JPEG files of 96x96 from a zip in a temporary folder, opens the cache in a
fresh process, and draws batches from it. The pictures are noise-like, so they decode slower than
photographs of that size do. Resident memory counts pages of the mapped cache that were touched,
which the system takes back when it needs them; anonymous memory is what the process owns.
"""

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgan.data import Dataset, batches, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="pictures")
    parser.add_argument("--size", type=int, default=64, help="pixels on a side, prepared")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0, help="of drawing batches")
    parser.add_argument("--opened", type=Path, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.opened:
        measure_loading(settings)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_pictures(root / "faces.zip", settings.count)
        started = time.perf_counter()
        open_set(root, settings.size)
        report("prepare", settings.count, time.perf_counter() - started)
        measure_drawing(root)
        subprocess.run([sys.executable, *sys.argv, f"--opened={root}"], check=True)


def measure_loading(settings: argparse.Namespace) -> None:
    started = time.perf_counter()
    dataset = open_set(settings.opened, settings.size)
    seconds = time.perf_counter() - started
    print(f"open the cache, every byte checked: {seconds:.2f} s, {dataset.images.nbytes >> 20} MiB")
    print(f"memory after opening: {memory()}")
    for flip in (False, True):
        with batches(dataset, seed=0, batch_size=settings.batch_size, flip=flip) as loader:
            next(loader)
            drawn, started = 0, time.perf_counter()
            while time.perf_counter() < started + settings.seconds:
                drawn += len(next(loader)["image"])
        report(f"load, flip={flip}", drawn, time.perf_counter() - started)
    print(f"memory after loading: {memory()}")


def measure_drawing(root: Path) -> None:
    for name in ("shapes", "glyphs"):
        started = time.perf_counter()
        load(name, num_examples=2000, cache_dir=root / "cache")
        report(f"draw {name}", 2000, time.perf_counter() - started)


def open_set(root: Path, size: int) -> Dataset:
    return load("folder", data_dir=root / "faces.zip", cache_dir=root / "cache", image_size=size)


def write_pictures(path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
            file = io.BytesIO()
            coarse.resize((96, 96), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
            archive.writestr(f"{i}.jpg", file.getvalue())


def report(what: str, count: int, seconds: float) -> None:
    print(f"{what}: {count} pictures in {seconds:.2f} s, {count / seconds:,.0f} a second")


def memory() -> str:
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    resident, anonymous = (int(fields[name].split()[0]) >> 10 for name in ("VmRSS", "RssAnon"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return f"{resident} MiB resident, {anonymous} MiB of it anonymous, {peak} MiB at the peak"


if __name__ == "__main__":
    main()
