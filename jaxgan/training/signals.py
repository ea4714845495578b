"""SIGTERM and SIGINT end a run at the next step's end, after a last save."""

from __future__ import annotations

import signal
import threading
from typing import Any

from absl import logging


class Stopped(SystemExit):
    """A run that a signal ended; the exit status is 128 plus the signal's number."""


class GracefulStop:
    """A context in which a first signal sets `requested`, and a second leaves at once.

    It hears SIGTERM, and SIGINT once `hear_interrupts` is called: before the first step there is
    nothing to save for which somebody at a keyboard would wait. While `saving` is set, further
    signals are ignored: the last save is finished. Outside the main thread signals cannot be
    caught, and nothing changes.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.saving = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            self._hear(signal.SIGTERM)
        return self

    def hear_interrupts(self) -> None:
        """Hears SIGINT from now on; for use within the context."""
        if self._previous:
            self._hear(signal.SIGINT)

    def _hear(self, number: int) -> None:
        self._previous[number] = signal.signal(number, self._handle)

    def __exit__(self, *unused) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        name = signal.Signals(number).name
        if self.saving:
            logging.warning("%s: a save is being finished", name)
        elif self.requested is None:
            self.requested = number
            logging.warning("%s: saving after this step; once more to leave at once", name)
        else:
            raise Stopped(128 + number)
