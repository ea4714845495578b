"""Times the compilation of each update, from nothing and from the cache, as images grow.

python benchmarks/compiling.py
python benchmarks/compiling.py --models=stylegan2,r3gan --sizes=64 --cpu_time

With the model's own settings for the size, widths included; of a model that grows, the last stage.
"Cold" traces and compiles with nothing compiled before, "cached" traces and reads from the cache
on disk what the cold one left there.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import jax
import machine
import numpy as np
from absl import app, flags

from jaxgan import devices
from jaxgan.core import Gan, Plan, init_state
from jaxgan.data import Dataset, DataSpec, batches
from jaxgan.models import MODELS
from jaxgan.stages import as_stages, gan_at
from jaxgan.training import loop as train

flags.DEFINE_list("models", ["stylegan2"], "Which models, on unlabeled RGB images.")
flags.DEFINE_list("sizes", ["32", "64", "128"], "Sides of the images in pixels.")
flags.DEFINE_integer("batch_size", 8, "Images a batch.", lower_bound=1)
flags.DEFINE_integer("threads", 2, "CPU cores.", lower_bound=1)
flags.DEFINE_bool("cpu_time", False, "Count processor time, for machines that are not quiet.")
FLAGS = flags.FLAGS


def compile_all(gan: Gan, batch: Mapping[str, np.ndarray]) -> list[float]:
    """Compiles each update of a Gan for batches like this one; returns the seconds that it took."""
    jax.clear_caches()
    clock = time.process_time if FLAGS.cpu_time else time.perf_counter
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: init_state(gan, key), key)
    seconds = []
    for update in train.compile_program(gan).updates:
        start = clock()
        update.lower(state, devices.shard(batch), key).compile()
        seconds.append(clock() - start)
    return seconds


def rows(model: str, size: int) -> list[list[str]]:
    """Returns a table's row for each update of a model."""
    module = MODELS[model]
    spec = DataSpec("none", size, 3, None, ())
    made = module.make(spec, module.Config(), Plan(FLAGS.batch_size, 1_000_000))
    gan = gan_at(as_stages(made, size, FLAGS.batch_size), 1_000_000)
    black = Dataset(spec, np.zeros((FLAGS.batch_size, size, size, 3), np.uint8), None, "none")
    batch = next(batches(black, seed=0, batch_size=FLAGS.batch_size))
    cold, cached = compile_all(gan, batch), compile_all(gan, batch)
    table = []
    for update, first, again in zip(gan.updates, cold, cached, strict=True):
        terms = ", ".join(name for name, (weight, _) in update.objective.items() if weight)
        what = f"{model}, {size} px, {update.player} ({terms})"
        table.append([what, f"{first:.1f}", f"{again:.1f}"])
    table.append([f"{model}, {size} px, together", f"{sum(cold):.1f}", f"{sum(cached):.1f}"])
    return table


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    machine.use_cores(FLAGS.threads)
    others, table = machine.Others(), []
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        for model, size in itertools.product(FLAGS.models, FLAGS.sizes):
            for row in rows(model, int(size)):
                print(*row, sep="  ", file=sys.stderr)
                table.append(row)
    print(machine.table(["seconds", "cold", "cached"], table))
    clock = "processor" if FLAGS.cpu_time else "elapsed"
    note = machine.describe(["jax", "jaxlib", "flax"])
    note += f"; batch {FLAGS.batch_size}; {clock} time"
    print(f"\n{note}; others took {others.cores():.2f} cores")


if __name__ == "__main__":
    app.run(main)
