"""Pictures that hang, fill the memory, start programs, or are taken for others."""

import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxgan import errors
from jaxgan.data import DataError, load
from jaxgan.data.pictures import CorruptPicture, decode
from jaxgan.errors import printable


@pytest.fixture
def load_it(tmp_path):
    def load_folder(data_dir, **settings):
        settings = {"image_size": 8, "cache_dir": tmp_path / "cache"} | settings
        return load("folder", data_dir=data_dir, **settings)

    return load_folder


def save(path, gray, when=(10**9, 10**9)):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((12, 12, 3), gray, np.uint8)).save(path)
    os.utime(path, when)


def grays(dataset):
    return dataset.images[:, 0, 0, 0].tolist()


# Other pictures under the same name.


def test_equal_names_sizes_and_times_are_not_taken_for_equal_pictures(load_it, tmp_path):
    for folder, start in (("one", 0), ("other", 100)):
        for i in range(3):
            save(tmp_path / folder / f"{i}.bmp", start + i)
    one, other = load_it(tmp_path / "one"), load_it(tmp_path / "other")
    assert grays(one) == [0, 1, 2] and grays(other) == [100, 101, 102]
    assert one.fingerprint != other.fingerprint
    # Both stay, whichever comes first; and one picture that is put in the place of another counts.
    assert grays(load_it(tmp_path / "one")) == [0, 1, 2]
    save(tmp_path / "one" / "1.bmp", 55)
    changed = load_it(tmp_path / "one")
    assert grays(changed) == [0, 55, 2] and changed.fingerprint != one.fingerprint


def forget_samples(cache):
    """Makes prepared sets what jaxgan 0.2.0 left."""
    for path in cache.glob("*/about.json"):
        about = json.loads(path.read_text().splitlines()[0])
        del about["notes"]["sample"]
        line = json.dumps(about)
        path.write_text(f"{line}\n{zlib.crc32(line.encode())}\n")


def test_a_set_that_was_prepared_before_is_used_and_completed(load_it, tmp_path, monkeypatch):
    for i in range(3):
        save(tmp_path / "one" / f"{i}.bmp", i)
    (tmp_path / "one" / "3.png").write_bytes(b"no picture")
    before = load_it(tmp_path / "one", skip_corrupt=True)
    forget_samples(tmp_path / "cache")
    save(tmp_path / "other" / "0.bmp", 200)
    for name in ("1.bmp", "2.bmp", "3.png"):
        shutil.copy2(tmp_path / "one" / name, tmp_path / "other" / name)
    assert grays(load_it(tmp_path / "other", skip_corrupt=True)) == [200, 1, 2]

    monkeypatch.setattr("jaxgan.data.sources.folder.decode", None)
    for _ in range(2):  # compared as a whole, then by what was noted
        again = load_it(tmp_path / "one", skip_corrupt=True)
        assert again.fingerprint == before.fingerprint and grays(again) == [0, 1, 2]
        monkeypatch.setattr("jaxgan.data.sources.folder.reader", None)


# What is odd is said.


