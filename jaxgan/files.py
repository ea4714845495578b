"""Files: written whole or not at all, and read so that no damage does harm.

What is read is a regular file, of bounded size, and a member of a zip only after a look at what its
header says of it. Damage ends in `DamagedFile`, whose text is a reason without the file's name.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import lzma
import math
import os
import pathlib
import secrets
import stat
import struct
import sys
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO, NoReturn

import numpy as np
from absl import logging

from jaxgan.errors import UsageError

Path = str | os.PathLike[str]

UNREADABLE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP)
"""What is wrong with one file, today and tomorrow: a link to nowhere, or no permission."""

_OBJECTS = ("metrics", "protocol")


class DamagedFile(ValueError):
    """Bytes that are not what a file of its kind holds."""


@contextlib.contextmanager
def whole(path: Path, mode: str = "w") -> Iterator[IO]:
    """Opens a file for writing that takes its name when the block ends.

    Until then, and if the block fails, whatever had that name stays as it was.

    Args:
      path: of the file; its folder must exist.
      mode: "w" for text in UTF-8, "wb" for bytes.

    Raises:
      OSError: if the folder cannot be written, or the disk is full.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def check_writable(folder: Path) -> None:
    """Raises UsageError if no file can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as reason:
        raise UsageError(
            f"{folder} cannot be written ({reason.strerror}); make it writable, or copy it and "
            "name the copy"
        ) from None


def user_cache() -> pathlib.Path:
    """Returns the folder of this library in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "jaxgan"


def regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading bytes.

    Raises:
      OSError: if there is none; also for a pipe, a socket or a device, which may never end.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return open(path, "rb")


def content(path: Path, most: int = 1 << 30) -> bytes:
    """The bytes of a regular file.

    Raises:
      OSError: if it cannot be read.
      DamagedFile: if it has more than `most` bytes.
    """
    with regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise DamagedFile(f"it has more than {most:,} bytes")
    return data


def parse_json(data: str | bytes, **options: Any) -> Any:
    """What a JSON text holds; `options` are those of `json.loads`.

    Raises:
      DamagedFile: if it is none.
    """
    try:
        return json.loads(data if isinstance(data, str) else data.decode("utf-8-sig"), **options)
    except RecursionError:
        raise DamagedFile("it is nested too deeply") from None
    except ValueError as reason:  # not JSON, not UTF-8, a number of too many digits
        raise DamagedFile(str(reason)) from None


def read_object(path: Path, fits: Callable[[dict], object] = lambda found: None) -> dict[str, Any]:
    """The object in a JSON file of a run.

    Args:
      path: of the file.
      fits: raises DamagedFile for an object that is not such a file's.

    Raises:
      FileNotFoundError, NotADirectoryError: if there is none.
      UsageError: if it cannot be read or is damaged.
    """
    try:
        found = parse_json(content(path))
        if not isinstance(found, dict):
            raise DamagedFile("it holds no object")
        fits(found)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as reason:
        raise UsageError(
            f"{path} cannot be read ({reason.strerror}); see who may read it"
        ) from None
    except DamagedFile as reason:
        raise UsageError(f"{path} is damaged ({reason}); restore it from a backup") from None
    return found


def read_json_lines(path: Path) -> list[dict]:
    """The lines of `metrics.jsonl` or `evaluation.jsonl`, none if there is no such file.

    A line is an object of a "step" and of numbers, None where one was not finite; "metrics" and
    "protocol" are objects. A last line torn by a kill is left out; another damaged one, too, with a
    warning.

    Raises:
      UsageError: if the file cannot be read.
    """
    try:
        lines = content(path).splitlines()
    except FileNotFoundError:
        return []
    except (OSError, DamagedFile) as reason:
        raise UsageError(f"{path} cannot be read ({reason}); move it away") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_checked_line(parse_json(line)))
        except DamagedFile as reason:
            if number < len(lines):
                logging.warning("%s, line %d is damaged (%s): left out", path, number, reason)
    return records


def is_number(value: Any) -> bool:
    """Whether what JSON held is a finite number, or None in the place of another."""
    return value is None or (type(value) in (int, float) and abs(value) <= sys.float_info.max)


def _checked_line(record: Any) -> dict:
    if not isinstance(record, dict) or type(record.get("step")) is not int or record["step"] < 0:
        raise DamagedFile("it has no step")
    for name, value in record.items():
        if not (isinstance(value, dict) if name in _OBJECTS else is_number(value)):
            raise DamagedFile(f"{name} is {value!r:.40}")
    return record


def open_zip(file: Path | BinaryIO) -> zipfile.ZipFile:
    """Opens a zip.

    Raises:
      OSError: if it cannot be read.
      DamagedFile: if it is none, or not whole.
    """
    try:
        return zipfile.ZipFile(file)
    except _ZIP_DAMAGE as reason:
        _damaged(reason)


def read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member of a zip, of which no byte is unpacked if it is too large.

    Args:
      archive: the zip; threads may share it.
      name: of the member.
      most: how many bytes it may take.

    Raises:
      DamagedFile: if it is not there, damaged, encrypted, or larger.
    """
    try:
        info = archive.getinfo(name)
        if info.file_size > most:
            raise DamagedFile(f"it takes {info.file_size:,} bytes, and at most {most:,} are read")
        # In steps, since Python may unpack all that a step reads, and by the size, since without
        # one it would read all that there is. At the end it compares the checksum.
        bounded = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        step = max(1, info.file_size) if bounded else 1 << 12
        with archive.open(info) as member:
            data = b"".join(iter(lambda: member.read(step), b""))
    except (OSError, *_ZIP_DAMAGE) as reason:
        _damaged(reason)
    if len(data) != info.file_size:
        raise DamagedFile("it ends too early")
    return data


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a .npz, read-only; objects are not read.

    Raises:
      OSError: if it cannot be read.
      DamagedFile: if it is none, not whole, or would take far more memory than the file.
    """
    with regular(path) as file:
        room = 16 * os.fstat(file.fileno()).st_size + (64 << 20)
        with open_zip(file) as archive:
            arrays = {}
            for name in archive.namelist():
                data = read_member(archive, name, room)
                room -= len(data)
                arrays[name.removesuffix(".npy")] = parse_npy(data)
    return arrays


def parse_npy(data: bytes) -> np.ndarray:
    """The array in the bytes of a .npy, read-only.

    Raises:
      DamagedFile: if it holds another number of bytes than its header says, or objects.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
        read = np.lib.format.read_array_header_2_0 if version == (2, 0) else read
        if read is None:
            raise DamagedFile(f"its array is of the unknown format {version}")
        shape, fortran, dtype = read(file)
        # Counted here, because NumPy makes room for what the header says before it looks further.
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
            raise DamagedFile("an array is not as long as its header says")
        array = np.frombuffer(data, dtype, offset=file.tell())
        return array.reshape(shape, order="F" if fortran else "C")
    except (*_ZIP_DAMAGE, TypeError, SyntaxError, tokenize.TokenError) as reason:
        _damaged(reason)


# What reading a damaged or unusual zip raises.
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    LookupError,
    MemoryError,
    OverflowError,
    RuntimeError,  # encrypted, or (NotImplementedError) of a kind that Python does not know
)


def _damaged(reason: BaseException) -> NoReturn:
    if isinstance(reason, DamagedFile):
        raise reason
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    raise DamagedFile(text or type(reason).__name__) from reason
