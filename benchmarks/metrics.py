"""Times the distances between features beside the formulas that others use for them.

python benchmarks/metrics.py
python benchmarks/metrics.py --features=256 --pictures=2000 --subsets=10 --repeats=1

The features are made up: rectified, correlated, with a spectrum as steep as that of a network. Both
sides are given the same. The others: `numpy.cov`; `scipy.linalg.sqrtm` of the product, as
pytorch-fid, clean-fid and torch-fidelity do; its eigenvalues, as torchmetrics does; the kernel
distance in float64; and precision, recall, density and coverage from whole tables of distances,
as prdc does. Each of the last is measured in a process of its own, for its peak of memory.
"""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import machine
import numpy as np
import scipy.linalg
from absl import app, flags

from jaxgan import devices
from jaxgan.evaluation.distances.frechet import Moments, frechet_distance
from jaxgan.evaluation.distances.kernel import kernel_distance
from jaxgan.evaluation.distances.manifold import prdc

flags.DEFINE_integer("pictures", 10_000, "Real ones, and as many generated.", lower_bound=10)
flags.DEFINE_integer("features", 2048, "Of each.", lower_bound=1)
flags.DEFINE_integer("subsets", 100, "Of the kernel distance.", lower_bound=1)
flags.DEFINE_integer("subset_size", 1000, "Of the kernel distance.", lower_bound=2)
flags.DEFINE_integer("neighbors", 5, "Of precision and the like.", lower_bound=1)
flags.DEFINE_integer("threads", 2, "CPU cores.", lower_bound=1)
flags.DEFINE_integer("repeats", 3, "Runs of each in turn; the median counts.", lower_bound=1)
FLAGS = flags.FLAGS


class Sides(NamedTuple):
    """Two ways to the same number or numbers."""

    what: str
    ours: Callable[[], object]
    other: Callable[[], object]


class Run(NamedTuple):
    """One computation in a process of its own."""

    values: tuple[float, ...]
    seconds: float
    memory: float  # MiB at the peak, more than before