def test_a_name_that_a_zip_has_twice_and_one_with_dots_are_said(load_it, tmp_path, caplog):
    save(tmp_path / "a.png", 1)
    data = (tmp_path / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", data)
        archive.writestr("../b.png", data)
        archive.writestr("c/../d.png", data)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", data)
    assert len(load_it(tmp_path / "x.zip")) == 2
    assert "1 names are there twice" in caplog.text
    assert "2 names with .. are passed over" in caplog.text


def test_folders_that_cannot_be_read_are_counted(load_it, tmp_path, caplog, monkeypatch):
    for name in ("a.png", "closed/b.png", "closed too/b.png"):
        save(tmp_path / "in" / name, 1) if "/" not in name else None
        if "/" in name:
            (tmp_path / "in" / name).parent.mkdir(parents=True)
    scandir = os.scandir

    def refuse(path):
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert len(load_it(tmp_path / "in")) == 1
    assert "2 folders cannot be read (Permission denied)" in caplog.text


def test_pipes_sockets_and_devices_are_passed_over(load_it, tmp_path, caplog, monkeypatch):
    save(tmp_path / "in" / "a.png", 1)
    os.mkfifo(tmp_path / "in" / "b.png")
    (tmp_path / "in" / "c.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path / "in")  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("d.png")
        assert len(load_it(tmp_path / "in")) == 1
    assert "3 pipes, sockets or devices are passed over" in caplog.text


def test_a_pipe_is_no_table_and_no_zip(load_it, tmp_path):
    save(tmp_path / "in" / "a.png", 1)
    os.mkfifo(tmp_path / "tags.csv")
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(DataError, match="neither 'folders' nor a table"):
        load_it(tmp_path / "in", tags=tmp_path / "tags.csv")
    with pytest.raises(DataError, match="neither a folder nor a whole .zip"):
        load_it(tmp_path / "x.zip")


# Memory.


def png(width, height, depth=8, color=2):
    """A PNG of zeros, whose few bytes hold many pixels."""

    def chunk(kind, body):
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    channels = {0: 1, 2: 3, 6: 4}[color]
    rows = zlib.compress(bytes((1 + width * channels * depth // 8) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def test_a_picture_of_too_many_pixels_is_corrupt_and_the_limit_is_told(load_it, tmp_path):
    save(tmp_path / "in" / "a.png", 1)
    (tmp_path / "in" / "b.png").write_bytes(png(200, 101))
    limit = {"max_pixels": 20_000}
    with pytest.raises(DataError, match=r"b.png \(20,200 pixels, more than max_pixels=20000\)"):
        load_it(tmp_path / "in", **limit)
    with errors.in_flags(), pytest.raises(DataError, match="--max_pixels=20000"):
        load_it(tmp_path / "in", **limit)
    assert len(load_it(tmp_path / "in", skip_corrupt=True, **limit)) == 1
    assert len(load_it(tmp_path / "in")) == 2
    with pytest.raises(DataError, match="max_pixels must be from 1 to"):
        load_it(tmp_path / "in", max_pixels=1 << 40)


def test_by_default_a_picture_has_50_million_pixels_at_most():
    with pytest.raises(CorruptPicture, match="50,400,000 pixels"):
        decode(png(8400, 6000, 1, 0), 8)


MEMORY = """
import resource, sys, time
from jaxgan.data.pictures import decode
from pathlib import Path

before, start = time.monotonic(), None
assert decode(Path(sys.argv[1]).read_bytes(), 64).shape == (64, 64, 3)
took = time.monotonic() - before
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, took)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rgb", "rgba 16 bit", "gray 16 bit", "webp", "turned"])
def test_the_largest_picture_takes_less_than_a_gib_and_ten_seconds(kind, tmp_path):
    path = tmp_path / "large"
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind == "webp":
        options = {"lossless": True, "method": 0}
        Image.new("RGBA", (7000, 7000)).save(path, "WEBP", **options)
    elif kind == "turned":
        Image.new("RGBA", (7000, 7000)).save(path, "PNG", exif=exif)
    else:
        depth, color = {"rgb": (8, 2), "rgba 16 bit": (16, 6), "gray 16 bit": (16, 0)}[kind]
        path.write_bytes(png(7000, 7000, depth, color))
    # A shell between, since a child begins with its parent's largest size.
    command = f"exec {sys.executable} -c '{MEMORY}' {path}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    gib, seconds = map(float, done.stdout.split())
    assert gib < 1 and seconds < 10


def test_a_member_of_a_zip_is_not_unpacked_if_its_header_says_too_much(load_it, tmp_path):
    path, most = tmp_path / "x.zip", 8 * 1000 + (16 << 20)
    save(tmp_path / "a.png", 1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.png", "a.png")
        archive.writestr("b.png", bytes(most + 1))
    assert len(path.read_bytes()) < 50_000
    with pytest.raises(DataError, match=r"b.png \(it takes 16,785,217 bytes, and at most"):
        load_it(path, max_pixels=1000)
    assert len(load_it(path, max_pixels=1000, skip_corrupt=True)) == 1


def test_a_member_that_holds_more_than_its_header_says_is_not_inflated(load_it, tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.png", bytes(200 << 20))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 200 << 20), struct.pack("<I", 1000)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="b.png"):
            load_it(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


# Formats.


@pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO", "PCX", "TGA"])
def test_other_formats_are_no_pictures_whatever_their_name(kind, load_it, tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program ran"))
    (tmp_path / "in").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "in" / "a.png", kind)
    with pytest.raises(DataError, match="no known kind of picture"):
        load_it(tmp_path / "in")


def test_whatever_of_the_formats_a_name_says_counts_little():
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
        file = io.BytesIO()
        Image.new("RGB", (16, 16), (9, 9, 9)).save(file, kind)
        assert abs(decode(file.getvalue(), 8).astype(int) - 9).max() <= 2


# Words.


def test_no_place_in_memory_is_told():
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "JPEG", progressive=True)
    data = bytearray(picture.getvalue())
    data[200:260] = bytes(60)
    for cut in range(20, len(data), 7):
        try:
            decode(bytes(data[:cut]), 8)
        except CorruptPicture as reason:
            assert "object at" not in str(reason)


def test_control_characters_in_names_are_escaped(load_it, tmp_path):
    (tmp_path / "in").mkdir()
    name = "a\x1b[31m\n\u202e" + os.fsdecode(b"\xff") + ".png"
    (tmp_path / "in" / name).write_bytes(b"x")
    with pytest.raises(DataError) as error:
        load_it(tmp_path / "in")
    assert r"a\x1b[31m\n\u202e\udcff.png" in str(error.value)
    assert printable("plain, größer 犬") == "plain, größer 犬"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_tags_nested_deeply_are_damaged(text, load_it, tmp_path):
    save(tmp_path / "in" / "a.png", 1)
    (tmp_path / "tags.json").write_text(text)
    with pytest.raises(DataError, match="is not JSON .it is nested too deeply"):
        load_it(tmp_path / "in", tags="tags.json")


def test_a_table_of_very_many_columns_is_one_line(load_it, tmp_path):
    save(tmp_path / "in" / "a.png", 1)
    columns = ",".join(f"c{i}" for i in range(100_000))
    (tmp_path / "tags.csv").write_text(f"a.png,{columns}\n")
    with pytest.raises(DataError, match="has 100,000 labels, and at most 50,000") as error:
        load_it(tmp_path / "in", tags="tags.csv")
    (tmp_path / "tags.csv").write_text(f"x,{columns}\na.png,1\n")
    with pytest.raises(DataError) as error:
        load_it(tmp_path / "in", tags="tags.csv")
    assert len(str(error.value)) < 1000


def test_a_prepared_set_that_may_not_be_read_is_named(load_it, tmp_path, monkeypatch):
    save(tmp_path / "in" / "a.png", 1)
    load_it(tmp_path / "in")
    (raw,) = (tmp_path / "cache").glob("*/images.raw")
    raw.unlink()
    raw.mkdir()
    with pytest.raises(DataError, match="prepared pictures, cannot be read .*cache_dir"):
        load_it(tmp_path / "in")
