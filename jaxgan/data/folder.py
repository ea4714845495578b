"""A folder or a zip of pictures."""

import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from jaxgan.data.cache import Append, digest, prepared
from jaxgan.data.errors import DataError
from jaxgan.data.parallel import ordered_map
from jaxgan.data.pictures import SUFFIXES, CorruptPicture, decode
from jaxgan.data.spec import Dataset, DataSpec, Request
from jaxgan.data.split import held_out

_VERSION = 1  # raise it when `decode` gives other pixels
_CHUNK = 64  # pictures
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
        raise DataError(f"{root} is neither a folder nor a .zip of pictures")
    else:
        raise DataError(f"{root} does not exist; give the path of a folder or a .zip of pictures")
    if not entries:
        raise DataError(f"{root} holds no pictures; files that end in {', '.join(SUFFIXES)} count")
    return sorted(entries)


def _list_folder(root: Path) -> Iterator[_Entry]:
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if _looks_like_picture(relative):
                stat = path.stat()
                yield _Entry(relative, stat.st_size, stat.st_mtime_ns)


def _list_zip(root: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(root) as archive:
        for info in archive.infolist():
            if _looks_like_picture(info.filename):
                if info.flag_bits & 1:
                    raise DataError(f"{root} is encrypted; unpack it and give the folder")
                yield _Entry(info.filename, info.file_size, info.CRC)


def _looks_like_picture(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


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
    chunks = [entries[i : i + _CHUNK] for i in range(0, len(entries), _CHUNK)]
    with (
        _reader(root) as read,
        tqdm(total=len(entries), desc="preparing", unit="img", disable=None) as bar,
    ):
        for images, crcs, bad in ordered_map(partial(_decode_all, read, size), chunks):
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


def _decode_all(read: Callable[[str], bytes], size: int, entries: list[_Entry]):
    images, crcs, corrupt = [], [], []
    for entry in entries:
        try:
            data = read(entry.name)
            images.append(decode(data, size))
            crcs.append(zlib.crc32(data))
        except (CorruptPicture, zipfile.BadZipFile) as reason:
            corrupt.append(f"{entry.name} ({reason})")
    return images, crcs, corrupt


@contextmanager
def _reader(root: Path) -> Iterator[Callable[[str], bytes]]:
    if root.is_dir():
        yield lambda name: (root / name).read_bytes()
    else:
        with zipfile.ZipFile(root) as archive:
            yield archive.read  # safe on several threads


def _judge_corrupt(corrupt: list[str], total: int, root: Path, skip: bool) -> None:
    if not corrupt:
        return
    shown = "; ".join(corrupt[:5]) + ("; ..." if len(corrupt) > 5 else "")
    sentence = f"{len(corrupt)} of {total} pictures in {root} are corrupt: {shown}"
    if not skip:
        raise DataError(f"{sentence}; mend or remove them, or pass skip_corrupt=True")
    _log.warning("%s; skipped", sentence)
