"""Prepared pictures on disk: decoded once, then memory-mapped; and work on all cores.

A prepared set is a folder `<name>-<key>` of three files. `images.raw` holds the pictures' bytes
`[N, H, W, C]` uint8, `labels.npy` the labels, and `about.json` the shape, the CRC of every chunk
and what the source wrote about itself, with a CRC of its own on the second line. The folder is
built under a temporary name and moved into place, so it exists whole or not at all. Every opening
checks every byte, on all cores (several GB/s from memory): a flipped bit would change the results,
and nobody would notice.
"""

import errno
import fcntl
import json
import logging
import os
import secrets
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np

from jaxgan import bars, files
from jaxgan.errors import DataError

_FORMAT = 1
_SAMPLE = 1 << 10  # bytes of a file that are looked at in each of three places
_log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class Prepared(NamedTuple):
    images: np.ndarray  # [N, H, W, C] uint8, memory-mapped
    labels: np.ndarray | None
    notes: Mapping  # the source's own


# Appends pictures [n, H, W, C] uint8 to the set that is being built. Gray and colored ones may come
# mixed, C = 1 and 3: then all have three channels.
Append = Callable[[np.ndarray], None]
# Appends all pictures and returns the labels, or None, and notes that JSON can hold.
Build = Callable[[Append], tuple[np.ndarray | None, Mapping]]


def digest(*facts: object) -> str:
    """A hash of facts that JSON can hold, 32 hexadecimal digits."""
    return blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def prepared(cache_dir: Path, name: str, key: str, build: Build) -> Prepared:
    """A prepared set, from the cache if it is there and whole, else built.

    A damaged one is built again, with a logged warning. Of several processes one builds and the
    others wait for it.

    Args:
      cache_dir: the folder of all prepared sets.
      name: what the set's folder begins with.
      key: a `digest` of all that the pictures depend on.
      build: makes the set.

    Raises:
      DataError: if the cache cannot be written.
    """
    folder = cache_dir / f"{name}-{key[:16]}"
    _remove_leftovers(cache_dir)
    with suppress(_Damaged):
        return _read(folder, key)
    with _locked(cache_dir / f".{folder.name}.lock") as alone:
        # While this one waited, another may have built it, or, without locks, removed it.
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


def prepared_files(
    cache_dir: Path,
    name: str,
    key: str,
    build: Build,
    paths: Sequence[Path],
    unchanged: Callable[[Mapping], bool] = lambda notes: True,
) -> Prepared:
    """`prepared`, of files whose names, sizes and times are in the key.

    Other files may agree in these, so that a hash of bytes of them is kept in the notes and
    compared at every opening; a set of other files stays, and this one is prepared beside it.

    Args:
      cache_dir, name, key, build: as in `prepared`.
      paths: of the files; none if their contents are in the key.
      unchanged: whether a set's notes are of these files, for one of jaxgan 0.2 or older, which has
        no such hash and is given it.

    Raises:
      DataError: if the cache cannot be written, or a file not be read.
    """
    if not paths:
        return prepared(cache_dir, name, key, build)
    sample = _sample(paths)

    def build_noting(append: Append):
        labels, notes = build(append)
        return labels, {**notes, "sample": sample}

    for of in (key, digest(key, sample)):
        found = prepared(cache_dir, name, of, build_noting)
        if "sample" not in found.notes and unchanged(found.notes):
            _note(cache_dir / f"{name}-{of[:16]}", {"sample": sample})
            return found
        if found.notes.get("sample") == sample:
            return found
    raise DataError(f"the files of {name!r} change; wait until they are written")


