"""Times minibatch discrimination, forward and backward, beside Python loops and PyTorch.

python benchmarks/minibatch.py
python benchmarks/minibatch.py --dims=5 --threads=1 --cpu_time
python benchmarks/minibatch.py --examples=64 --group=16

One loop calls a compiled function for each example, the other runs PyTorch's operations for each.
PyTorch's usual form subtracts the whole batch from itself at once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import machine
import numpy as np
import torch
from absl import app, flags

from jaxgan import devices
from jaxgan.layers.minibatch import similarity

flags.DEFINE_multi_integer("examples", [16, 64, 256, 1024], "Examples in a batch.")
flags.DEFINE_integer("group", None, "Examples in a group; by default all.", lower_bound=1)
flags.DEFINE_integer("kernels", 100, "Similarities for each example.", lower_bound=1)
flags.DEFINE_integer("dims", 4, "Dimensions of each.", lower_bound=1)
flags.DEFINE_integer("threads", 2, "CPU cores.", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "Runs of each; the median counts.", lower_bound=1)
flags.DEFINE_bool("cpu_time", False, "Count processor time, for machines that are not quiet.")
FLAGS = flags.FLAGS


def measure(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """Milliseconds, without the first call; no further runs once ten seconds are spent."""
    run()
    times, begin = [], time.perf_counter()
    while len(times) < FLAGS.repeats and (not times or time.perf_counter() - begin < 10):
        start = clock()
        run()
        times.append(1e3 * (clock() - start))
    return statistics.median(times)


def ours() -> Callable[[jax.Array], jax.Array]:
    """The gradient by the batch [n, kernels, dims], compiled."""
    return jax.jit(jax.grad(lambda m: jnp.sin(similarity(m, group=FLAGS.group)).sum()))


def loop() -> Callable[[Sequence[jax.Array]], jax.Array]:
    """The same of groups [group, kernels, dims], one compiled call for each example."""

    @jax.jit
    def near(m, i):
        return jnp.exp(-jnp.abs(m[i] - m).sum(-1)).sum(0)

    @jax.jit
    def gradient(m, i, total):
        _, pull = jax.vjp(lambda m: near(m, i), m)
        return total + pull(jnp.cos(near(m, i)))[0]

    def run(groups):
        totals = []
        for m in groups:
            total = jnp.zeros_like(m)
            for i in range(len(m)):
                total = gradient(m, i, total)
            totals.append(total)
        return jnp.concatenate(totals)

    return run


def eager_loop(groups: torch.Tensor) -> torch.Tensor:
    """The same by PyTorch, eager, one example of [groups, group, kernels, dims] at a time."""
    groups = groups.detach().requires_grad_()
    near = [torch.exp(-(one - m).abs().sum(-1)).sum(0) for m in groups for one in m]
    torch.sin(torch.stack(near)).sum().backward()
    return groups.grad


def broadcast(groups: torch.Tensor) -> torch.Tensor:
    """The same by PyTorch, eager, all at once."""
    groups = groups.detach().requires_grad_()
    near = torch.exp(-(groups[:, :, None] - groups[:, None]).abs().sum(-1)).sum(2)
    torch.sin(near).sum().backward()
    return groups.grad


def compare(count: int) -> list[str]:
    """A row of the table for a batch of so many examples."""
    group = FLAGS.group or count
    shape = (count, FLAGS.kernels, FLAGS.dims)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    in_groups = array.reshape(-1, group, *shape[1:])
    m, groups, peer = jnp.asarray(array), list(map(jnp.asarray, in_groups)), torch.tensor(in_groups)
    compiled = ours().lower(m).compile()
    alone = loop()
    expected = broadcast(peer).numpy().reshape(shape)
    np.testing.assert_allclose(compiled(m), expected, rtol=1e-3, atol=1e-3)
    # All but those few that have an equal: there JAX's own |x| has the slope 1.
    assert np.isclose(compiled(m), alone(groups), rtol=1e-3, atol=1e-3).mean() > 0.9999

    clock = time.process_time if FLAGS.cpu_time else time.perf_counter
    times = [
        measure(lambda: compiled(m).block_until_ready(), clock),
        measure(lambda: alone(groups).block_until_ready(), clock),
        measure(lambda: eager_loop(peer), clock),
        measure(lambda: broadcast(peer), clock),
    ]
    # PyTorch keeps the differences and the table of pairs for its backward pass.
    peak = 4 * count * group * FLAGS.kernels * (FLAGS.dims + 1)
    memory = [compiled.memory_analysis().temp_size_in_bytes, peak]
    row = [
        str(count),
        *(f"{t:.2f}" for t in times),
        *(f"{t / times[0]:.1f}" for t in times[1:]),
        *(f"{bytes_ / 2**20:.1f}" for bytes_ in memory),
    ]
    print("  ".join(row), flush=True)
    return row


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    machine.use_cores(FLAGS.threads)
    torch.set_num_threads(FLAGS.threads)
    devices.keep_freed_memory()
    others = machine.Others()
    rows = [compare(count) for count in FLAGS.examples]
    head = [
        "examples",
        "jaxgan, ms",
        "compiled loop, ms",
        "PyTorch loop, ms",
        "PyTorch, ms",
        "compiled loop / jaxgan",
        "PyTorch loop / jaxgan",
        "PyTorch / jaxgan",
        "jaxgan, MiB",
        "PyTorch, MiB at least",
    ]
    print(machine.table(head, rows))
    where = machine.describe(["jax", "torch"])
    clock = "processor time" if FLAGS.cpu_time else "time"
    print(
        f"\n{where}; kernels {FLAGS.kernels}, dims {FLAGS.dims}; {clock}; others took "
        f"{others.cores():.1f} cores"
    )


if __name__ == "__main__":
    app.run(main)
