"""Files that were damaged, are not there, or cannot be written: one line, and nothing lost."""

import contextlib
import errno
import http.server
import io
import json
import os
import struct
import sys
import threading
import tracemalloc
import types
import zipfile

import numpy as np
import pytest
from commands import TINY, run
from PIL import Image

from jaxgan import files
from jaxgan.cli import machine
from jaxgan.data import DataError
from jaxgan.data.download import Remote, fetch, require_reachable
from jaxgan.errors import UsageError
from jaxgan.evaluation import history, report
from jaxgan.evaluation.networks import classifier, torch_file
from jaxgan.evaluation.protocol import Protocol
from jaxgan.runs.run import open_run
from jaxgan.sampling import pictures
from jaxgan.sampling.given import read_picture
from jaxgan.training import curves
from jaxgan.training import workdir as workdirs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    made = run("train", *TINY, "--steps=2", f"--workdir={workdir}")
    assert made.status == 0, made.err
    return workdir


@pytest.fixture
def workdir(trained, tmp_path):
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    return tmp_path


# Files of a run.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(b'"steps": 2', b'"steps": 3'), "not what was written.*crc"),
        (lambda text: text.replace(b'"gan"', b'"g\xffn"'), "'utf-8' codec can't decode"),
        (lambda text: text.replace(b'"steps": 2', b'"steps": 2x'), "delimiter"),
        (lambda text: b"[1, 2]", "it holds no object"),
        (lambda text: b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_byte_in_the_settings_is_one_line(workdir, change, words):
    path = workdir / "config.json"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UsageError, match=f"config.json is damaged .*{words}.*from a backup"):
        workdirs.read(workdir)
    assert run("status", workdir).err.count("\n") == 1


def test_settings_that_were_changed_by_hand_are_read_without_their_checksum(workdir):
    settings = json.loads((workdir / "config.json").read_text())
    assert settings.pop("crc")
    (workdir / "config.json").write_text(json.dumps(settings | {"steps": 3}))
    assert workdirs.read(workdir)["steps"] == 3
    for name, value in (("steps", "3"), ("data", []), ("model", None)):
        (workdir / "config.json").write_text(json.dumps(settings | {name: value}))
        with pytest.raises(UsageError, match=f"config.json is damaged .{name} is"):
            workdirs.read(workdir)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("config", {"latent_size": "4"}, "latent_size is '4'"),
        ("data", {"spec": {"size": 8}}, "does not say what the pictures are"),
        ("data", {}, "does not say what the pictures are"),
    ],
)
def test_settings_of_another_kind_are_named(workdir, field, value, words):
    settings = workdirs.read(workdir)
    workdirs.write(workdir, settings | {field: value})
    with pytest.raises(UsageError, match=words):
        open_run(workdir)


@pytest.mark.parametrize(
    "line",
    [b'{"step": 2, "x": \xff}', b"[]", b'{"step": "2"}', b'{"x": 1}', b'{"step": 1, "x": "y"}']
    + [b'{"step": 1, "x": 1e999}', b"[" * 100_000, b"\0"],
)
def test_a_bad_line_of_metrics_is_left_out_and_named(workdir, line, caplog):
    path = workdir / "metrics.jsonl"
    good = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([good[0], line, good[1], b""]))
    assert [line["step"] for line in files.read_json_lines(path)] == [1, 2]
    assert "metrics.jsonl, line 2 is damaged" in caplog.text


PROTOCOL = Protocol("a", "b", "c", "d", "e", 1, 2, "f", "g", 1.0, 0)._asdict()


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"kid": [1.0, 2.0, 3.0, 4.0]}},
        {"metrics": {"kid": ["1"]}},
        {"metrics": {"kid": 1.0}},
        {"protocol": PROTOCOL | {"new": 1}},
        {"protocol": {"features": "a"}},
        {"protocol": PROTOCOL | {"digest": 5}},
        {"extra": 1},
    ],
)
def test_a_bad_line_of_evaluations_is_left_out_and_named(tmp_path, change, caplog):
    line = {"step": 1, "metrics": {"kid": [1.0, None, None]}, "protocol": PROTOCOL}
    lines = (line, line | {"step": 2} | change, line | {"step": 3})
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (tmp_path / "evaluation.jsonl").write_text(text)
    assert [entry.step for entry in history.read(tmp_path)] == [1, 3]
    assert "evaluation.jsonl: the line of step 2 is damaged" in caplog.text


