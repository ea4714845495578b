"""Runs the scripts as a user does: in this process, where JAX is warm already, or in their own."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np
from absl import flags
from conftest import ROOT
from flax import traverse_util

from jaxgan.cli.recipes import expanded
from jaxgan.training.checkpoint import Checkpointer

EXPERIMENTS = ROOT / "experiments"
# Prepared pictures are kept between sessions, as compiled programs are; nothing of the user's is.
CACHE = ROOT / ".cache" / "tests"

COMMANDS = {name: name for name in ("train", "sample", "evaluate", "status")} | {
    "train_classifier": "classify"
}
"""The module in jaxgan.cli that each script runs."""

TINY = (
    "--model=gan",
    "--image_size=8",
    "--num_examples=40",
    "--batch_size=8",
    "--set=generator_widths=8",
    "--set=discriminator_widths=8",
    "--set=latent_size=4",
    "--num_samples=4",
    "--log_every=1",
)
"""A training that is over at once; the data are `shapes`."""


class Result(NamedTuple):
    status: int
    out: str
    err: str


def run(script: str, *arguments: object) -> Result:
    """Runs a script in this process, on its four devices.

    What app.run does beside it, such as printing a flag's error, is not done.
    """
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, _environment()),
        mock.patch.object(sys, "argv", [script, *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        module = load(script, *arguments)
        try:
            named = [text for text in map(str, arguments) if not text.startswith("-")]
            module.main([script, *named])
        except SystemExit as end:
            status = end.code
    return Result(status, out.getvalue(), err.getvalue())


def load(script: str, *arguments: object):
    """Returns a script's command with its flags parsed; those of the one before are gone."""
    for name, defined in flags.FLAGS.flags_by_module_dict().items():
        if name.startswith("jaxgan.cli."):
            for flag in list(defined):
                delattr(flags.FLAGS, flag.name)
    module = importlib.import_module(f"jaxgan.cli.{COMMANDS[script]}")
    module.define_flags()
    compiled = f"--compilation_cache={jax.config.jax_compilation_cache_dir}"
    given = [compiled] if "compilation_cache" in flags.FLAGS else []
    flags.FLAGS([script, *given, *expanded([*map(str, arguments)])])
    return module


def start(
    script: str | Path,
    *arguments: object,
    devices: int = 4,
    compiled: str | None = jax.config.jax_compilation_cache_dir,
    **environment: str,
) -> subprocess.Popen:
    """Starts `train`, `sample` or a file in a process of its own, with text pipes to read."""
    path = script if isinstance(script, Path) else EXPERIMENTS / f"{script}.py"
    given = [] if compiled is None else [f"--compilation_cache={compiled}"]
    return subprocess.Popen(
        [sys.executable, path, *given, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            **_environment(),
            "JAX_NUM_CPU_DEVICES": str(devices),
            "PYTHONUNBUFFERED": "1",
            **environment,
        },
    )


def finish(process: subprocess.Popen) -> Result:
    """Waits for a process that `start` started."""
    out, err = process.communicate(timeout=300)
    return Result(process.returncode, out, err)


def checkpoint(workdir: Path, step: int | None = None) -> dict[str, np.ndarray]:
    """Returns the arrays of a run's checkpoint, the last one by default."""
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        return traverse_util.flatten_dict(checkpointer.restore_raw(step).state, sep="/")


def assert_same_bits(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    """Checks that two checkpoints hold the same."""
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def tree(folder: Path) -> dict[str, bytes]:
    """Returns the contents of all files below a folder, hidden ones apart."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def _environment():
    return {"XDG_CACHE_HOME": str(CACHE)}
