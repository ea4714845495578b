"""Processes find each other within bounded time, or each says in one line why not."""

import contextlib
import socket
import threading
import time

import pytest
from commands import TINY, run

from jaxgan.cli import rollcall
from jaxgan.errors import UsageError, in_flags


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _called(port, *who, seconds=20, lost=lambda number, why: None):
    """Calls the roll in threads; `who` are (number, count). Returns peers, or errors, for each."""
    found = [None] * len(who)

    def one(place, number, count):
        try:
            found[place] = rollcall.call(
                f"127.0.0.1:{port}", number, count, seconds, lambda why: lost(number, why)
            )
        except UsageError as error:
            found[place] = str(error)

    with in_flags():
        threads = [threading.Thread(target=one, args=(k, *each)) for k, each in enumerate(who)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join(30)
    return found


def test_all_are_found_in_any_order_and_the_port_is_free_again(port):
    peers = _called(port, (2, 3), (0, 3), (1, 3))
    assert all(isinstance(each, rollcall.Peers) for each in peers)
    with socket.create_server(("", port)):
        pass
    for each in peers:
        each.leave()


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_does_not_come_is_named_in_time(number, port, monkeypatch, capsys):
    monkeypatch.setattr(rollcall, "NOTICE", 0.3)
    before = time.monotonic()
    (line,) = _called(port, (number, 2), seconds=1)
    assert time.monotonic() - before < 5
    assert f"process {1 - number} of 2 did not come within --join_timeout=1 s" in line
    assert "waiting for 1 of 2 processes" in capsys.readouterr().err
    assert (f"127.0.0.1:{port}: Connection refused" in line) == (number == 1)


def test_the_others_hear_who_is_missing(port):
    for line in _called(port, (0, 3), (1, 3), seconds=1):
        assert line.startswith("process 2 of 3 did not come within")


def test_a_number_that_is_there_twice_is_refused_and_the_first_is_kept(port):
    lines = _called(port, (0, 4), (1, 4), (1, 4), (2, 4), seconds=1)
    refused = "there is a process with --process_id=1 already; each needs its own"
    assert lines[2] == refused
    for line in (lines[0], lines[1], lines[3]):
        assert line.startswith("process 3 of 4 did not come within")


def test_another_number_of_processes_is_refused(port):
    zero, one = _called(port, (0, 2), (1, 3), seconds=1)
    assert one == "--num_processes is 2 for process 0 and 3 here"
    assert zero.startswith("process 1 of 2 did not come")


def test_a_port_in_use(port):
    with socket.create_server(("", port)):
        (line,) = _called(port, (0, 2))
    assert f"the coordinator's port {port} is in use on this machine; name another one" in line


def test_what_else_listens_there_is_not_waited_for(port):
    def answers():
        sock, _ = server.accept()
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        sock.close()

    with socket.create_server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=answers)
        thread.start()
        (line,) = _called(port, (1, 2))
        thread.join()
    assert "is not a run that waits for its processes" in line


def _cut(peers):
    """What the kernel does after a kill."""
    for connection in peers._connections.values():
        with contextlib.suppress(OSError):
            connection._socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("who", [0, 1, 2])
@pytest.mark.parametrize("failure", ["the disk is gone", None])
def test_the_others_hear_why_a_process_ends(who, failure, port):
    heard, all_heard = {}, threading.Event()

    def lost(number, why):
        heard[number] = why
        if len(heard) == 2:
            all_heard.set()

    peers = _called(port, (0, 3), (1, 3), (2, 3), lost=lost)
    if failure is None:
        peers[who]._missed.set()  # who is killed hears nothing
        _cut(peers[who])
    else:
        threading.Thread(target=peers[who].leave, args=(failure,)).start()
    assert all_heard.wait(10), heard
    for each in peers:
        _cut(each)
    said = failure or "it was killed, or its machine is gone"
    assert set(heard.values()) == {f"process {who} has ended: {said}"}


def test_who_has_done_its_part_is_not_missed(port):
    heard = []
    zero, one = _called(port, (0, 2), (1, 2), lost=lambda number, why: heard.append(why))
    one.leave()
    assert not zero.missed(0.3)
    zero.leave()
    assert not heard


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--coordinator=HOST"], "--coordinator=HOST must be a host and a port, such as"),
        (["--coordinator=HOST:port"], "must be a host and a port"),
        (["--coordinator=HOST:70000"], "must be a host and a port"),
        (["--coordinator=HOST:1234"], "needs --num_processes, and for each --process_id"),
        (["--num_processes=2", "--process_id=0"], "need --coordinator=HOST:PORT"),
        (
            ["--coordinator=HOST:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2 must be less than --num_processes=2",
        ),
    ],
)
def test_flags_that_name_no_run_are_refused(flags, words, tmp_path):
    result = run("train", *TINY, "--steps=1", f"--workdir={tmp_path}/run", *flags)
    assert result.status == 1
    assert words in result.err
    assert len(result.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
