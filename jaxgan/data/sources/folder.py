"""Pictures in a folder or zip, with or without labels."""

import logging
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from jaxgan.data.cache import Append, Prepared, digest, in_chunks, prepared_files
from jaxgan.data.label_files import ENDINGS
from jaxgan.data.labels import Labels, inside_names, label_by_folder, label_by_table
from jaxgan.data.pictures import (
    EARLIER_MAX_PIXELS,
    CorruptPicture,
    Fit,
    decode,
    most_bytes,
    size_of,
    square,
    warn_of_enlarged,
)
from jaxgan.data.sources.archive import Entry, Listing, list_folders, list_pictures, reader
from jaxgan.data.spec import MAX_PIXELS, Dataset, DataSpec, Request, multi_hot, part_of
from jaxgan.errors import DataError

_VERSION = 1  # raise it when `decode` gives other pixels
_NOTES = 3  # and this when `_prepare` notes other things
_log = logging.getLogger(__name__)


def load_folder(request: Request) -> Dataset:
    """The pictures in the folder or zip `data_dir`, with the labels that are asked for."""
    if request.data_dir is None:
        raise DataError(
            "data set 'folder' needs --data_dir, the path of a folder or a .zip of pictures"
        )
    listing = list_pictures(request.data_dir, request.reading)
    return load_pictures(request, listing, _find_labels(request, listing))


def load_pictures(
    request: Request, listing: Listing, labels: Labels | None = None, fit: Fit = square
) -> Dataset:
    """Pictures in files, `[N, size, size, 3]`, or 1 if all are gray, in the order of their names.

    Args:
      request: what is asked for; the size is 64 if it names none.
      listing: all pictures that are there.
      labels: of the pictures that are wanted; None for all, without labels.
      fit: how a picture becomes square.

    Raises:
      DataError: if none is left for `request.split`, if none can be decoded, and if some cannot and
        `skip_corrupt` is not set.
    """
    size = request.image_size or 64
    entries = _in_part(listing, labels, request)
    wanted = _channels(request)
    # The labels are no part of it, so that others on the same pictures need no new pixels.
    key = digest(
        "folder", _VERSION, _NOTES, fit.__name__, size, wanted, entries, *limit_of(request)
    )

    def opened():
        return reader(listing.root, most_bytes(request.max_pixels))

    def build(append: Append):
        with opened() as read:
            items = ((entry.name, partial(read, entry.name)) for entry in entries)
            return None, decode_all(request, items, append, listing.root, len(entries), fit)

    def unchanged(notes: Mapping) -> bool:
        corrupt = dict(notes["corrupt"])
        names = [entry.name for entry in entries if entry.name not in corrupt]
        with opened() as read, suppress(CorruptPicture):
            runs = in_chunks(
                lambda some: [zlib.crc32(read(x)) for x in some], names, size, "comparing"
            )
            return digest([*chain.from_iterable(runs)]) == notes["contents"]
        return False

    # The time of a zip's member is its CRC, so that nothing is left to compare.
    paths = [listing.root / entry.name for entry in entries] if listing.root.is_dir() else []
    done = prepared_files(request.cache_dir, request.name, key, build, paths, unchanged)
    corrupt = judge(done, listing.root, size, request.skip_corrupt)
    channels = done.images.shape[-1]
    fitted = [fit.__name__] * (fit is not square) + ["gray"] * (channels == 1)
    fingerprint = digest(_VERSION, size, done.notes["contents"], *fitted)
    if labels is None:
        spec = DataSpec(request.name, size, channels, None, ())
        return Dataset(spec, done.images, None, fingerprint)
    spec = DataSpec(request.name, size, channels, labels.kind, labels.names)
    numbers = [labels.of[entry.name] for entry in entries if entry.name not in corrupt]
    fingerprint = digest(fingerprint, labels.kind, labels.names, numbers)
    return Dataset(spec, done.images, multi_hot(numbers, len(labels.names)), fingerprint)


