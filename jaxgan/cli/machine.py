"""What every command does with its flags: the machine that it runs on, and errors in one line."""

from __future__ import annotations

import contextlib
import logging as std_logging
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from absl import flags, logging

from jaxgan import devices, errors, processes
from jaxgan.cli import compiled, rollcall
from jaxgan.errors import UsageError
from jaxgan.processes import Process0Error
from jaxgan.training.checkpoint import CheckpointError
from jaxgan.training.loop import NonFiniteError
from jaxgan.training.signals import Abandoned

FLAGS = flags.FLAGS

_TALKATIVE = ("orbax", "etils", "tensorflow_datasets", "datasets")


def define_flags() -> None:
    """Defines the flags of the machine."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    flags.DEFINE_string(
        "compilation_cache",
        os.path.join(cache, "jaxgan", "compiled"),
        "Where compiled programs are kept, so that the next start is quicker; empty for nowhere.",
    )
    flags.DEFINE_string(
        "cache_dir",
        None,
        "Where prepared pictures, what was read of them, and the networks that read them are kept. "
        "Default: a folder in your cache.",
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "host:port of process 0, in a run over several machines. On Slurm, GKE and Cloud TPU it is "
        "found without being named.",
    )
    flags.DEFINE_integer("num_processes", None, "How many processes take part.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.", lower_bound=0)
    flags.DEFINE_integer(
        "join_timeout", 120, "Seconds in which all of them must have come.", lower_bound=1
    )
    flags.DEFINE_bool(
        "distributed", False, "Join the run of a cluster that JAX knows and that is not found."
    )


@contextlib.contextmanager
def started(argv: Sequence[str]) -> Iterator[None]:
    """A command's body: errors that the user can mend become one line and exit status 1.

    Raises:
      SystemExit: with status 1 for such an error, also if there is more in `argv` than flags.
    """
    with errors.in_flags(), _hushed():
        try:
            if len(argv) > 1:
                raise UsageError(
                    f"{argv[1]!r} is not a flag; flags look like --name=value, see --help"
                )
            yield
            _leave()
        except Abandoned as end:
            _leave("it was stopped at once", end.code)
            raise
        except SystemExit:
            _leave()
            raise
        except (UsageError, CheckpointError, NonFiniteError, Process0Error) as error:
            _say_why(f"error: {error}")
            _leave(str(error))
            sys.exit(1)
        except Exception as error:
            # What a collective call raises where another process is gone says that badly.
            if _peers is None:
                raise
            if not _peers.missed(2):
                traceback.print_exc()
            _leave(f"{type(error).__name__}: {error}")


_peers: rollcall.Peers | None = None
_said = threading.Lock()
_DRAINED = 20.0
"""Seconds for the last save, where another process is gone."""


def _leave(failure: str | None = None, status: Any = 1) -> None:
    """Takes leave of the run's other processes, if there are any; ends this one if it failed."""
    global _peers
    if _peers is not None:
        _peers.leave(failure)
        if failure is not None:
            _end(status)  # JAX would wait for the others, and then abort
        _peers = None


def _lost(why: str) -> None:
    _say_why(f"error: {why}; the same commands, in all processes, go on from the last checkpoint")
    time.sleep(_DRAINED)  # the main thread may end by itself, if it is not waiting for the lost one
    _end()


def _say_why(line: str) -> None:
    """Says why this process ends, once."""
    if _peers is None or _said.acquire(blocking=False):
        print(line, file=sys.stderr, flush=True)


def _end(status: int = 1) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keeps off tracebacks of what Python cannot raise, and another place tells in a line.

    Orbax's threads have them when a save has failed and its loop is gone: who saved raises the
    error. A callback has one where Ctrl-C met it: `in_one_line` ends the process.
    """

    def hook(about):
        closed = about.exc_type is RuntimeError and str(about.exc_value) == "Event loop is closed"
        if not closed and about.exc_type is not KeyboardInterrupt:
            before(about)

    before, sys.unraisablehook = sys.unraisablehook, hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def start_machine(compiles_only: bool = False) -> None:
    """Applies the flags of the machine; must come before anything that asks for a device.

    Where programs are compiled for other devices only, those that are here are left alone.
    """
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().setFormatter(_Plain())
        logging.get_absl_handler().addFilter(_is_for_people)
        # Of damage that Pillow can live with it warns picture by picture.
        warnings.filterwarnings("ignore", module=r"PIL\.")
    if compiles_only:  # the cache keeps no programs of devices that are not here
        jax.config.update("jax_platforms", "cpu")
    elif FLAGS.compilation_cache:
        compiled.keep_compiled(FLAGS.compilation_cache)
    devices.keep_freed_memory()
    _join(processes.cluster())


def _join(cluster):
    """Joins the other processes of a run, if it has any."""
    coordinator, count, number = FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id
    if not (FLAGS.distributed or coordinator or cluster):
        if count is not None or number is not None:
            raise UsageError("--num_processes and --process_id need --coordinator=HOST:PORT")
        return
    if coordinator:
        rollcall.address(coordinator)
    if count is not None and number is not None and number >= count:
        raise UsageError(
            f"--process_id={number} must be less than --num_processes={count}; the first is 0"
        )
    if coordinator and not (cluster or FLAGS.distributed):
        if count is None or number is None:
            raise UsageError(
                f"--coordinator={coordinator} needs --num_processes, and for each --process_id"
            )
        if count > 1:
            global _peers
            _peers = rollcall.call(coordinator, number, count, FLAGS.join_timeout, _lost)
    processes.initialize(coordinator, count, number, FLAGS.join_timeout)
    which = f" ({cluster})" if cluster else ""
    print(f"process {jax.process_index()} of {jax.process_count()}{which}")


class _Plain(std_logging.Formatter):
    """A warning as a sentence for people, without the place in the code that it comes from."""

    def format(self, record: std_logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {errors.printable(record.getMessage())}"


def _is_for_people(record: std_logging.LogRecord) -> bool:
    """Whether a record is not another library's talk to itself; --verbosity shows that, too."""
    noisy = any(f"/{name}/" in record.pathname for name in _TALKATIVE)
    # What went wrong with a save is told by who saved, not by each of Orbax's threads and tasks.
    saving = any(f"/{name}/" in record.pathname for name in ("orbax", "asyncio"))
    return not saving and (record.levelno >= std_logging.ERROR or not noisy)
