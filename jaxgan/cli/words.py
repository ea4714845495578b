"""What a training says to people before its first step, and when it ends."""

from __future__ import annotations

import math
import pathlib
import shlex
import sys

import jax

from jaxgan import addresses
from jaxgan.core import PLAYERS, GanState
from jaxgan.data import Dataset
from jaxgan.training.checkpoint import Checkpointer


def beginning(
    model: str, dataset: Dataset, precision: str, workdir: pathlib.Path, steps: int, state: GanState
) -> str:
    """Returns four lines: pictures, networks, devices, and where and from which step it begins.

    Args:
      model: the method's name.
      dataset: what it is trained on.
      precision: of the networks.
      workdir: of the run.
      steps: to be done in all.
      state: from which it begins or goes on.
    """
    spec, step = dataset.spec, int(state.step)
    labels = {"class": "classes", "tags": "tags"}.get(spec.label_kind)
    labels = f", {len(spec.label_names)} {labels}" if labels else ", no labels"
    kind = {1: "gray", 3: "RGB"}.get(spec.channels, f"{spec.channels} channels")
    counts = [
        f"{player} {_count(state.variables[player]['params']):,} parameters" for player in PLAYERS
    ]
    machines = f" in {jax.process_count()} processes" * (jax.process_count() > 1)
    from_step = f"goes on from step {step:,}" if step else "new run"
    return "\n".join(
        [
            f"{spec.name}: {len(dataset):,} pictures, {spec.size}x{spec.size} {kind}{labels}",
            f"{model}: {', '.join(counts)}",
            f"{jax.device_count()} x {jax.devices()[0].device_kind}{machines}, {precision}",
            f"{addresses.shown(workdir)}: {from_step}, to step {steps:,}",
        ]
    )


def ending(workdir: pathlib.Path, steps: int) -> str:
    """Returns where things are, whether the run is complete, and the command that goes on."""
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        step = max(checkpointer.steps(), default=0)
    lines, shown = [], addresses.shown(workdir)
    samples = max((workdir / "samples").glob("step_*.png"), default=None)
    if samples is not None:
        lines.append(f"samples: {addresses.shown(samples)}")
    if step > steps:
        lines.append(f"{shown} is at step {step} already, --steps={steps} is behind it")
    elif steps == 0:
        lines.append("--steps=0: nothing was trained, and nothing written")
    elif step == steps:
        lines.append(f"complete: {_command('sample')} --workdir={shown} --out=grid.png draws")
    else:
        command = f"{_command('train')} {shlex.join(sys.argv[1:])}"
        lines.append(f"stopped at step {step:,} of {steps:,}; to go on: {command}")
    return "\n".join(lines)


def _command(name: str) -> str:
    program = pathlib.Path(sys.argv[0])
    if program.suffix == ".py":
        return f"python {program.with_name(name)}.py"
    return f"jaxgan {name}"


def _count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
