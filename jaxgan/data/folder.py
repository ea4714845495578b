"""A folder or a zip of pictures."""

import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from jaxgan.data.cache import Append, chunked, digest, prepared
from jaxgan.data.errors import DataError
from jaxgan.data.parallel import ordered_map
from jaxgan.data.pictures import SUFFIXES, CorruptPicture, decode
from jaxgan.data.spec import Dataset, DataSpec, Request
from jaxgan.data.split import held_out

_VERSION = 1  # raise it when `decode` gives other pixels
# What reading a damaged or unusual archive raises.
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,  # encrypted, or (NotImplementedError) of a kind that Python does not know
)
_log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    name: str  # relative, with slashes
    size: int
    stamp: int  # a change of the content changes it: the time of change, or in a zip the CRC


def load_folder(request: Request) -> Dataset:
    """The pictures in the folder or zip `data_dir`, as RGB `[N, size, size, 3]`; size is 64 unless
    asked otherwise."""
    if request.data_dir is None:
        raise DataError(
            "data set 'folder' needs data_dir, the path of a folder or a .zip of pictures"
        )
    return load_pictures(request, request.data_dir)


def load_pictures(request: Request, root: Path) -> Dataset:
    """The pictures under `root`, a folder or a zip.

    Files are taken in the order of their names; those named like no picture are passed over.
    Raises `DataError` if there are none, or if some are corrupt and `skip_corrupt` is not set.
    """
    size = request.image_size or 64
    entries = _in_part(_list(root), request, root)
    key = digest("folder", _VERSION, size, entries)
    done = prepared(request.cache_dir, request.name, key, partial(_prepare, root, entries, size))
    _judge_corrupt(done.notes["corrupt"], len(entries), root, request.skip_corrupt)
    spec = DataSpec(request.name, size, 3, None, ())
    return Dataset(spec, done.images, None, digest(_VERSION, size, done.notes["contents"]))


def _list(root: Path) -> list[_Entry]:
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


def _list_folder(root: Path) -> Iterator[_Entry]:
    # Strings, for pathlib takes seconds where there are 70,000 files.
    for folder, _, files in os.walk(root):
        inside = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        for file in files:
            name = inside.removeprefix("./") + file
            if _looks_like_picture(name):
                with _naming(root, name):
                    stat = os.stat(os.path.join(folder, file))
                yield _Entry(name, stat.st_size, stat.st_mtime_ns)


def _list_zip(root: Path) -> Iterator[_Entry]:
    with _open_zip(root) as archive:
        for info in archive.infolist():
            if _looks_like_picture(info.filename):
                if info.flag_bits & 1:
                    raise DataError(f"{root} is encrypted; unpack it and give the folder")
                yield _Entry(info.filename, info.file_size, info.CRC)


def _open_zip(root: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(root)
    except _ZIP_DAMAGE as reason:
        raise DataError(f"{root} is damaged ({reason}); get it anew") from reason


def _looks_like_picture(name: str) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    return name.lower().endswith(SUFFIXES) and not hidden


def _in_part(entries: list[_Entry], request: Request, root: Path) -> list[_Entry]:
    if request.split == "holdout" and request.holdout == 0:
        raise DataError(
            f"data set {request.name!r} has no held-out part of its own; ask for one with "
            "holdout=0.1, say, in training and in evaluation"
        )
    wanted = request.split == "holdout"
    names = _inside_names([entry.name for entry in entries])
    chosen = [
        entry
        for entry, name in zip(entries, names, strict=True)
        if held_out(name, request.holdout) == wanted
    ]
    if not chosen:
        raise DataError(
            f"with holdout={request.holdout} none of the {len(entries)} pictures in {root} is "
            f"left for the part {request.split!r}"
        )
    return chosen


def _inside_names(names: list[str]) -> list[str]:
    """Without the one folder at the top that an archive may have been packed with."""
    top = {name.split("/", 1)[0] for name in names}
    if len(top) == 1 and all("/" in name for name in names):
        return [name.split("/", 1)[1] for name in names]
    return names


def _prepare(root: Path, entries: list[_Entry], size: int, append: Append):
    contents, corrupt = [], []
    with (
        _reader(root) as read,
        tqdm(total=len(entries), desc="preparing", unit="img", disable=None) as bar,
    ):
        decode_some = partial(_decode_some, read, size)
        for images, crcs, bad in ordered_map(decode_some, chunked(entries, size)):
            if images:
                append(np.stack(images))
            contents += crcs
            corrupt += bad
            bar.update(len(crcs) + len(bad))
    if not contents:
        raise DataError(
            f"none of the {len(entries)} pictures in {root} can be decoded; the first: {corrupt[0]}"
        )
    return None, {"contents": digest(contents), "corrupt": corrupt}


def _decode_some(read: Callable[[str], bytes], size: int, entries: list[_Entry]):
    images, crcs, corrupt = [], [], []
    for entry in entries:
        try:
            data = read(entry.name)
            images.append(decode(data, size))
            crcs.append(zlib.crc32(data))
        except CorruptPicture as reason:
            corrupt.append(f"{entry.name} ({reason})")
    return images, crcs, corrupt


@contextmanager
def _reader(root: Path) -> Iterator[Callable[[str], bytes]]:
    if root.is_dir():
        yield partial(_read_file, root)
    else:
        with _open_zip(root) as archive:
            yield partial(_read_member, archive)


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


def _judge_corrupt(corrupt: list[str], total: int, root: Path, skip: bool) -> None:
    if not corrupt:
        return
    shown = "; ".join(corrupt[:5]) + ("; ..." if len(corrupt) > 5 else "")
    sentence = f"{len(corrupt)} of {total} pictures in {root} are corrupt: {shown}"
    if not skip:
        raise DataError(f"{sentence}; mend or remove them, or pass skip_corrupt=True")
    _log.warning("%s; skipped", sentence)
