"""SIGTERM and SIGINT end a run at the next step's end, after a last save."""

from __future__ import annotations

import signal
import threading

from absl import logging


class Stopped(SystemExit):
    """A run that a signal ended; the exit status is 128 plus the signal's number."""


class GracefulStop:
    """A context in which a first signal sets `requested`, and a second leaves at once.

    While `saving` is set, further signals are ignored: the last save is finished. Outside the main
    thread signals cannot be caught, and nothing changes.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self.saving = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

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
