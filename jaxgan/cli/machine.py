"""What every command does with its flags: the machine that it runs on, and errors in one line."""

from __future__ import annotations

import contextlib
import logging as std_logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

import jax
from absl import flags, logging

from jaxgan import devices, errors, processes
from jaxgan.cli import compiled
from jaxgan.errors import UsageError
from jaxgan.processes import Process0Error
from jaxgan.training.checkpoint import CheckpointError
from jaxgan.training.loop import NonFiniteError

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
        except (UsageError, CheckpointError, NonFiniteError, Process0Error) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keeps off what Orbax's threads print when a save has failed and its loop is gone: the error
    itself is raised, and told, by who saved."""

    def hook(about):
        if not (about.exc_type is RuntimeError and str(about.exc_value) == "Event loop is closed"):
            before(about)

    before, sys.unraisablehook = sys.unraisablehook, hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def start_machine() -> None:
    """Applies the flags of the machine; must come before anything that asks for a device."""
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().setFormatter(_Plain())
        logging.get_absl_handler().addFilter(_is_for_people)
        # Of damage that Pillow can live with it warns picture by picture.
        warnings.filterwarnings("ignore", module=r"PIL\.")
    if FLAGS.compilation_cache:
        compiled.keep_compiled(FLAGS.compilation_cache)
    devices.keep_freed_memory()
    cluster = processes.cluster()
    if FLAGS.distributed or FLAGS.coordinator or cluster:
        processes.initialize(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
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
