"""How the processes of a run find each other, and hear that one of them has ended.

JAX aborts a process, with a stack of C++, if another one is missing, named twice or dead. So
process 0 calls the roll first, on the coordinator's port, and gives the port to JAX when all are
there. The connections stay: a process that ends says so, and one that is killed is missed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import select
import socket
import sys
import threading
import time
from collections.abc import Callable

from jaxgan.errors import UsageError

NOTICE = 5.0
"""Seconds between two lines that say what is waited for."""
_KILLED = "it was killed, or its machine is gone"
_LONGEST = 1 << 16  # bytes of a message


class Foreign(ConnectionError):
    """What answers is no process of a run that calls the roll."""


class Connection:
    """Sends and receives objects of JSON, a line each."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._rest = sock, b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, **said: object) -> None:
        """Sends an object; to one who is gone that is in vain."""
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(said).encode() + b"\n")

    def receive(self) -> list[dict]:
        """What has come, maybe nothing whole yet.

        Raises:
          ConnectionError: if the other side is gone.
        """
        try:
            data = self._socket.recv(_LONGEST)
        except OSError as error:
            raise ConnectionError(str(error)) from None
        if not data:
            raise ConnectionError("closed")
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            said = [json.loads(line) for line in lines]
        except ValueError:
            raise Foreign from None
        alien = self._rest[:1] not in (b"", b"{") or len(self._rest) > _LONGEST
        if alien or not all(isinstance(one, dict) for one in said):
            raise Foreign
        return said


class Peers:
    """The other processes of a run: process 0 is connected to all, the others to process 0.

    Args:
      number: of this process.
      connections: by the number of the process at the other end.
      lost: is called once, in a thread, with a sentence, when another process has ended otherwise
        than by `leave()`.
    """

    def __init__(
        self, number: int, connections: dict[int, Connection], lost: Callable[[str], None]
    ) -> None:
        self._number, self._connections, self._lost = number, connections, lost
        self._missed = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def missed(self, seconds: float) -> bool:
        """Whether another process has ended, or does within some seconds."""
        return self._missed.wait(seconds)

    def leave(self, failure: str | None = None) -> None:
        """Says that this process has done its part, or why it ends.

        Process 0 then waits for a moment until the others are gone: JAX aborts them when it goes.
        """
        if self._missed.is_set():
            return
        self._missed.set()  # what comes now is no news
        self._tell({"process": self._number, "failure": failure})
        if failure is not None and self._number == 0:
            self._watching.join(3)

    def _tell(self, said):
        for connection in self._connections.values():
            connection.send(**said)

    def _watch(self) -> None:
        there = dict(self._connections)
        try:
            self._listen(there)
        finally:
            for connection in self._connections.values():
                connection.close()

    def _listen(self, there):
        while there:
            ready = select.select(list(there.values()), [], [])[0]
            for number, connection in [x for x in there.items() if x[1] in ready]:
                try:
                    heard = connection.receive()
                except ConnectionError:
                    heard = [{"process": number, "failure": _KILLED}]
                    del there[number]
                for said in heard:
                    if said.get("failure") is None:
                        there.pop(number, None)
                    elif not self._missed.is_set():
                        self._missed.set()
                        if self._number == 0:
                            self._tell(said)
                        self._lost(f"process {said.get('process')} has ended: {said['failure']}")


def call(
    coordinator: str, number: int, count: int, seconds: int, lost: Callable[[str], None]
) -> Peers:
    """Returns when all processes of a run are there, and the coordinator's port is free again.

    Args:
      coordinator: host:port of process 0.
      number: of this process.
      count: of all.
      seconds: how long to wait for the others.
      lost: see `Peers`.

    Raises:
      UsageError: if that is no address, the port is in use, or a process is missing, there twice,
        or another number of them was named to it.
    """
    host, port = address(coordinator)
    patience = _Patience(count, seconds)
    found = {0: _report(host, port, number, patience)} if number else _gather(port, patience)
    return Peers(number, found, lost)


def address(coordinator: str) -> tuple[str, int]:
    """Returns host and port. Raises UsageError if they are not both there."""
    host, colon, port = coordinator.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise UsageError(
            f"--coordinator={coordinator} must be a host and a port, such as "
            f"--coordinator={host or coordinator}:1234"
        )
    return host.strip("[]"), int(port)


