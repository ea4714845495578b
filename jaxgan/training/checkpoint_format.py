"""What a checkpoint of one step looks like on disk.

A directory: `arrays/`, written by Orbax, and `manifest.json` with the schema and the checksums of
every array and file. Reading begins with the checksums, so that damage is known before Orbax meets
it, and whatever Orbax raises then is no damage but an error to see.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from jaxgan.training import integrity
from jaxgan.training.integrity import Arrays, DamagedError

SCHEMA = 1


class VersionError(RuntimeError):
    """The step was written by a newer version of the library."""


def write_step(directory: Path, arrays: Arrays, step: int) -> None:
    """Writes the arrays of a step by name into a directory that is made for it."""
    directory.mkdir()
    # Orbax refuses empty arrays and trees; the record of the former is enough to make them again.
    filled = {name: array for name, array in arrays.items() if array.size}
    if filled:
        with _orbax() as orbax:
            tree = traverse_util.unflatten_dict(filled, sep="/")
            orbax.save(directory / "arrays", args=ocp.args.StandardSave(tree))
    manifest = {
        "schema": SCHEMA,
        "step": step,
        "leaves": integrity.record(arrays),
        "files": integrity.file_checksums(directory),
    }
    integrity.write_json(directory / "manifest.json", manifest)


def read_step(directory: Path) -> Arrays:
    """Returns the arrays of the step that a directory is named after, bit for bit as written.

    Raises:
      DamagedError: they are not, or of another step.
      VersionError: a newer version wrote them.
    """
    manifest = read_manifest(directory)
    if manifest.get("step", int(directory.name)) != int(directory.name):  # older ones do not say
        raise DamagedError(f"it is step {manifest['step']} under another name")
    integrity.verify_files(directory, manifest["files"])
    arrays = {}
    if manifest["files"]:
        with _orbax() as orbax:
            tree = orbax.restore(directory / "arrays", args=ocp.args.StandardRestore())
        arrays = traverse_util.flatten_dict(tree, sep="/")
    for name, leaf in manifest["leaves"].items():
        if 0 in leaf["shape"]:
            arrays[name] = np.zeros(leaf["shape"], leaf["dtype"])
    integrity.verify(arrays, manifest["leaves"])
    return arrays


def read_manifest(directory: Path) -> dict[str, Any]:
    """Returns {"schema", "step", "leaves", "files"}; raises what `read_step` does."""
    manifest = integrity.read_json(directory / "manifest.json")
    if manifest["schema"] > SCHEMA:
        raise VersionError(
            f"{directory} has schema {manifest['schema']} and this version of jaxgan reads up to "
            f"{SCHEMA}: update jaxgan"
        )
    return manifest


def _orbax() -> ocp.Checkpointer:
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
    return ocp.Checkpointer(ocp.StandardCheckpointHandler(), multiprocessing_options=alone)