def test_a_file_in_the_place_of_an_unfinished_step_is_no_obstacle(trained, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("99.unfinished", "98.deleted"):
        (tmp_path / "run" / "checkpoints" / name).touch()
    made = run("train", *TINY, "--steps=1", f"--workdir={tmp_path}/run")
    assert made.status == 1 and "is not a workdir" in made.err  # nobody's, so it stays
    (tmp_path / "run" / "config.json").write_bytes((trained / "config.json").read_bytes())
    made = run("train", *TINY, "--steps=2", f"--workdir={tmp_path}/run")
    assert made.status == 0, made.err
    assert not list((tmp_path / "run" / "checkpoints").glob("9*"))


def test_a_resume_notices_other_pictures_of_the_same_names_sizes_and_times(tmp_path):
    def paint(start):
        for i in range(8):
            path = tmp_path / "pictures" / f"{i}.bmp"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (start + i, 0, 0)).save(path)
            os.utime(path, (10**9, 10**9))

    given = (*TINY[2:], f"--data_dir={tmp_path}/pictures", f"--cache_dir={tmp_path}/cache")
    given = (
        "--model=gan",
        "--image_size=8",
        "--dataset=folder",
        *given,
        f"--workdir={tmp_path}/run",
    )
    given = [flag for flag in given if not flag.startswith("--num_examples")]
    paint(0)
    assert run("train", *given, "--steps=1").status == 0
    paint(100)
    refused = run("train", *given, "--steps=2")
    assert refused.status == 1 and "the pictures changed: 8 gone, 8 new" in refused.err
    paint(0)
    assert run("train", *given, "--steps=2").status == 0


# Places that cannot be written.


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_at_the_start_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(workdirs, "write", full)
    refused = run("train", *TINY, "--steps=1", f"--workdir={tmp_path}/run")
    assert refused.status == 1 and "Traceback" not in refused.err
    assert "run cannot be written (No space left on device); make room" in refused.err


