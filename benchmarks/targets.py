"""What updates and layers cost on a device that is not here, by its own compiler.

python benchmarks/targets.py --parts=flop                   # every model, by lowering: no compiler
python benchmarks/targets.py --parts=updates --models=dcgan --precisions=bfloat16
python benchmarks/targets.py --parts=layers                 # what the TPU's ways gain

"Cycles" is the compiler's sum of estimated cycles at the chip's clock, "optimal" every operation at
its roofline. Neither is a measurement: rank by cycles, check by optimal, believe a chip alone. The
compilers must be installed (`jaxgan[tpu]`); large updates compile for many minutes.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import machine
import optax
from absl import app, flags

from jaxgan import devices
from jaxgan.core import Plan, init_state
from jaxgan.data import DataSpec
from jaxgan.layers import resample
from jaxgan.layers.conv import conv_transpose
from jaxgan.layers.grouped import grouped_conv
from jaxgan.models import MODELS
from jaxgan.precision import with_precision
from jaxgan.stages import Stage, as_stages
from jaxgan.training import targets
from jaxgan.training.check import examples
from jaxgan.training.dry_run import lowered_cost
from jaxgan.training.loop import compile_program

flags.DEFINE_list("parts", ["flop", "updates", "layers"], "What is shown.")
flags.DEFINE_list("models", ["gan", "dcgan", "wgan_gp"], "Whose updates are compiled.")
flags.DEFINE_list("precisions", ["float32", "bfloat16"], "Of the networks in these.")
flags.DEFINE_list("layers", [], "Which layers. Default: all.")
flags.DEFINE_string("target", "tpu-v5e:1x1", f"{targets.NAMES}.")
FLAGS = flags.FLAGS

_PEAK = {"v5e": 197e12, "v5p": 459e12, "v6e": 918e12}  # bfloat16 FLOP/s a chip


class Paper(NamedTuple):
    """The pictures of a paper, or the smallest that its networks are for."""

    size: int
    channels: int = 3
    classes: int = 0
    batch_size: int = 64


PAPERS = {
    "gan": [Paper(28, 1)],
    "cgan": [Paper(28, 1, 10)],
    "improved": [Paper(28, 1, 10)],
    "acgan": [Paper(32, 3, 10)],
    "dcgan": [Paper(64)],
    "wgan": [Paper(64)],
    "wgan_gp": [Paper(64)],
    "sagan": [Paper(64, 3, 10)],
    "progan": [Paper(64)],
    "stylegan": [Paper(64)],
    "stylegan2": [Paper(64, batch_size=32), Paper(256, batch_size=32)],
    "stargan": [Paper(128, 3, 5, batch_size=16)],
    "r3gan": [Paper(64, batch_size=32), Paper(256, batch_size=32)],
}


def stages(model: str, paper: Paper, precision: str) -> tuple[DataSpec, list[Stage]]:
    """Returns a model with its usual Config, as it is trained on such pictures."""
    names = tuple(map(str, range(paper.classes)))
    kind = "class" if names else None
    spec = DataSpec("none", paper.size, paper.channels, kind, names)
    module = MODELS[model]
    made = module.make(spec, module.Config(), Plan(paper.batch_size, 1_000_000))
    found = as_stages(made, paper.size, paper.batch_size)
    return spec, [stage._replace(gan=with_precision(stage.gan, precision)) for stage in found]


def flop() -> Iterator[list[str]]:
    """A row for every stage of every model: TFLOP of its updates, and of an iteration."""
    for model, papers in PAPERS.items():
        for paper in papers:
            spec, found = stages(model, paper, "bfloat16")
            for stage in found:
                gan, size, batch_size, _ = stage
                each, total = [], 0.0
                for number, update in enumerate(gan.updates):
                    cost = lowered_cost(gan, number, spec, batch_size, "tpu")["flops"] / 1e12
                    often = f" x{update.repeat}" * (update.repeat > 1)
                    often += f" /{update.every}" * (update.every > 1)
                    each.append(f"{update.player[0].upper()} {cost:.2g}{often}")
                    total += cost * update.repeat / update.every
                bound = batch_size * _PEAK["v5e"] / (total * 1e12)
                yield [
                    f"{model} {size}",
                    f"{batch_size}",
                    ", ".join(each),
                    f"{total:.3g}",
                    f"{bound:,.0f}",
                ]


def updates(target: targets.Target) -> Iterator[list[str]]:
    """A row for each update of the models, compiled."""
    count = len(target.devices)
    for model in FLAGS.models:
        paper = PAPERS[model][0]
        for precision in FLAGS.precisions:
            spec, found = stages(model, paper, precision)
            gan, size, batch_size, _ = found[-1]
            key = jax.eval_shape(lambda: jax.random.key(0))
            state = jax.eval_shape(functools.partial(init_state, gan), key)
            # A chip of a pod looks at as many pictures as one alone.
            batch = examples(spec, batch_size, count)
            program = compile_program(gan, on=target.devices)
            for update, function in zip(gan.updates, program.updates, strict=True):
                terms = ", ".join(name for name, (weight, _) in update.objective.items() if weight)
                title = f"{model} {size}, batch {batch_size} a chip, {precision}: {update.player}"
                yield [f"{title} ({terms})", *cost(target, function.lower(state, batch, key))]


def cost(target: targets.Target, lowered: jax.stages.Lowered) -> list[str]:
    """Compiles a program; returns the cells of its row."""
    began = time.monotonic()
    compiled = lowered.compile()
    took, found = time.monotonic() - began, compiled.cost_analysis() or {}
    seconds, flops = target.seconds(compiled), found.get("flops", math.nan)
    optimal, share = math.nan, math.nan
    if seconds is None:
        seconds = math.nan
    else:
        # The compiler counts each of some calls of its own, which take no time, as minus a second.
        optimal = found["optimal_seconds"] % 1
        share = flops / seconds / _PEAK[target.name.partition("-")[2].partition(":")[0]]
    exchanged = targets.collectives(compiled)
    return [
        f"{flops / 1e9:.3g}",
        f"{found.get('bytes accessed', math.nan) / 1e9:.3g}",
        f"{seconds * 1e3:.3f}",
        f"{optimal * 1e3:.3f}",
        f"{share:.1%}",
        f"{devices.bytes_of(compiled) / 2**20:,.0f}",
        ", ".join(f"{count} {name}" for name, count in exchanged.items()) or "-",
        f"{took:.0f}",
    ]


def _both(function: Callable) -> Callable:
    """(inputs..., d) -> the value and all derivatives of a function."""

    def run(*arrays):
        *inputs, d = arrays
        value, back = jax.vjp(function, *inputs)
        return value, back(d)

    return run


def _by_weight(function: Callable) -> Callable:
    """(x, w, d) -> the derivative by w alone."""

    def run(x, w, d):
        return jax.vjp(functools.partial(function, x), w)[1](d)

    return run


def _adam(guarded: Callable) -> Callable:
    """Adam and the guard against what is not finite; `guarded` says what is looked at."""
    tx = optax.adam(2e-4)

    def run(params, opt, grads):
        delta, moved = tx.update(grads, opt, params)
        new = optax.apply_updates(params, delta)
        sums = [jnp.sum(x) for x in jax.tree.leaves(guarded(grads, new, moved))]
        finite = jnp.isfinite(jnp.stack(sums)).all()
        old = (params, opt)
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), (new, moved), old)

    return run


def _shifted_ways(axes):
    return (functools.partial(resample._shifted, axes),) * 2


def layers(target: targets.Target) -> Iterator[list[str]]:
    """A row for each way of what a TPU computes otherwise than a CPU, or than XLA by itself."""

    def of(shape, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(shape, dtype)

    up = functools.partial(conv_transpose, stride=2)
    transposed = (of((32, 64, 64, 256)), of((3, 3, 128, 256)), of((32, 129, 129, 128)))
    grouped = (of((32, 32, 32, 1536)), of((3, 3, 16, 1536)), of((32, 32, 32, 1536)))
    upsampled = (of((32, 64, 64, 256)), of((3, 3, 256, 128)), of((32, 128, 128, 128)))
    params = [of((1024, 1024), jnp.float32)] * 28
    moments = jax.eval_shape(optax.adam(2e-4).init, params)
    adam = (params, moments, params)
    ways = {
        "transposed": (
            "weight gradient of a transposed convolution, 64 to 129 px, 256 to 128 channels",
            transposed,
            {
                "XLA's derivative": _by_weight(functools.partial(up, by_xla=True)),
                "the trio's": _by_weight(up),
            },
        ),
        "grouped": (
            "96 groups of 16 channels, 3x3, 32 px, and gradients",
            grouped,
            {
                "XLA's groups": _both(functools.partial(grouped_conv, by_xla=True)),
                "in lanes of 128": _both(grouped_conv),
            },
        ),
        "upsampled": (
            "upsample_conv, 64 to 128 px, 256 to 128 channels, and gradients",
            upsampled,
            {
                "shifted sums": _both(resample.upsample_conv),
                "depthwise convolution": _both(resample.upsample_conv),
            },
        ),
        "guard": (
            "Adam and the guard, 29 M parameters",
            adam,
            {
                "of the new parameters": _adam(lambda grads, new, moved: (new, grads, moved)),
                "of the gradients": _adam(lambda grads, new, moved: grads),
            },
        ),
    }
    for name in FLAGS.layers or ways:
        title, inputs, found = ways[name]
        for way, function in found.items():
            shifted = mock.patch.object(resample, "_ways", _shifted_ways)
            arguments = devices.shapes(inputs, target.devices)
            if way == "shifted sums":
                with shifted:
                    lowered = jax.jit(lambda *a, f=function: f(*a)).lower(*arguments)
            else:
                donated = (0, 1) if name == "guard" else ()
                lowered = jax.jit(function, donate_argnums=donated).lower(*arguments)
            yield [f"{title}: {way}", *cost(target, lowered)]


_COST = ["GFLOP", "GB", "cycles, ms", "optimal, ms", "of peak", "MiB", "exchanged", "compiled, s"]


def _table(head: Sequence[str], rows: Iterator[list[str]]) -> str:
    seen = []
    for row in rows:
        print(*row, sep="  ", file=sys.stderr, flush=True)
        seen.append(row)
    return machine.table(head, seen)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    jax.config.update("jax_platforms", "cpu")
    if "flop" in FLAGS.parts:
        head = ["model, px", "batch", "TFLOP an update", "TFLOP an iteration", "bound, images/s"]
        print(_table(head, flop()), end="\n\n")
    packages = ["jax", "jaxlib"]
    if {"updates", "layers"} & {*FLAGS.parts}:
        target = targets.find(FLAGS.target)
        packages += ["libtpu"] * FLAGS.target.startswith("tpu")
        for part, rows in (("updates", updates), ("layers", layers)):
            if part in FLAGS.parts:
                print(_table([FLAGS.target, *_COST], rows(target)), end="\n\n")
    print(machine.describe(packages))


if __name__ == "__main__":
    app.run(main)
