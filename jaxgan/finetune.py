"""Starts a run from another run's weights."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
from absl import logging

from jaxgan import workdir as workdirs
from jaxgan.broadcast import from_process_0
from jaxgan.checkpoint import Checkpointer
from jaxgan.core import GanState
from jaxgan.errors import UsageError


def start_from(workdir: str | pathlib.Path, state: GanState) -> GanState:
    """Returns a new run's first state with the last weights of a workdir in it.

    Variables and the generator's average are taken where name and shape agree; those that differ
    are named in a warning and start anew, as the optimisers and the step count do.

    Raises:
      UsageError: if the folder is not a workdir, has no checkpoint, or no array of it fits.
    """
    from_process_0(lambda: workdirs.read(workdir))
    with Checkpointer(pathlib.Path(workdir) / "checkpoints", read_only=True) as checkpointer:
        restored = checkpointer.restore_raw()
    if restored is None:
        raise UsageError(f"{workdir} has no checkpoint yet; name a run that has saved one")
    known = _by_path({name: restored.state.get(name) for name in ("variables", "ema")})
    fresh = []

    def pick(path, new):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        old = known.get(name)
        if old is not None and old.shape == new.shape:
            return np.asarray(old, new.dtype)
        fresh.append(f"{name} ({'absent' if old is None else old.shape} there, {new.shape} here)")
        return new

    new = {"variables": state.variables, "ema": state.ema}
    new = jax.tree_util.tree_map_with_path(pick, new)
    if len(fresh) == len(jax.tree.leaves(new)):
        raise UsageError(f"--init_from {workdir}: nothing of it fits this model; {fresh[0]}")
    if fresh:
        logging.warning("--init_from %s: these start anew: %s", workdir, "; ".join(fresh))
    return state.replace(**new)


def _by_path(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
