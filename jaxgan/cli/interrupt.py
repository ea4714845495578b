"""Ctrl-C before a training's loop, which has its own way, and in the other commands."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

PATIENCE = 0.7
"""Seconds in which the program may end by itself."""


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Ctrl-C within it says one line and ends the process with status 130, within a second.

    A compilation knows nothing of Python's exceptions, so a thread ends the process if the
    interrupt has not come through by then. Where something else handles SIGINT, such as a
    training's loop, the thread does nothing.
    """
    ended = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, ended), daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        ended.set()
        _leave()
    finally:
        ended.set()
        signal.set_wakeup_fd(previous)
        os.close(writing)


def _watch(reading: int, ended: threading.Event) -> None:
    while signals := os.read(reading, 1):
        by_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if signals[0] == signal.SIGINT and by_default and not ended.wait(PATIENCE):
            _leave()
    os.close(reading)


def _leave() -> None:
    # What is open is closed as after a kill; the interpreter's end would wait for threads.
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(130)
