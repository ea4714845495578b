"""Says how far runs are: step, time left, speed, losses, findings, the last samples.

jaxgan status runs/mine
jaxgan status runs --watch
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from absl import flags, logging

from jaxgan.cli import machine
from jaxgan.errors import UsageError
from jaxgan.runs.status import page, runs_below, status_of, table

FLAGS = flags.FLAGS

SECONDS = 5  # between two looks


def define_flags() -> None:
    """Defines the flags of a status."""
    flags.DEFINE_bool("watch", False, f"Look again every {SECONDS} seconds, until Ctrl-C.")


def main(argv: Sequence[str]) -> None:
    with machine.started(argv[:1]):
        if not FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        folders = argv[1:] or ["runs"]
        text = _text(folders)
        while True:
            if FLAGS.watch and sys.stdout.isatty():
                print("\033[2J\033[H", end="")
            print(text, flush=True)
            if not FLAGS.watch:
                return
            try:
                time.sleep(SECONDS)
                text = _text(folders)
            except KeyboardInterrupt:
                return


def _text(folders: Sequence[str]) -> str:
    workdirs = [workdir for folder in folders for workdir in runs_below(folder)]
    if not workdirs:
        raise UsageError(f"there is no run in {', '.join(folders)}; name the --workdir of one")
    found = [status_of(workdir) for workdir in workdirs]
    return page(found[0]) if len(found) == 1 else table(found)
