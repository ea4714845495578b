"""Starts a run from another run's weights."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
from absl import logging

from jaxgan.core import GanState
from jaxgan.errors import UsageError
from jaxgan.processes import from_process_0
from jaxgan.stages import taken_over
from jaxgan.training import workdir as workdirs
from jaxgan.training.checkpoint import Checkpointer


def start_from(
    workdir: str | pathlib.Path,
    state: GanState,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> GanState:
    """Returns a new run's first state with the last weights of a workdir in it.

    Variables and the generator's average are taken where name and shape agree; the others start
    over, as the optimizers and the step count do. A warning says from which step the weights are,
    how many arrays fit, and why others do not.

    Args:
      workdir: of the other run, a path or an address.
      state: the new run's, as it begins without that.
      settings: the new run's `config.json`.

    Raises:
      UsageError: if the folder is not a workdir, has no checkpoint, or no array of it fits.
    """
    folder = workdirs.to_read(workdir)
    old = from_process_0(lambda: workdirs.read(folder))
    with Checkpointer(folder / "checkpoints", read_only=True) as checkpointer:
        restored = checkpointer.restore_raw()
    if restored is None:
        raise UsageError(f"{workdir} has no checkpoint yet; name a run that has saved one")
    new = {"variables": state.variables, "ema": state.ema}
    new, fresh = taken_over(new, {name: restored.state.get(name) for name in new})
    count = len(jax.tree.leaves(new))
    different = workdirs.config_differences(old, settings) if settings else []
    reasons = "; ".join(different or fresh[:5])
    if len(fresh) == count:
        raise UsageError(f"--init_from={workdir}: nothing of it fits this model: {reasons}")
    others = f", the others start over: {reasons}" if fresh else ""
    logging.warning(
        "--init_from=%s: weights of step %d, %d of %d arrays fit%s",
        *(workdir, restored.step, count - len(fresh), count, others),
    )
    return state.replace(**new)
