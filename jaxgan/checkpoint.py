"""Checkpoints that survive kills, full disks, damage and second runs: Orbax behind a small door.

Orbax writes a step into a temporary directory and renames it when it is complete. Added here are
a lock, a checksum for every array, the walk back from damaged steps to the newest good one, and
errors that say which leaf does not fit. Arrays are stored from and restored to host memory, so
that the number of devices may change in between. In a run of several processes only process 0
touches the disk; what it restores, or the error it meets, reaches the others by broadcast.
"""

import contextlib
import fcntl
import itertools
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import traverse_util

from jaxgan import integrity
from jaxgan.broadcast import from_process_0
from jaxgan.integrity import Arrays, DamagedError, PyTree

SCHEMA = 1

# What Orbax raises for a truncated, flipped, missing or emptied file. Anything else is not damage
# (no permission, no memory, a mistake in a program) and must not set a good step aside.
_DAMAGE = (
    DamagedError,
    ValueError,
    KeyError,
    TypeError,
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, read, or fitted to the model."""


class Restored(NamedTuple):
    step: int
    state: PyTree  # host arrays
    meta: dict[str, Any]


class Checkpointer:
    """The checkpoints of one run, a directory for each step; a context manager, one writer a time.

    Args:
      directory: where the steps are; made if absent, unless read_only.
      keep: how many of the newest steps to keep.
      keep_every: steps divisible by this are kept besides, for ever.
      read_only: neither locks nor changes anything, so a running training may be looked at.

    With several processes, the constructor, `restore` and `restore_raw` are collective: all
    processes call them, in the same order, and all raise the same CheckpointError.

    Raises:
      CheckpointError: the directory cannot be written, or another run is using it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int = 3,
        keep_every: int | None = None,
        read_only: bool = False,
    ):
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least 1 checkpoint must be kept")
        if keep_every is not None and keep_every < 1:
            raise ValueError(f"keep_every is {keep_every}; it is a number of steps, or None")
        self.directory = Path(os.path.abspath(directory))
        self._keep = keep
        self._keep_every = keep_every
        self._read_only = read_only
        self._lock = contextlib.ExitStack()
        self._writer: ocp.AsyncCheckpointer | None = None
        self._saving: int | None = None
        self._closed = False
        if not read_only:
            from_process_0(self._open)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def save(
        self, step: int, state: PyTree, meta: Mapping[str, Any], *, force: bool = False
    ) -> None:
        """Copies the state to the host and writes it in the background.

        The state's buffers may be donated as soon as this returns. Saving a step again is fine
        while its arrays are equal. Meta is JSON; tuples come back as lists.

        Args:
          step: the number of steps done; larger than that of any existing checkpoint.
          state: a tree of arrays, in a run of several processes replicated over all of them.
          meta: what is needed to understand the state, as JSON.
          force: set existing steps from this one on aside (as `<step>.replaced`), and save.

        Raises:
          CheckpointError: an earlier save failed, the step is not new, or writing is impossible.
          TypeError: the state holds something else than arrays, or meta something else than JSON.
        """
        if self._read_only or self._closed:
            why = "opened read-only" if self._read_only else "closed"
            raise CheckpointError(f"{self.directory} is {why}; nothing can be saved in it")
        if self._writer is None:
            return  # process 0 writes
        self.wait()
        arrays = integrity.host_copy(state)
        records = integrity.record(arrays)
        envelope = integrity.seal({"schema": SCHEMA, "leaves": records, "meta": dict(meta)})
        if not self._make_way(step, records, force):
            return
        self._saving = step
        with self._explained_failure():
            self._writer.save(
                self._path(step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(_storable(arrays)),
                    meta=ocp.args.JsonSave(envelope),
                ),
            )

    def restore(self, template: PyTree, step: int | None = None) -> Restored | None:
        """Reads the newest good step, as host arrays in the structure of the template.

        Damaged newer steps are passed over with a warning, and renamed to `<step>.corrupt`.

        Args:
          template: a tree of arrays or of jax.ShapeDtypeStruct, as `save` was given.
          step: read this step and no other.

        Returns:
          None if there is no checkpoint at all.

        Raises:
          CheckpointError: a leaf of the template is absent or of another shape or dtype, every
            step is damaged, the step was asked for and is absent or damaged, or it was written
            by a newer version.
        """
        found = from_process_0(lambda: self._read(step))
        if found is None:
            return None
        step, arrays, meta = found
        try:
            return Restored(step, integrity.fit(template, arrays), meta)
        except ValueError as error:
            raise CheckpointError(
                f"{self._path(step)} does not fit: {error}: use the settings of the run, "
                f"or another --workdir"
            ) from None

    def restore_raw(self, step: int | None = None) -> Restored | None:
        """Like `restore`, without a template: the state is nested dicts of host arrays.

        Fields of tuples and dataclasses appear under their names, items of sequences under their
        numbers: `state["opt"]["generator"]["0"]["mu"]`.
        """
        found = from_process_0(lambda: self._read(step))
        if found is None:
            return None
        step, arrays, meta = found
        return Restored(step, traverse_util.unflatten_dict(arrays, sep="/"), meta)

    def steps(self) -> list[int]:
        """The steps on this process's disk, ascending; reading may yet find one damaged."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

    def wait(self) -> None:
        """Waits until the last save is on disk; raises CheckpointError if it failed."""
        if self._writer is not None:
            with self._explained_failure():
                self._writer.wait_until_finished()
            self._saving = None
            for step in expired(self.steps(), self._keep, self._keep_every):
                self._delete(step)

    def close(self) -> None:
        """Waits for the last save and lets the next run in. Closing twice is fine."""
        if self._closed:
            return
        try:
            self.wait()
        except CheckpointError:
            self._finish()
            raise
        # An interrupted wait leaves the door open: closing again waits for the rest.
        self._finish()

    def _finish(self) -> None:
        self._closed = True
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._lock.close()

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def _open(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = self._lock.enter_context((self.directory / ".lock").open("a+"))
        except OSError as error:
            raise CheckpointError(
                f"{self.directory} cannot be written ({error}); use another --workdir"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it after a kill -9
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            self._lock.close()
            raise CheckpointError(
                f"{self.directory} is in use by another run (pid {holder}); "
                f"wait for it, stop it, or use another --workdir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for leftover in self.directory.glob("*.deleted"):
            shutil.rmtree(leftover)
        self._remove_unfinished()
        self._writer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(), multiprocessing_options=_only_process_0()
        )

    @contextlib.contextmanager
    def _explained_failure(self):
        try:
            yield
        except Exception as error:
            self._remove_unfinished()
            raise CheckpointError(
                f"step {self._saving} could not be saved in {self.directory}: {error}; "
                f"earlier steps are untouched: see that the disk has room and can be written"
            ) from error

    def _remove_unfinished(self) -> None:
        for unfinished in self.directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(unfinished)

    def _make_way(self, step: int, records: integrity.Records, force: bool) -> bool:
        existing = [s for s in self.steps() if s >= step]
        if not existing:
            return True
        if step in existing and self._holds(step, records):
            logging.info("%s already holds this state", self._path(step))
            return False
        if not force:
            raise CheckpointError(
                f"step {step} cannot be saved: {self.directory} has step {existing[-1]} already"
                f"{' with another state' if existing[-1] == step else ''}; "
                f"restore it first, or use another --workdir"
            )
        for old in existing:
            logging.warning("%s is replaced by step %d", self._set_aside(old, "replaced"), step)
        return True

    def _holds(self, step: int, records: integrity.Records) -> bool:
        try:
            return _read_envelope(self._path(step))["leaves"] == records
        except _DAMAGE:
            return False

    def _set_aside(self, step: int, reason: str) -> Path:
        names = itertools.chain(
            [f"{step}.{reason}"], (f"{step}.{reason}-{n}" for n in itertools.count(2))
        )
        free = next(path for name in names if not (path := self.directory / name).exists())
        return self._path(step).rename(free)

    def _delete(self, step: int) -> None:
        # Renamed first: a kill in between must not leave a step with half its files.
        shutil.rmtree(self._path(step).rename(self.directory / f"{step}.deleted"))

    def _read(self, step: int | None) -> tuple[int, Arrays, dict[str, Any]] | None:
        self.wait()
        steps = self.steps()
        if step is not None:
            if step not in steps:
                raise CheckpointError(f"{self.directory} has no step {step}, but {steps or 'none'}")
            steps = [step]
        damaged: dict[int, Exception] = {}
        for candidate in reversed(steps):
            try:
                arrays, meta = _read_step(self._path(candidate))
            except _DAMAGE as error:
                if not self._path(candidate).exists():
                    return self._read(step)  # a running training has just deleted it
                logging.warning(
                    "%s is damaged (%s: %s)", self._path(candidate), type(error).__name__, error
                )
                damaged[candidate] = error
                continue
            if damaged:
                logging.warning("going back to step %d", candidate)
                if not self._read_only:
                    for bad in damaged:
                        logging.warning("kept as %s", self._set_aside(bad, "corrupt"))
            return candidate, arrays, meta
        if not damaged:
            return None
        causes = "; ".join(f"step {bad}: {error}" for bad, error in damaged.items())
        raise CheckpointError(
            f"no checkpoint in {self.directory} can be read ({causes}); the files are kept: "
            f"repair them, or start again with another --workdir"
        )


def expired(steps: Iterable[int], keep: int, keep_every: int | None = None) -> list[int]:
    """The steps that are neither among the newest `keep` nor divisible by `keep_every`."""
    old = sorted(steps)[:-keep]
    return [step for step in old if keep_every is None or step % keep_every]


def _storable(arrays: Arrays) -> PyTree:
    # Orbax refuses empty arrays; their record is enough to make them again.
    filled = {name: array for name, array in arrays.items() if array.size}
    return traverse_util.unflatten_dict(filled, sep="/")


def _read_step(path: Path) -> tuple[Arrays, dict[str, Any]]:
    envelope = _read_envelope(path)
    stored = _restore(path, state=ocp.args.StandardRestore())["state"]
    arrays = traverse_util.flatten_dict(stored, sep="/")
    for name, leaf in envelope["leaves"].items():
        if 0 in leaf["shape"]:
            arrays[name] = np.zeros(leaf["shape"], leaf["dtype"])
    integrity.verify(arrays, envelope["leaves"])
    return arrays, envelope["meta"]


def _read_envelope(path: Path) -> dict[str, Any]:
    envelope = integrity.unseal(_restore(path, meta=ocp.args.JsonRestore())["meta"])
    if envelope["schema"] > SCHEMA:
        raise CheckpointError(
            f"{path} has schema {envelope['schema']} and this version of jaxgan reads up to "
            f"{SCHEMA}: update jaxgan"
        )
    return envelope


def _restore(path: Path, **items: ocp.args.CheckpointArgs) -> Mapping[str, Any]:
    with ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(), multiprocessing_options=_only_process_0()
    ) as reader:
        return reader.restore(path, args=ocp.args.Composite(**items))


def _only_process_0() -> ocp.options.MultiprocessingOptions:
    return ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
