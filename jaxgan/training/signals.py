"""SIGTERM, SIGINT and SIGHUP end a run at the next step's end, after a last save.

Of several processes it is enough that one hears a signal: all end at one step, on which they agree
through JAX. JAX listens to SIGTERM alone, so other signals are handed on to it under that name.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils


class Stopped(SystemExit):
    """A run that a signal ended; the exit status is 128 plus the signal's number."""


class Abandoned(Stopped):
    """A run that a second signal ended at once, without what its other processes do."""


class GracefulStop:
    """A context in which a first signal asks for the end, and a second leaves at once.

    It hears SIGTERM and SIGHUP, and SIGINT once `hear_interrupts` is called: before the first step
    there is nothing to save for which somebody at a keyboard would wait. While `saving` is set,
    further signals are ignored: the last save is finished. Outside the main thread signals cannot
    be caught, and nothing changes.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.saving = False
        self._turn = 0
        self._several = jax.process_count() > 1
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            # Of several processes SIGTERM is JAX's; nohup lets a program ignore SIGHUP.
            if not self._several:
                self._hear(signal.SIGTERM)
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                self._hear(signal.SIGHUP)
        return self

    def hear_interrupts(self) -> None:
        """Hears SIGINT from now on; for use within the context."""
        if threading.current_thread() is threading.main_thread():
            self._hear(signal.SIGINT)

    def reached(self) -> bool:
        """Whether the run is to end here; to be asked once after each step, or block of steps.

        It is a collective call, with the same answer in all processes.
        """
        if not self._several:
            return self.requested is not None
        self._turn += 1
        if not multihost_utils.reached_preemption_sync_point(self._turn):
            return False
        if self.requested is None:
            self.requested = signal.SIGTERM
            logging.warning("a process of the run was told to stop: saving after this step")
        return True

    def _hear(self, number: int) -> None:
        self._previous.setdefault(number, signal.signal(number, self._handle))

    def __exit__(self, *unused) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        name = signal.Signals(number).name
        if self.saving:
            logging.warning("%s: a save is being finished", name)
        elif self.requested is None:
            self.requested = number
            if self._several:
                os.kill(os.getpid(), signal.SIGTERM)
            what = "all processes save at one step" if self._several else "saving after this step"
            logging.warning("%s: %s; once more to leave at once", name, what)
        else:
            raise Abandoned(128 + number)