def _sample(paths: Sequence[Path]) -> str:
    """A hash of the beginning, middle and end of files, of 10,000 of them if there are more."""

    def read(path: Path) -> bytes:
        try:
            with files.regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                return b"".join(
                    os.pread(file.fileno(), _SAMPLE, start)
                    for start in sorted({0, size // 2, max(0, size - _SAMPLE)})
                )
        except OSError as reason:
            if reason.errno in files.UNREADABLE:
                return f"errno {reason.errno}".encode()  # once it can be read, the set is another
            raise DataError(
                f"{path} cannot be read ({reason.strerror}); repair or remove it"
            ) from reason

    chosen = paths[:: -(-len(paths) // 10_000)]
    hashed = blake2b(digest_size=16)
    for data in ordered_map(lambda some: b"".join(map(read, some)), _runs(chosen, 100)):
        hashed.update(data)
    return hashed.hexdigest()


def _note(folder: Path, more: Mapping) -> None:
    """Adds to the notes of a set, if the cache can be written."""
    with suppress(OSError, _Damaged):
        about = _read_about(folder / "about.json")
        _write_about(folder, {**about, "notes": {**about["notes"], **more}})


def _runs(items: Iterable[T], length: int) -> Iterator[list[T]]:
    left = iter(items)
    return iter(lambda: [*islice(left, length)], [])


def in_chunks(
    function: Callable[[Sequence[T]], R],
    items: Iterable[T],
    size: int,
    doing: str,
    total: int | None = None,
) -> Iterator[R]:
    """What `function` makes of all items, on all cores, in order, with a progress bar.

    It gets them in runs whose pictures take about 1 MiB, the unit in which pictures are prepared,
    kept in memory meanwhile, and checked.

    Args:
      function: a run of items -> anything; called on several threads.
      items: one for each picture.
      size: pixels on a side of the pictures.
      doing: a word for the progress bar.
      total: how many items there are, if that is known and they have no length.
    """
    runs = _runs(items, max(1, (1 << 20) // (3 * size * size)))
    total = len(items) if isinstance(items, Sized) else total
    with bars.bar(total, "img", delay=2, desc=doing) as bar:
        for count, result in ordered_map(lambda run: (len(run), function(run)), runs):
            yield result
            bar.update(count)


def ordered_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` on a thread for each core, in order, with few results waiting at any time.

    Threads and not processes: Pillow and NumPy release the interpreter's lock where the time goes,
    and a process started beside JAX either copies its locks or imports it again.
    """
    cores = _num_cores()
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(cores) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _num_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _build(folder: Path, key: str, build: Build) -> None:
    with _naming(folder.parent):
        temporary = _beside(folder)
        temporary.mkdir()
    try:
        chunks: list = []
        shape: list[int] = []
        with open(temporary / "images.raw", "w+b") as file:

            def append(images: np.ndarray) -> None:
                if shape and images.shape[-1] < shape[-1]:
                    images = images.repeat(shape[-1], -1)
                elif shape and images.shape[-1] > shape[-1]:
                    with _naming(folder.parent):
                        _repeat_channel(file, chunks, images.shape[-1])
                data = np.ascontiguousarray(images, np.uint8).data.cast("B")
                chunks.append((len(data), zlib.crc32(memoryview(data))))
                shape[:] = images.shape[1:]
                with _naming(folder.parent):
                    file.write(memoryview(data))
                    file.flush()

            labels, notes = build(append)
        about = {"format": _FORMAT, "key": key, "shape": shape, "chunks": chunks, "notes": notes}
        with _naming(folder.parent):
            _finish(temporary, folder, about, labels)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _repeat_channel(file: IO[bytes], chunks: list[tuple[int, int]], times: int) -> None:
    """Makes gray chunks colored, the last one first, so that none is written over unread."""
    end = sum(size for size, _ in chunks)
    for i in reversed(range(len(chunks))):
        start = end - chunks[i][0]
        file.seek(start)
        data = np.frombuffer(file.read(chunks[i][0]), np.uint8).repeat(times).tobytes()
        file.seek(start * times)
        file.write(data)
        chunks[i], end = (len(data), zlib.crc32(data)), start
    file.seek(0, os.SEEK_END)


def _finish(temporary: Path, folder: Path, about: dict, labels: np.ndarray | None) -> None:
    if labels is not None:
        np.save(temporary / "labels.npy", labels)
        about["labels_crc"] = zlib.crc32((temporary / "labels.npy").read_bytes())
    _write_about(temporary, about)
    try:
        os.rename(temporary, folder)
    except OSError as reason:
        # Without locks another process may have been first; its set is the same.
        if reason.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _write_about(folder: Path, about: Mapping) -> None:
    line = json.dumps(about)
    with files.whole(folder / "about.json") as file:
        file.write(f"{line}\n{zlib.crc32(line.encode())}\n")


class _Damaged(Exception):
    """Not there, or not whole."""


def _read(folder: Path, key: str) -> Prepared:
    try:
        return _read_whole(folder, key)
    except OSError as reason:
        raise DataError(
            f"{reason.filename or folder}, prepared pictures, cannot be read ({reason.strerror}); "
            "let its owner change that, or choose another folder by --cache_dir"
        ) from reason


def _read_whole(folder: Path, key: str) -> Prepared:
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
    if alone:  # then what is left there comes from processes that were killed
        for leftover in folder.parent.glob(f".{folder.name}.*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)


def _remove_leftovers(cache_dir: Path) -> None:
    """Removes what killed preparations of any set left, if nobody is preparing that set."""
    for path in cache_dir.glob(".*." + "[0-9a-f]" * 16):
        with suppress(OSError):
            descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(descriptor)


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
            "choose another folder by --cache_dir"
        ) from reason
