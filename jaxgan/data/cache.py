"""Prepared pictures on disk: decoded once, memory-mapped ever after.

A prepared set is a folder `<name>-<key>` of three files. `images.raw` holds the pictures' bytes
`[N, H, W, C]` uint8, `labels.npy` the labels, and `about.json` the shape, the CRC of every chunk
and what the source wrote about itself, with a CRC of its own on the second line. The folder is
built under a temporary name and moved into place, so it exists whole or not at all. Every opening
checks every byte, on all cores (several GB/s from memory): a flipped bit changes nothing but the
results, and nobody would find it there.
"""

import errno
import fcntl
import json
import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgan.data.errors import DataError
from jaxgan.data.parallel import ordered_map

_FORMAT = 1
_log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """images: `[N, H, W, C]` uint8, mapped; labels: an array or None; notes: the source's own."""

    images: np.ndarray
    labels: np.ndarray | None
    notes: Mapping


# Appends pictures [n, H, W, C] uint8 to the set that is being built.
Append = Callable[[np.ndarray], None]
# Appends all pictures and returns the labels, or None, and notes that JSON can hold.
Build = Callable[[Append], tuple[np.ndarray | None, Mapping]]


def digest(*facts) -> str:
    """A hash of facts that JSON can hold, 32 hexadecimal digits."""
    return blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def prepared(cache_dir: Path, name: str, key: str, build: Build) -> Prepared:
    """The set `name` prepared under `key`, from the cache if it is there and whole, else built.

    A damaged one is built again, with a logged warning. Of several processes one builds and the
    others wait for it. Raises `DataError` if the cache cannot be written, and what `build` raises.
    """
    folder = cache_dir / f"{name}-{key[:16]}"
    with suppress(_Damaged):
        return _read(folder, key)
    with _locked(cache_dir / f".{folder.name}.lock") as alone:
        # Meanwhile another process may have built it, or, where there are no locks, removed it.
        for _ in range(3):
            try:
                return _read(folder, key)
            except _Damaged as reason:
                if folder.exists():
                    _log.warning("%s is damaged (%s); preparing again", folder, reason)
            with _naming(cache_dir):
                _remove_remains(folder, alone)
            _build(folder, key, build)
        with suppress(_Damaged):
            return _read(folder, key)
    raise DataError(f"what was just written to {folder} reads back otherwise; check the disk")


def chunked(items: Sequence, size: int) -> list[Sequence]:
    """`items` in runs whose pictures, `size` pixels on a side, take about 1 MiB.

    That is the unit in which pictures are prepared, kept in memory meanwhile, and checked.
    """
    length = max(1, (1 << 20) // (3 * size * size))
    return [items[i : i + length] for i in range(0, len(items), length)]


def _build(folder: Path, key: str, build: Build) -> None:
    with _naming(folder.parent):
        temporary = _beside(folder)
        temporary.mkdir()
    try:
        chunks, shape = [], []
        with open(temporary / "images.raw", "wb") as file:

            def append(images: np.ndarray) -> None:
                data = np.ascontiguousarray(images, np.uint8).data.cast("B")
                chunks.append((len(data), zlib.crc32(data)))
                shape[:] = images.shape[1:]
                with _naming(folder.parent):
                    file.write(data)
                    file.flush()

            labels, notes = build(append)
        about = {"format": _FORMAT, "key": key, "shape": shape, "chunks": chunks, "notes": notes}
        with _naming(folder.parent):
            _finish(temporary, folder, about, labels)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _finish(temporary: Path, folder: Path, about: dict, labels: np.ndarray | None) -> None:
    if labels is not None:
        np.save(temporary / "labels.npy", labels)
        about["labels_crc"] = zlib.crc32((temporary / "labels.npy").read_bytes())
    line = json.dumps(about)
    (temporary / "about.json").write_text(f"{line}\n{zlib.crc32(line.encode())}\n")
    try:
        os.rename(temporary, folder)
    except OSError as reason:
        # Where there are no locks another process may have been first; its set is as good.
        if reason.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


class _Damaged(Exception):
    """Not there, or not whole."""


def _read(folder: Path, key: str) -> Prepared:
    about = _read_about(folder / "about.json")
    if about["format"] != _FORMAT or about["key"] != key:
        raise _Damaged("about.json belongs to another set")
    try:
        with open(folder / "images.raw", "rb") as file:
            _check_chunks(file.fileno(), about["chunks"])
            images = np.memmap(file, np.uint8, "r").reshape(-1, *about["shape"])
        labels = None
        if "labels_crc" in about:
            if zlib.crc32((folder / "labels.npy").read_bytes()) != about["labels_crc"]:
                raise _Damaged("labels.npy changed")
            labels = np.load(folder / "labels.npy")
    except FileNotFoundError as reason:
        raise _Damaged(f"{Path(reason.filename).name} is missing") from reason
    return Prepared(np.asarray(images), labels, about["notes"])


def _read_about(path: Path) -> dict:
    try:
        line, crc = path.read_text().splitlines()
        if zlib.crc32(line.encode()) != int(crc):
            raise _Damaged("about.json changed")
        return json.loads(line)
    except (FileNotFoundError, NotADirectoryError) as reason:
        raise _Damaged("about.json is missing") from reason
    except ValueError as reason:  # not two lines, not UTF-8, not a number
        raise _Damaged("about.json is torn") from reason


def _check_chunks(descriptor: int, chunks: list[tuple[int, int]]) -> None:
    ends = np.cumsum([size for size, _ in chunks])
    if os.fstat(descriptor).st_size != ends[-1]:
        raise _Damaged(f"images.raw has {os.fstat(descriptor).st_size} bytes, not {ends[-1]}")

    # Read and not mapped, so that the pages do not count as this process's memory.
    def intact(i: int) -> bool:
        size, crc = chunks[i]
        return zlib.crc32(os.pread(descriptor, size, int(ends[i]) - size)) == crc

    if not all(ordered_map(intact, range(len(chunks)))):
        raise _Damaged("images.raw changed")


def _remove_remains(folder: Path, alone: bool) -> None:
    """Removes a damaged set; a process that has mapped it keeps its pages."""
    if folder.exists():
        trash = _beside(folder)
        os.rename(folder, trash)
        shutil.rmtree(trash)
    if alone:  # then what lies there is of processes that were killed
        for leftover in folder.parent.glob(f".{folder.name}.*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)


def _beside(folder: Path) -> Path:
    # Not tempfile's, which nobody else on a shared disk could read.
    return folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Waits for the lock; False if the file system knows no locks."""
    with _naming(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.warning("another process is preparing the same pictures; waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


@contextmanager
def _naming(cache_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as reason:
        raise DataError(
            f"prepared pictures cannot be written to {cache_dir} ({reason}); make room there or "
            "choose another folder with cache_dir"
        ) from reason
