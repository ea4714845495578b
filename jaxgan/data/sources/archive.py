"""A folder or zip of pictures: what is in it, and reading it."""

import logging
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jaxgan import files
from jaxgan.data.pictures import (
    PASSED_OVER,
    SUFFIXES,
    SUFFIXES_1,
    CorruptPicture,
    looks_like_picture,
)
from jaxgan.errors import DataError

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A file, as the folder or zip lists it."""

    name: str  # relative to the folder or zip, with slashes
    size: int  # bytes
    stamp: int  # of the content: the time of its last change, in a zip its CRC


class Listing(NamedTuple):
    """A folder or zip and the pictures in it, sorted by name."""

    root: Path
    entries: list[Entry]

    @property
    def names(self) -> list[str]:
        """Those of the pictures."""
        return [entry.name for entry in self.entries]


def list_pictures(root: Path, reading: int = 2) -> Listing:
    """The pictures in a folder or zip, without hidden ones and files that are not named like one.

    A warning tells how many others are named like pictures, are no regular files, lie in folders
    that cannot be read, have a name with `..`, or one that the zip has twice.

    Args:
      root: the folder or zip.
      reading: 1 lists the formats of jaxgan 0.1 alone.

    Raises:
      DataError: if there are none, and if `root` is neither a folder nor a whole, open .zip.
    """
    odd: Counter[str] = Counter()
    if root.is_dir():
        entries = list(_list_folder(root, odd))
    elif root.is_file() and zipfile.is_zipfile(root):
        entries = list(_list_zip(root, odd))
    elif root.exists():
        raise DataError(f"{root} is neither a folder nor a whole .zip of pictures")
    else:
        raise DataError(f"{root} does not exist; give the path of a folder or a .zip of pictures")
    suffixes = SUFFIXES if reading > 1 else SUFFIXES_1
    found = [entry for entry in entries if looks_like_picture(entry.name, suffixes)]
    others = Counter(
        os.path.splitext(entry.name)[1].lower() for entry in set(entries).difference(found)
    )
    others = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
    if not found:
        there = f" but {others}" * bool(others)
        raise DataError(
            f"{root} holds no pictures{there}; files that end in {', '.join(suffixes)} count"
        )
    if others and reading > 1:
        _log.warning("%s: passed over are %s; convert them to PNG, say, to use them", root, others)
    for what, count in odd.items():
        _log.warning("%s: %d %s", root, count, what)
    return Listing(root, sorted(found))


def list_folders(root: Path) -> set[str]:
    """The names of the folders in a folder or zip, empty ones too, without the hidden ones."""
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
def reader(root: Path, most: int) -> Iterator[Callable[[str], bytes]]:
    """Opens a folder or zip; gives the function that reads a file in it by name.

    The function may be called on several threads. It raises `CorruptPicture` for a damaged member
    of a zip, a file that may not be read, a link to nowhere, and for more than `most` bytes, and
    `DataError` where a disk fails.
    """
    if root.is_dir():
        yield partial(_read_file, root, most=most)
    else:
        with _open_zip(root) as archive:
            yield partial(_read_member, archive, most=most)


def _list_folder(root: Path, odd: Counter[str]) -> Iterator[Entry]:
    def unreadable(reason: OSError) -> None:
        if not _hidden(os.path.relpath(reason.filename, root).removeprefix(".")):
            odd[f"folders cannot be read ({reason.strerror}); their pictures are missing"] += 1

    # Strings, because pathlib takes seconds for 70,000 files.
    for folder, _, names in os.walk(root, onerror=unreadable):
        inside = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        for file in names:
            name = inside.removeprefix("./") + file
            if _is_listed(name):
                try:
                    found = _stat(root, name)
                except CorruptPicture:
                    yield Entry(name, 0, 0)  # what reads it says why
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield Entry(name, found.st_size, found.st_mtime_ns)
                else:
                    odd["pipes, sockets or devices are passed over"] += 1


def _list_zip(root: Path, odd: Counter[str]) -> Iterator[Entry]:
    seen = set()
    with _open_zip(root) as archive:
        for info in archive.infolist():
            if _is_listed(info.filename):
                if info.flag_bits & 1:
                    raise DataError(f"{root} is encrypted; unpack it and give the folder")
                if info.filename in seen:
                    odd["names are there twice; what comes last is taken, twice"] += 1
                seen.add(info.filename)
                yield Entry(info.filename, info.file_size, info.CRC)
            elif ".." in info.filename.split("/"):
                odd["names with .. are passed over"] += 1


def _open_zip(root: Path) -> zipfile.ZipFile:
    try:
        return files.open_zip(root)
    except (OSError, files.DamagedFile) as reason:
        raise DataError(f"{root} is damaged ({reason}); get it again") from reason


def _is_listed(name: str) -> bool:
    return name.lower().endswith((*SUFFIXES, *PASSED_OVER)) and not _hidden(name)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    try:
        return files.read_member(archive, name, most)
    except files.DamagedFile as reason:
        raise CorruptPicture(str(reason)) from reason


def _stat(root: Path, name: str) -> os.stat_result:
    with _naming(root, name):
        return os.stat(os.path.join(root, name))


def _read_file(root: Path, name: str, most: int) -> bytes:
    try:
        with _naming(root, name):
            return files.content(root / name, most)
    except files.DamagedFile as reason:
        raise CorruptPicture(str(reason)) from reason


@contextmanager
def _naming(root: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as reason:
        if reason.errno in files.UNREADABLE:
            raise CorruptPicture(f"it cannot be read: {reason.strerror}") from reason
        raise DataError(
            f"{root / name} cannot be read ({reason.strerror}); repair or remove it"
        ) from reason