def _find_labels(request: Request, listing: Listing) -> Labels | None:
    if request.tags is None:
        return None
    root = listing.root
    if request.tags == "folders":
        return label_by_folder(listing.names, list_folders(root), root)
    kind = request.label_kind or ("words" if request.reading == 1 else None)
    given = str(request.tags)
    for name, columns in ((given, ""), given.rpartition(":")[::2]):
        path = Path(name).expanduser()
        for place in (path, root / path, root.parent / path):
            if place.is_file():
                named = [column.strip() for column in columns.split(",") if column.strip()]
                return label_by_table(listing.names, place, named, kind, request.unlabeled)
    raise DataError(
        f"--tags={request.tags} is neither 'folders' nor a table of labels "
        f"({', '.join(ENDINGS)}) here or beside the pictures in {root}; name one"
    )


def _in_part(listing: Listing, labels: Labels | None, request: Request) -> list[Entry]:
    chosen = [listing.entries[i] for i in part_of(request, inside_names(listing.names))]
    if labels is not None:
        chosen = [entry for entry in chosen if entry.name in labels.of]
    if not chosen:
        raise DataError(
            f"with --holdout={request.holdout} none of the {len(listing.entries)} pictures in "
            f"{listing.root} is left for the part {request.split!r}"
        )
    return chosen


def _channels(request: Request) -> int | None:
    return request.channels or (3 if request.reading == 1 else None)


def limit_of(request: Request) -> list[int]:
    """What of `max_pixels` a prepared set depends on; nothing for those that are usual."""
    usual = request.max_pixels in (MAX_PIXELS, EARLIER_MAX_PIXELS)
    return [] if usual else [request.max_pixels]


def decode_all(
    request: Request,
    items: Iterable[tuple[str, Callable[[], bytes]]],
    append: Append,
    source: object,
    total: int | None = None,
    fit: Fit = square,
) -> dict:
    """Appends pictures that are given by name and by what reads their bytes.

    Args:
      request: how they are read; gray as long as all are gray if it names no channels.
      items: the pictures.
      append: what they go to.
      source: where they are, for messages.
      total: how many there are, if that is known.
      fit: how they become square.

    Returns:
      The notes that `judge` reads: a hash of the "contents", which are "corrupt" and why, how many
      were "enlarged", and of how many in "all".

    Raises:
      DataError: if none can be decoded.
    """
    size, channels = request.image_size or 64, _channels(request)

    def decode_some(some):
        images, crcs, corrupt, enlarged = [], [], [], 0
        for name, read in some:
            try:
                data = read()
                images.append(decode(data, size, fit, channels or 3, request.max_pixels))
                crcs.append(zlib.crc32(data))
                enlarged += min(size_of(data)) < size
            except CorruptPicture as reason:
                corrupt.append((name, str(reason)))
        return images and np.stack(images), crcs, corrupt, enlarged

    contents, corrupt, enlarged = [], [], 0
    for images, crcs, bad, small in in_chunks(decode_some, items, size, "preparing", total):
        if len(images):
            gray = channels is None and (images == images[..., :1]).all()
            append(images[..., :1] if gray else images)
        contents += crcs
        corrupt += bad
        enlarged += small
    count = len(contents) + len(corrupt)
    if not contents:
        first = f"; the first: {_describe(*corrupt[0])}" if corrupt else ""
        raise DataError(f"none of the {count} pictures in {source} can be decoded{first}")
    return {"contents": digest(contents), "corrupt": corrupt, "enlarged": enlarged, "all": count}


def judge(done: Prepared, source: object, size: int, skip_corrupt: bool) -> Collection[str]:
    """The names of the corrupt ones among what `decode_all` prepared, with warnings of what is odd.

    Raises:
      DataError: if some are corrupt and are not to be left out.
    """
    corrupt = dict(done.notes["corrupt"])
    if corrupt:
        shown = "; ".join(_describe(*one) for one in list(corrupt.items())[:5])
        more = "; ..." if len(corrupt) > 5 else ""
        sentence = (
            f"{len(corrupt)} of {done.notes['all']} pictures in {source} are corrupt: {shown}{more}"
        )
        if not skip_corrupt:
            raise DataError(
                f"{sentence}; repair or remove them, or leave them out by --skip_corrupt"
            )
        _log.warning("%s; skipped", sentence)
    warn_of_enlarged(done.notes["enlarged"], len(done.images), source, size)
    return corrupt.keys()


def _describe(name: str, reason: str) -> str:
    return f"{name} ({reason})"
