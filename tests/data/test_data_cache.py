"""Prepared pictures are whole or not there at all."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest

from jaxgan.data import DataError
from jaxgan.data.cache import digest, prepared

IMAGES = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
LABELS = np.arange(6)


class Builder:
    """Appends IMAGES in two chunks and counts how often it is asked to."""

    def __init__(self, pause=0.0):
        self.built, self.pause = 0, pause

    def __call__(self, append):
        self.built += 1
        append(IMAGES[:4])
        time.sleep(self.pause)
        append(IMAGES[4:])
        return LABELS, {"built": self.built}


@pytest.fixture
def open_it(tmp_path):
    def open_set(build, of="one"):
        return prepared(tmp_path, "made-up", digest(of), build)

    return open_set


@pytest.fixture
def folder(tmp_path):
    return tmp_path / f"made-up-{digest('one')[:16]}"


def is_whole(found):
    np.testing.assert_array_equal(found.images, IMAGES)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert found.images.dtype == np.uint8
    return True


def test_the_second_time_comes_from_the_cache(open_it):
    build = Builder()
    assert is_whole(open_it(build)) and is_whole(open_it(build))
    assert build.built == 1
    assert open_it(build).notes == {"built": 1}
    assert is_whole(open_it(build, of="other")) and build.built == 2


def test_the_pictures_are_mapped_and_read_only(open_it):
    images = open_it(Builder()).images
    assert isinstance(images.base, np.memmap) or isinstance(images.base.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def remove(path):
    path.unlink()


def grow(path):
    path.write_bytes(path.read_bytes() + b"0")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, remove, grow])
@pytest.mark.parametrize("name", ["images.raw", "labels.npy", "about.json"])
def test_damage_is_found_and_mended(open_it, folder, caplog, name, damage):
    build = Builder()
    open_it(build)
    damage(folder / name)
    assert is_whole(open_it(build))
    assert build.built == 2 and len(caplog.records) == 1
    assert "damaged" in caplog.text and name in caplog.text
    assert is_whole(open_it(build)) and build.built == 2


def test_whoever_has_mapped_a_set_keeps_it_when_it_is_built_anew(open_it, folder):
    mapped = open_it(Builder())
    remove(folder / "about.json")
    open_it(Builder())
    assert is_whole(mapped)


def test_a_set_of_another_format_is_built_anew(open_it, folder):
    build = Builder()
    open_it(build)
    about = json.loads((folder / "about.json").read_text().splitlines()[0])
    line = json.dumps(about | {"format": 0})
    (folder / "about.json").write_text(f"{line}\n{zlib.crc32(line.encode())}\n")
    assert is_whole(open_it(build)) and build.built == 2


def test_a_failing_build_leaves_nothing(open_it, tmp_path):
    def failing(append):
        append(IMAGES)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        open_it(failing)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_of_two_at_once_one_builds(open_it):
    build, found = Builder(pause=0.3), []
    threads = [threading.Thread(target=lambda: found.append(open_it(build))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and all(is_whole(one) for one in found)
    assert build.built == 1


def forbid_locks(monkeypatch):
    """Makes the file system one without locks."""

    def flock(*_):
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", flock)


def test_without_locks_two_at_once_do_not_hurt_each_other(open_it, monkeypatch):
    forbid_locks(monkeypatch)
    build, found = Builder(pause=0.3), []
    threads = [threading.Thread(target=lambda: found.append(open_it(build))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and all(is_whole(one) for one in found)
    assert build.built > 1


def test_without_locks_a_damaged_set_is_built_anew(open_it, folder, monkeypatch):
    build = Builder()
    open_it(build)
    flip_a_bit(folder / "images.raw")
    forbid_locks(monkeypatch)
    assert is_whole(open_it(build)) and build.built == 2


SLOW_PREPARATION = """
import sys, time
import numpy as np
from pathlib import Path
from jaxgan.data.cache import digest, prepared

def build(append):
    append(np.zeros((4, 4, 4, 3), np.uint8))
    print("half way", flush=True)
    time.sleep(60)

prepared(Path(sys.argv[1]), "made-up", digest("one"), build)
"""


def test_a_killed_preparation_is_never_used_and_swept_up(open_it, tmp_path, folder):
    command = [sys.executable, "-c", SLOW_PREPARATION, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half way\n"
        process.send_signal(signal.SIGKILL)
    assert not folder.exists()
    assert [path for path in tmp_path.iterdir() if path.is_dir()]
    build = Builder()
    assert is_whole(open_it(build)) and build.built == 1
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]


def test_a_full_disk_is_named(open_it, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename", full)
    with pytest.raises(DataError, match=f"written to {tmp_path} .*No space left.*cache_dir"):
        open_it(Builder())
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written to .*file/cache"):
        prepared(tmp_path / "file" / "cache", "made-up", digest("one"), Builder())