def _gather(port, patience):
    """Process 0: the connections to all others."""
    here, strangers = {}, []  # connections by number, and of those who have not said theirs
    try:
        with _listener(port, patience.count) as listener:
            while missing := [n for n in range(1, patience.count) if n not in here]:
                for source in patience.wait([listener, *strangers, *here.values()], missing):
                    if source is listener:
                        strangers.append(Connection(listener.accept()[0]))
                    else:
                        _hear(source, here, strangers, patience.count)
                for connection in here.values():
                    connection.send(waiting=[n for n in missing if n not in here])
    except BaseException as error:
        for connection in [*here.values(), *strangers]:
            connection.send(refused=str(error) or "process 0 was stopped")
            connection.close()
        raise
    for connection in strangers:
        connection.close()
    for connection in here.values():
        connection.send(go=True)
    return here


def _hear(source, here, strangers, count):
    """Takes in who says its number, and drops who is gone."""
    try:
        heard = source.receive()
    except ConnectionError:  # it was stopped, and may come again
        for number in [n for n, x in here.items() if x is source]:
            del here[number]
        gone = True
    else:
        gone = bool(heard) and not _admitted(source, heard[0], here, count)
    if source in strangers and (gone or source in here.values()):
        strangers.remove(source)
    if gone:
        source.close()


def _admitted(connection, said, here, count):
    number = said.get("process_id")
    if said.get("num_processes") != count:
        why = f"--num_processes is {count} for process 0 and {said.get('num_processes')} here"
    elif number in here:
        why = f"there is a process with --process_id={number} already; each needs its own"
    elif number not in range(1, count):
        why = f"--process_id={number} must be one of 1 to {count - 1} beside process 0"
    else:
        here[number] = connection
        return True
    connection.send(refused=why)
    return False


def _listener(port, count):
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(
            ("", port), family=family, dualstack_ipv6=both, backlog=max(128, count)
        )
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"fails ({error.strerror})"
        raise UsageError(
            f"the coordinator's port {port} {why} on this machine; name another one, the same to "
            "all processes: --coordinator=HOST:PORT"
        ) from None


def _report(host, port, number, patience):
    """Another process: the connection to process 0."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    while True:
        try:
            sock = socket.create_connection((host, port), timeout=5)
        except OSError as error:
            reason = error.strerror or str(error)
            patience.wait([], [0], f" at {where}: {reason}", most=0.2)
            continue
        sock.settimeout(None)
        connection = Connection(sock)
        connection.send(process_id=number, num_processes=patience.count)
        try:
            _until_called(connection, patience)
            return connection
        except Foreign:
            connection.close()
            raise UsageError(
                f"what answers at --coordinator={where} is not a run that waits for its "
                "processes: name the port of process 0; a run that has begun takes no more"
            ) from None
        except ConnectionError:  # process 0 was stopped, and may come again
            connection.close()
            patience.wait([], [0], f" at {where}", most=0.2)
        except BaseException:
            connection.close()
            raise


def _until_called(connection, patience):
    missing = [0]
    while True:
        for _ in patience.wait([connection], missing):
            for said in connection.receive():
                missing = said.get("waiting", missing)
                if "refused" in said:
                    raise UsageError(said["refused"])
                if "go" in said:
                    return


class _Patience:
    """Waits for connections, says now and then for which processes, and gives up in time."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count = count
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        self._notice = time.monotonic() + NOTICE

    def wait(self, sources, missing, where="", most=math.inf):
        """The sources that can be read, in `most` seconds or until there is something to say.

        Raises:
          UsageError: when the time is over.
        """
        now, names = time.monotonic(), ", ".join(map(str, missing))
        if now >= self._deadline:
            raise UsageError(
                f"process {names} of {self.count} did not come within "
                f"--join_timeout={self._seconds} s{where and f' ({where.strip()})'}; start each "
                "with the same --coordinator and --num_processes, and its own --process_id"
            )
        if now >= self._notice:
            self._notice = now + NOTICE
            waited = f"waiting for {len(missing)} of {self.count} processes ({names}){where}"
            print(waited, file=sys.stderr, flush=True)
        until = min(self._deadline, self._notice, now + most)
        return select.select(sources, [], [], until - now)[0]