def made_up(count: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns real and generated features [count, features] float32, at least 0."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(features, features)).astype(np.float32)
    mixing *= np.geomspace(1, 1e-2, features, dtype=np.float32)[:, None] / features**0.5

    def draw(shift: float) -> np.ndarray:
        x = random.normal(shift, 1, (count, features)).astype(np.float32) @ mixing
        x += 0.02 * random.normal(size=x.shape).astype(np.float32)
        return np.maximum(x, 0)

    return draw(0.0), draw(0.1)


def by_root(a: Moments, b: Moments) -> float:
    """The Fréchet distance by the matrix square root of a product."""
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    return _from_trace(a, b, np.trace(root))


def by_eigenvalues(a: Moments, b: Moments) -> float:
    """The Fréchet distance by the eigenvalues of a product that is not symmetric."""
    values = np.linalg.eigvals(a.covariance @ b.covariance)
    return _from_trace(a, b, np.sqrt(values.astype(complex)).real.sum())


def plain_kernel(real: np.ndarray, fake: np.ndarray, subsets: int, size: int) -> list[float]:
    """The kernel distance's mean and deviation over the same subsets, in float64."""
    random = np.random.default_rng(0)
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    off = ~np.eye(size, dtype=bool)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    estimates = []
    for _ in range(subsets):
        x, y = (z[random.choice(len(z), size, replace=False)] for z in (real, fake))
        within = sum((kernel(z, z) * off).sum() for z in (x, y)) / (size * (size - 1))
        estimates.append(within - 2 * kernel(x, y).mean())
    return [np.mean(estimates), np.std(estimates)]


def by_balls(real: np.ndarray, fake: np.ndarray, neighbors: int) -> list[float]:
    """Precision, recall, density and coverage by blocks of distances."""
    return [values.mean() for values in prdc(real, fake, neighbors=neighbors).values()]


def whole_tables(real: np.ndarray, fake: np.ndarray, neighbors: int) -> list[float]:
    """Precision, recall, density and coverage by three whole tables of distances."""

    def table(x, y):
        squared = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
        return np.sqrt(np.maximum(squared, 0))

    def radii(x):
        return np.partition(table(x, x), neighbors, axis=1)[:, neighbors]

    real_radii, fake_radii, between = radii(real), radii(fake), table(real, fake)
    inside = between <= real_radii[:, None]
    recall = (between <= fake_radii).any(1).mean()
    return [inside.any(0).mean(), recall, inside.sum(0).mean() / neighbors, inside.any(1).mean()]


def alone(ours: bool, count: int, features: int, neighbors: int, threads: int) -> Run:
    """Precision and the like by one side; to be called in a new process."""
    machine.use_cores(threads)
    devices.keep_freed_memory()
    real, fake = made_up(count, features)
    compute = by_balls if ours else whole_tables
    # Starts the backend.
    prdc(real[:50], fake[:50], neighbors=1)
    before, start = peak(), time.perf_counter()
    values = compute(real, fake, neighbors=neighbors)
    return Run(tuple(map(float, values)), time.perf_counter() - start, peak() - before)


def peak() -> float:
    """MiB of memory at the peak of this process; a new one's `getrusage` knows its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def compare(sides: Sides) -> list[str]:
    """A row of the table. The first call of ours compiles and does not count."""
    value = np.ravel(sides.ours())
    times: list[list[float]] = [[], []]
    for _ in range(FLAGS.repeats):
        for run, taken in zip((sides.ours, sides.other), times, strict=True):
            start = time.perf_counter()
            other = run()
            taken.append(time.perf_counter() - start)
    ours, others = map(statistics.median, times)
    difference = np.abs(value / np.ravel(other) - 1).max()
    row = [sides.what, f"{ours:.2f}", f"{others:.2f}", f"{others / ours:.1f}", f"{difference:.1e}"]
    print("  ".join(row), flush=True)
    return row


def compare_tables() -> list[list[str]]:
    """Rows of time and memory for precision and the like."""
    settings = (FLAGS.pictures, FLAGS.features, FLAGS.neighbors, FLAGS.threads)
    rows, runs = [], []
    for ours, name in ((True, "jaxgan, by blocks"), (False, "numpy, whole tables")):
        # A new process each: the peak of one must not hide that of the other.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            runs.append(pool.submit(alone, ours, *settings).result())
        values = ", ".join(f"{value:.4f}" for value in runs[-1].values)
        rows.append([name, f"{runs[-1].seconds:.1f}", f"{runs[-1].memory:.0f}", values])
        print("  ".join(rows[-1]), flush=True)
    return rows


def _from_trace(a: Moments, b: Moments, trace: float) -> float:
    spread = np.trace(a.covariance) + np.trace(b.covariance)
    return float(np.square(a.mean - b.mean).sum() + spread - 2 * trace)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    machine.use_cores(FLAGS.threads)
    devices.keep_freed_memory()
    others = machine.Others()
    tables = compare_tables()
    real, fake = made_up(FLAGS.pictures, FLAGS.features)
    a, b = Moments.of(real), Moments.of(fake)
    frechet = functools.partial(frechet_distance, a, b)
    subsets, size = FLAGS.subsets, min(FLAGS.subset_size, FLAGS.pictures)
    kernel = functools.partial(
        kernel_distance, real, fake, subsets=subsets, subset_size=size, seed=0
    )
    rows = [
        Sides(
            "moments, numpy.cov",
            lambda: Moments.of(real).covariance,
            lambda: np.cov(real.astype(np.float64), rowvar=False),
        ),
        Sides("Fréchet, scipy's sqrtm", frechet, lambda: by_root(a, b)),
        Sides("Fréchet, eigenvalues", frechet, lambda: by_eigenvalues(a, b)),
        Sides(
            f"kernel, {subsets} subsets of {size}, float64",
            kernel,
            lambda: plain_kernel(real, fake, subsets, size),
        ),
    ]
    head = ["what, beside what", "jaxgan, s", "other, s", "other / jaxgan", "relative difference"]
    print(machine.table(head, map(compare, rows)))
    head = ["precision, recall, density, coverage", "s", "peak, MiB", "values"]
    print(f"\n{machine.table(head, tables)}")
    where = machine.describe(["jax", "numpy", "scipy"])
    print(
        f"\n{where}; {FLAGS.pictures} pictures a side, {FLAGS.features} features; others took "
        f"{others.cores():.1f} cores"
    )


if __name__ == "__main__":
    app.run(main)
