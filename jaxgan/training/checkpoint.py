"""Checkpoints that survive kills, full disks, damage and second runs: Orbax behind a small door.

A thread writes a step under another name and renames it when it is complete; an old step is renamed
before it is deleted. So a step that has its name is whole, unless the disk has damaged it.

Arrays are stored from and restored to host memory: the number of devices may change in between.
In a run of several processes only process 0 touches the disk; what it restores, or the error it
meets, is sent to the others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import logging
from flax import traverse_util

from jaxgan import addresses
from jaxgan.errors import AdviceError
from jaxgan.processes import arrays_from_process_0, from_process_0
from jaxgan.remote import AddressError
from jaxgan.training import checkpoint_format, integrity
from jaxgan.training.checkpoint_format import VersionError
from jaxgan.training.integrity import Arrays, DamagedError, PyTree

_LEAST_COMPRESSED = 0.8  # of their bytes is what weights and moments take on a disk, at the least


class CheckpointError(AdviceError, RuntimeError):
    """A checkpoint could not be written, read, or fitted to the model."""


class Restored(NamedTuple):
    step: int
    state: PyTree  # host arrays


class Checkpointer:
    """The checkpoints of one run, a directory for each step; a context manager, one writer a time.

    Args:
      directory: where the steps are; made if absent, unless read_only.
      keep: how many of the newest steps to keep.
      keep_every: steps divisible by this are kept besides, for ever.
      read_only: neither locks nor changes anything, so a running training may be looked at.

    With several processes, the constructor, `restore` and `restore_raw` are collective: all
    processes call them, in the same order. An error in one of them is an error in all, on the
    others than process 0 a Process0Error with its text.

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
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least 1 checkpoint must be kept")
        if keep_every is not None and keep_every < 1:
            raise ValueError(f"keep_every is {keep_every}; it is a number of steps, or None")
        self.directory = Path(os.path.abspath(directory))
        self._keep = keep
        self._keep_every = keep_every
        self._read_only = read_only
        self._protected: int | None = None
        self._closed = False
        self._lock = contextlib.ExitStack()
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._pending: tuple[int, Future[None]] | None = None
        if not read_only:
            from_process_0(self._open)

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def save(self, step: int, state: PyTree) -> None:
        """Copies the state to the host and writes it in the background.

        The state's buffers may be donated as soon as this returns. Saving a step again is fine
        while its arrays are equal. The step may get lost until `wait`, `close` or the next `save`.

        Args:
          step: the number of steps done; larger than that of any existing checkpoint.
          state: a tree of arrays, in a run of several processes replicated over all of them.

        Raises:
          CheckpointError: an earlier save failed, the step is not new, or a weight is not finite.
          TypeError: the state holds something else than arrays.
        """
        if self._read_only or self._closed:
            why = "opened read-only" if self._read_only else "closed"
            raise CheckpointError(f"{self.directory} is {why}; nothing can be saved in it")
        if jax.process_index() != 0:
            return
        self.wait()
        arrays = integrity.host_copy(state)
        for name, array in arrays.items():
            # Not the optimizer's: a second moment may overflow, and training goes on.
            if name.startswith("variables/") and not np.isfinite(array).all():
                raise CheckpointError(
                    f"step {step} is not saved: {name} is not finite; earlier steps are untouched: "
                    "go on from them with a lower learning rate (--set learning_rate=...)"
                )
        if self._is_new(step, arrays):
            self._pending = step, self._writer.submit(self._write, step, arrays)

    def restore(
        self, template: PyTree | Callable[[int], PyTree], step: int | None = None
    ) -> Restored | None:
        """Reads the newest good step, as host arrays in the structure of the template.

        Damaged newer steps are passed over with a warning, and renamed to `<step>.corrupt`.

        Args:
          template: a tree of arrays or of jax.ShapeDtypeStruct, like that given to `save`; or a
            function that returns it for a step, where it is not the same at all of them.
          step: read this step and no other.

        Returns:
          None if there is no checkpoint at all.

        Raises:
          CheckpointError: a leaf of the template is absent or of another shape or dtype, every
            step is damaged, the step was asked for and is absent or damaged, or it was written
            by a newer version.
        """
        found = self._told(step)
        if found is None:
            return None
        try:
            fitting = template(found.step) if callable(template) else template
            return found._replace(state=integrity.fit(fitting, found.state))
        except ValueError as error:
            raise CheckpointError(
                f"{self._path(found.step)} does not fit: {error}: use the settings of the run, "
                f"or another --workdir"
            ) from None

    def restore_raw(self, step: int | None = None) -> Restored | None:
        """Like `restore`, without a template: the state is nested dicts of host arrays.

        Fields of tuples and dataclasses appear under their names, items of sequences under their
        numbers: `state["opt"]["generator"]["0"]["mu"]`.
        """
        found = self._told(step)
        return found and found._replace(state=traverse_util.unflatten_dict(found.state, sep="/"))

    def protect(self, step: int | None) -> None:
        """Keeps a step, whatever its age, until another one is named in its place."""
        self._protected = step

    def steps(self) -> list[int]:
        """The steps on this process's disk, ascending; reading may yet find one damaged."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

    def wait(self) -> None:
        """Waits until the last save is on disk; raises CheckpointError if it failed."""
        if self._pending is None:
            return
        step, writing = self._pending
        try:
            writing.result()
        except Exception as error:
            self._pending = None
            if isinstance(error, AddressError):
                raise CheckpointError(
                    f"step {step} is in {self.directory} and could not be put up: {error}; the "
                    "same command, on this machine, puts it up and goes on"
                ) from error
            raise CheckpointError(
                f"step {step} could not be saved in {self.directory}: {_brief(error)}; "
                f"earlier steps are untouched: see that the disk has room and can be written"
            ) from error
        self._pending = None  # not after an interrupt: then there is something to wait for still

    def close(self) -> None:
        """Waits for the last save and lets the next run in. Closing twice is fine."""
        try:
            self.wait()
        finally:
            if self._pending is None:
                self._closed = True
                self._writer.shutdown()
                self._lock.close()

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def _open(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            for left in [*self.directory.glob("*.unfinished*"), *self.directory.glob("*.deleted*")]:
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        except OSError as error:
            raise CheckpointError(
                f"{self.directory} cannot be written ({error}); use another --workdir"
            ) from error

    def _take_lock(self) -> None:
        lock = self._lock.enter_context((self.directory / ".lock").open("a+"))
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

    def _is_new(self, step: int, arrays: Arrays) -> bool:
        existing = [other for other in self.steps() if other >= step]
        if not existing:
            return True
        if step in existing and self._holds(step, arrays):
            logging.info("%s holds this state already", self._path(step))
            return False
        raise CheckpointError(
            f"step {step} cannot be saved: {self.directory} has step {existing[-1]} already"
            f"{' with another state' if existing[-1] == step else ''}; "
            f"restore it first, or use another --workdir"
        )

    def _holds(self, step: int, arrays: Arrays) -> bool:
        try:
            return checkpoint_format.read_manifest(self._path(step))["leaves"] == integrity.record(
                arrays
            )
        except (DamagedError, VersionError):
            return False

    def _write(self, step: int, arrays: Arrays) -> None:
        unfinished = self.directory / f"{step}.unfinished"
        # Looked at first, since Orbax's threads tell of a full disk at length, each by itself.
        needed = sum(array.nbytes for array in arrays.values())
        if (free := shutil.disk_usage(self.directory).free) < needed * _LEAST_COMPRESSED:
            raise OSError(
                errno.ENOSPC,
                f"the disk is full: {free / 1e6:.0f} of {needed / 1e6:.0f} MB are free",
            )
        try:
            checkpoint_format.write_step(unfinished, arrays, step)
            unfinished.rename(self._path(step))
            addresses.put_step(self._path(step))
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)  # the next start tries again
            raise
        for old in expired(self.steps(), self._keep, self._keep_every):
            if old != self._protected:
                addresses.drop_step(self._path(old))
                # Renamed first: a kill in between must not leave a step with half its files.
                shutil.rmtree(self._path(old).rename(self.directory / f"{old}.deleted"))

    def _told(self, step: int | None) -> Restored | None:
        """What process 0 reads."""

        def reads():
            found = self._read(step)
            return (None, {}) if found is None else found

        found, arrays = arrays_from_process_0(reads)
        return None if found is None else Restored(found, arrays)

    def _set_aside(self, step: int) -> Path:
        endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        names = (self.directory / f"{step}.corrupt{ending}" for ending in endings)
        return self._path(step).rename(next(name for name in names if not name.exists()))

    def _read(self, step: int | None) -> Restored | None:
        self.wait()
        steps = self.steps()
        if step is not None:
            if step not in steps:
                raise CheckpointError(f"{self.directory} has no step {step}, but {steps or 'none'}")
            steps = [step]
        damaged: dict[int, DamagedError] = {}
        for candidate in reversed(steps):
            try:
                addresses.fetch_step(self._path(candidate))
                arrays = checkpoint_format.read_step(self._path(candidate))
            except Exception as error:
                if not self._path(candidate).exists():
                    return self._read(step)  # a running training has just deleted it
                if isinstance(error, VersionError):
                    raise CheckpointError(str(error)) from None
                if not isinstance(error, DamagedError):
                    raise
                logging.warning("%s is damaged: %s", self._path(candidate), error)
                damaged[candidate] = error
                continue
            if damaged:
                logging.warning("going back to step %d", candidate)
                if not self._read_only:
                    for bad in damaged:
                        logging.warning("kept as %s", self._set_aside(bad))
            return Restored(candidate, arrays)
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


def _brief(error: Exception) -> str:
    # Tensorstore begins with the file and ends with the cause; between them it can be very long.
    text = " ".join(str(error).split(" [tensorstore_spec=")[0].split())
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return error.strerror
    if "RESOURCE_EXHAUSTED" in text or "No space left" in text:
        return "the disk is full"
    return text if len(text) <= 400 else f"{text[:150]} ... {text[-250:]}"