def test_evaluate_looks_whether_it_can_write_before_it_works(trained, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("jaxgan.runs.readers.evaluator", lambda *_, **__: pytest.fail("it works"))
    refused = run("evaluate", f"--workdir={trained}")
    assert refused.status == 1
    assert refused.err == (
        f"error: {trained} cannot be written (Permission denied); make it writable, or copy it and "
        "name the copy\n"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("Event loop is closed"), False),  # what an aborted save leaves behind
        (KeyboardInterrupt(), False),  # Ctrl-C within a callback
        (RuntimeError("something else"), True),
    ],
)
def test_what_is_told_in_a_line_has_no_traceback_beside_it(error, told, monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    about = types.SimpleNamespace(exc_type=type(error), exc_value=error)
    with machine._hushed():
        sys.unraisablehook(about)
    assert printed == [about] * told


IMAGE = np.zeros((8, 8, 3), np.uint8)


def _draw_curves(path):
    (path.parent / "metrics.jsonl").write_text('{"step": 1, "x": 1.0}\n{"step": 2, "x": 2.0}\n')
    curves.curves(path.parent / "metrics.jsonl", path)


def _draw_together(path):
    (path.parent / "metrics.jsonl").write_text('{"step": 1, "x": 1.0}\n{"step": 2, "x": 2.0}\n')
    curves.together({"a": path.parent / "metrics.jsonl"}, path)


def _write_report(path):
    entry = history.Entry(1, Protocol(**PROTOCOL), {})
    report.write(path, report.Report("gan", "shapes", IMAGE, entry))


WRITERS = {
    "image.png": lambda path: pictures.save_image(path, IMAGE),
    "walk.gif": lambda path: pictures.save_animation(path, np.stack([IMAGE, IMAGE + 9])),
    "curves.png": _draw_curves,
    "together.png": _draw_together,
    "report.html": _write_report,
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_people_look_at_is_written_whole_or_not_at_all(name, tmp_path, monkeypatch):
    path = tmp_path / name
    path.write_text("before")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("os.replace", full)
        WRITERS[name](path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    WRITERS[name](path)
    assert len(path.read_bytes()) > 20


@pytest.mark.parametrize("out", ["x.npz", "x.png", "folder"])
def test_out_is_written_whole_or_not_at_all(out, trained, tmp_path, monkeypatch):
    path = tmp_path / out
    given = (f"--workdir={trained}", f"--out={path}", "--num=2")
    assert run("sample", *given).status == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    monkeypatch.setattr("os.replace", full)
    refused = run("sample", *given, "--seed=1")
    assert refused.status == 1 and "cannot be written: No space left on device" in refused.err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_ending_that_is_no_pictures_is_named(tmp_path):
    with pytest.raises(UsageError, match="x.doc must end as a picture's name does"):
        pictures.save_image(tmp_path / "x.doc", IMAGE)
    assert not list(tmp_path.iterdir())


# Weights.


def peak(function):
    """The most memory that a call takes, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def pickled(body):
    return b"\x80\x02" + body + b"."


@pytest.mark.parametrize(
    "body",
    [
        b"}r\xff\xff\xff\x3f",  # to be remembered as number 2^30 - 1
        b"\x96" + struct.pack("<Q", 1 << 33),  # a bytearray of 8 GiB
        b"\x8d" + struct.pack("<Q", 1 << 33),  # a text of 8 GiB
    ],
)
def test_a_few_bytes_of_a_torch_file_take_no_gigabytes(body, tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled(body))

    def read():
        with pytest.raises(UsageError, match="x.pth"):
            torch_file.read_state(path)

    assert peak(read) < 10 << 20


def npz(path, header):
    """A .npz whose one array has a header that says something."""
    head = header.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", data)


@pytest.mark.parametrize("read", [files.read_npz, classifier.load])
def test_a_few_bytes_of_weights_take_no_gigabytes(read, tmp_path):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1073741824,), }"
    npz(tmp_path / "x.npz", header)
    assert (tmp_path / "x.npz").stat().st_size < 300

    def read_it():
        with pytest.raises(ValueError, match="not as long as its header says"):
            read(tmp_path / "x.npz")

    assert peak(read_it) < 10 << 20


def test_weights_that_inflate_a_thousandfold_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", bytes(100 << 20))

    def read():
        with pytest.raises(files.DamagedFile, match="at most"):
            files.read_npz(tmp_path / "x.npz")

    assert peak(read) < 10 << 20


def test_every_kind_of_npz_is_read(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.eye(3)), "n": 7}
    arrays |= {"text": np.array("größer"), "none": np.zeros((0, 4), np.uint8)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        found = files.read_npz(tmp_path / "x.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
    np.savez(tmp_path / "x.npz", a=np.array([{}], object))
    with pytest.raises(files.DamagedFile):
        files.read_npz(tmp_path / "x.npz")


def test_a_pipe_is_neither_weights_nor_a_picture(tmp_path):
    os.mkfifo(tmp_path / "x")
    for read in (classifier.load, torch_file.read_state, lambda path: read_picture(path, 8, 3)):
        with pytest.raises(UsageError, match="x cannot be read: it is no regular file"):
            read(tmp_path / "x")


def test_a_picture_to_project_may_be_no_other_format(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "EPS")
    (tmp_path / "x.png").write_bytes(file.getvalue())
    with pytest.raises(UsageError, match="x.png is not a picture: no known kind"):
        read_picture(tmp_path / "x.png", 8, 3)


# Answers from the network.


@pytest.fixture
def server():
    """A server on this machine that gives what its `answer` writes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.wfile.write(self.server.head)

        def do_GET(self):
            with contextlib.suppress(OSError):  # whoever asked has left
                self.server.answer(self.wfile)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.head = b"HTTP/1.0 200 OK\r\n\r\n"
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def fetch_it(server, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")

    def fetched():
        url = f"http://127.0.0.1:{server.server_port}/file"
        fetch(Remote(url, "0" * 64, most=1 << 20), tmp_path / "file", "fetch it by hand")

    yield fetched
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nabc", "has the SHA-256"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: many\r\n\r\nabc", "has the SHA-256"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc", "failed .Incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", "failed"),
        (b"no answer at all\r\n\r\n", "failed"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "failed .HTTP Error 404"),
    ],
)
def test_an_answer_that_is_cut_or_nonsense_is_one_line(server, fetch_it, answer, words):
    server.answer = lambda file: file.write(answer)
    with pytest.raises(DataError, match=f"{words}.*; fetch it by hand"):
        fetch_it()


def test_an_endless_answer_ends(server, fetch_it):
    def endless(file):
        file.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            file.write(bytes(1 << 16))

    server.answer = endless
    with pytest.raises(DataError, match="more than 1,048,576 bytes"):
        fetch_it()


def test_a_server_that_talks_nonsense_cannot_be_reached(server):
    server.head = b"nonsense\r\n\r\n"
    with pytest.raises(DataError, match="cannot be reached"):
        require_reachable(f"http://127.0.0.1:{server.server_port}/", "try again")
