"""A folder or a zip of pictures, with or without labels."""

import logging
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jaxgan.data.archive import Entry, list_folders, list_pictures, reader
from jaxgan.data.cache import Append, chunked, digest, prepared
from jaxgan.data.errors import DataError
from jaxgan.data.labels import Labelling, Labels, label_by_file, label_by_folder, label_vectors
from jaxgan.data.parallel import ordered_map
from jaxgan.data.pictures import (
    CorruptPicture,
    Fit,
    decode,
    shorter_side,
    square,
    warn_of_enlarged,
)
from jaxgan.data.spec import Dataset, DataSpec, Request
from jaxgan.data.split import held_out, inside_names

_VERSION = 1  # raise it when `decode` gives other pixels
_NOTES = 2  # and this when `_prepare` notes other things
_log = logging.getLogger(__name__)


def load_folder(request: Request) -> Dataset:
    """The pictures in the folder or zip `data_dir`, as RGB `[N, size, size, 3]`; size is 64 unless
    asked otherwise."""
    if request.data_dir is None:
        raise DataError(
            "data set 'folder' needs data_dir, the path of a folder or a .zip of pictures"
        )
    return load_pictures(request, request.data_dir, _labelling(request.labels, request.data_dir))


def load_pictures(
    request: Request, root: Path, labelling: Labelling | None = None, fit: Fit = square
) -> Dataset:
    """The pictures under `root`, a folder or a zip, that `labelling` labels; without it, all.

    Files are taken in the order of their names; those named like no picture are passed over.
    Raises `DataError` if there are none, or if some are corrupt and `skip_corrupt` is not set.
    """
    size = request.image_size or 64
    entries = list_pictures(root)
    labels = None if labelling is None else labelling([entry.name for entry in entries])
    entries = _in_part(entries, labels, request, root)
    # The labels are no part of it, so that others on the same pictures need no new pixels.
    key = digest("folder", _VERSION, _NOTES, fit.__name__, size, entries)
    build = partial(_prepare, root, entries, size, fit)
    done = prepared(request.cache_dir, request.name, key, build)
    _judge_corrupt(done.notes["corrupt"], len(entries), root, request.skip_corrupt)
    warn_of_enlarged(done.notes["enlarged"], len(done.images), root, size)
    fitted = () if fit is square else (fit.__name__,)
    fingerprint = digest(_VERSION, size, done.notes["contents"], *fitted)
    bare = Dataset(DataSpec(request.name, size, 3, None, ()), done.images, None, fingerprint)
    if labels is None:
        return bare
    corrupt = {name for name, _ in done.notes["corrupt"]}
    return _labelled(bare, labels, [e.name for e in entries if e.name not in corrupt])


def _labelled(bare: Dataset, labels: Labels, files: list[str]) -> Dataset:
    spec = bare.spec._replace(label_kind=labels.kind, label_names=labels.names)
    numbers = [labels.of[file] for file in files]
    fingerprint = digest(bare.fingerprint, labels.kind, labels.names, numbers)
    return Dataset(spec, bare.images, label_vectors(labels, files), fingerprint)


def _labelling(labels: str | Path | None, root: Path) -> Labelling | None:
    if labels is None:
        return None
    if labels == "folders":
        return lambda files: label_by_folder(files, list_folders(root), root)
    return lambda files: label_by_file(_find_tags(Path(labels).expanduser(), root), files)


def _find_tags(path: Path, root: Path) -> Path:
    places = (path, root / path, root.parent / path)
    for place in places:
        if place.is_file():
            return place
    raise DataError(
        f"labels={str(path)!r} is neither 'folders' nor a .csv or .json file here or beside the "
        f"pictures in {root}; name one"
    )


def _in_part(
    entries: list[Entry], labels: Labels | None, request: Request, root: Path
) -> list[Entry]:
    if request.split == "holdout" and request.holdout == 0:
        raise DataError(
            f"data set {request.name!r} has no held-out part of its own; ask for one with "
            "holdout=0.1, say, in training and in evaluation"
        )
    wanted = request.split == "holdout"
    names = inside_names([entry.name for entry in entries])
    chosen = [
        entry
        for entry, name in zip(entries, names, strict=True)
        if held_out(name, request.holdout) == wanted and (labels is None or entry.name in labels.of)
    ]
    if not chosen:
        raise DataError(
            f"with holdout={request.holdout} none of the {len(entries)} pictures in {root} is "
            f"left for the part {request.split!r}"
        )
    return chosen


def _prepare(root: Path, entries: list[Entry], size: int, fit: Fit, append: Append):
    contents, corrupt, enlarged = [], [], 0
    with (
        reader(root) as read,
        tqdm(total=len(entries), desc="preparing", unit="img", disable=None) as bar,
    ):
        decode_some = partial(_decode_some, read, size, fit)
        for images, crcs, bad, small in ordered_map(decode_some, chunked(entries, size)):
            if images:
                append(np.stack(images))
            contents += crcs
            corrupt += bad
            enlarged += small
            bar.update(len(crcs) + len(bad))
    if not contents:
        raise DataError(
            f"none of the {len(entries)} pictures in {root} can be decoded; the first: "
            f"{_describe(*corrupt[0])}"
        )
    return None, {"contents": digest(contents), "corrupt": corrupt, "enlarged": enlarged}


def _decode_some(read: Callable[[str], bytes], size: int, fit: Fit, entries: list[Entry]):
    images, crcs, corrupt, enlarged = [], [], [], 0
    for entry in entries:
        try:
            data = read(entry.name)
            images.append(decode(data, size, fit))
            crcs.append(zlib.crc32(data))
            enlarged += shorter_side(data) < size
        except CorruptPicture as reason:
            corrupt.append((entry.name, str(reason)))
    return images, crcs, corrupt, enlarged


def _judge_corrupt(corrupt: list, total: int, root: Path, skip: bool) -> None:
    if not corrupt:
        return
    shown = "; ".join(_describe(*one) for one in corrupt[:5]) + (
        "; ..." if len(corrupt) > 5 else ""
    )
    sentence = f"{len(corrupt)} of {total} pictures in {root} are corrupt: {shown}"
    if not skip:
        raise DataError(f"{sentence}; mend or remove them, or pass skip_corrupt=True")
    _log.warning("%s; skipped", sentence)


def _describe(name: str, reason: str) -> str:
    return f"{name} ({reason})"
