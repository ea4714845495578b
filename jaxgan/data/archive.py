"""A folder or a zip of pictures: what is in it, and reading it."""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jaxgan.data.errors import DataError
from jaxgan.data.pictures import SUFFIXES, CorruptPicture

# What reading a damaged or unusual archive raises.
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,  # encrypted, or (NotImplementedError) of a kind that Python does not know
)


class Entry(NamedTuple):
    """name: relative, with slashes; size in bytes; stamp: the time of change, or in a zip the CRC,
    so that a change of the content changes it."""

    name: str
    size: int
    stamp: int


def list_pictures(root: Path) -> list[Entry]:
    """The pictures under `root` by name; files named like none, and hidden ones, are passed over.

    Raises `DataError` if there are none, and if `root` is no folder and no whole, open .zip.
    """
    if root.is_dir():
        entries = list(_list_folder(root))
    elif zipfile.is_zipfile(root):
        entries = list(_list_zip(root))
    elif root.exists():
        raise DataError(f"{root} is neither a folder nor a whole .zip of pictures")
    else:
        raise DataError(f"{root} does not exist; give the path of a folder or a .zip of pictures")
    if not entries:
        raise DataError(f"{root} holds no pictures; files that end in {', '.join(SUFFIXES)} count")
    return sorted(entries)


def list_folders(root: Path) -> set[str]:
    """The names of the folders under `root`, empty ones too, without the hidden ones."""
    if root.is_dir():
        found = {
            os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            for folder, names, _ in os.walk(root)
            for name in names
        }
    else:
        with _open_zip(root) as archive:
            found = {name.rpartition("/")[0] for name in archive.namelist() if "/" in name}
    return {folder for folder in found if not _hidden(folder)}


@contextmanager
def reader(root: Path) -> Iterator[Callable[[str], bytes]]:
    """The function that reads a file under `root` by its name, on any number of threads.

    It raises `CorruptPicture` for a damaged member of a zip and `DataError` for an unreadable file.
    """
    if root.is_dir():
        yield partial(_read_file, root)
    else:
        with _open_zip(root) as archive:
            yield partial(_read_member, archive)


def _list_folder(root: Path) -> Iterator[Entry]:
    # Strings, for pathlib takes seconds where there are 70,000 files.
    for folder, _, files in os.walk(root):
        inside = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        for file in files:
            name = inside.removeprefix("./") + file
            if _looks_like_picture(name):
                with _naming(root, name):
                    stat = os.stat(os.path.join(folder, file))
                yield Entry(name, stat.st_size, stat.st_mtime_ns)


def _list_zip(root: Path) -> Iterator[Entry]:
    with _open_zip(root) as archive:
        for info in archive.infolist():
            if _looks_like_picture(info.filename):
                if info.flag_bits & 1:
                    raise DataError(f"{root} is encrypted; unpack it and give the folder")
                yield Entry(info.filename, info.file_size, info.CRC)


def _open_zip(root: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(root)
    except _ZIP_DAMAGE as reason:
        raise DataError(f"{root} is damaged ({reason}); get it anew") from reason


def _looks_like_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _hidden(name)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)  # safe on several threads
    except _ZIP_DAMAGE as reason:
        raise CorruptPicture(str(reason)) from reason


def _read_file(root: Path, name: str) -> bytes:
    with _naming(root, name):
        return (root / name).read_bytes()


@contextmanager
def _naming(root: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as reason:
        raise DataError(
            f"{root / name} cannot be read ({reason.strerror}); mend or remove it"
        ) from reason
