"""Pictures from Hugging Face's `datasets`, streamed into the cache."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from jaxgan.data.cache import Append, digest, prepared_files
from jaxgan.data.download import require_reachable
from jaxgan.data.label_files import Cell, name_words
from jaxgan.data.labels import check_names
from jaxgan.data.pictures import CorruptPicture
from jaxgan.data.sources.folder import decode_all, judge, limit_of
from jaxgan.data.spec import Dataset, DataSpec, Request, in_part, multi_hot, one_hot, part_of
from jaxgan.errors import DataError

_VERSION = 1  # raise it when pixels, labels or notes change
_HELD_OUT = ("test", "validation")
_LABELS = ("label", "labels", "tags")


def load_hf(request: Request) -> Dataset:
    """`hf:<name>`, `hf:<name>:<configuration>`; with `data_dir` `hf:imagefolder`, `hf:parquet`.

    Pictures `[N, size, size, C]`, 64 px unless asked otherwise, gray if all are, of the first
    column of pictures. Labels are in the column `label`, `labels` or `tags`: classes where it holds
    ClassLabels or one word each, tags where lists. `tags` names other columns, separated by commas.
    The held-out part is "test" or "validation", else a fraction `holdout` of "train". What was
    prepared once is not looked for on the network again.

    Raises:
      DataError: if the library is missing, there is no such set, part or column, or some pictures
        are corrupt and not to be left out.
    """
    name, size = request.name.removeprefix("hf:"), request.image_size or 64
    asked = [part.strip() for part in str(request.tags or "").split(",") if part.strip()]
    paths = _paths(request.data_dir)
    stats = [(str(path.relative_to(request.data_dir)), path.stat()) for path in paths]
    stamps = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    key = digest(
        *("hf", _VERSION, name, stamps, request.split, request.holdout, asked),
        *(request.label_kind, request.channels, size, *limit_of(request)),
    )
    build = partial(_build, request, name, asked)
    stem = "hf-" + re.sub(r"\W+", "-", name)
    done = prepared_files(request.cache_dir, stem, key, build, paths)
    judge(done, request.name, size, request.skip_corrupt)
    kind, names = done.notes["kind"], tuple(done.notes["names"])
    labels, channels = done.labels, done.images.shape[-1]
    if kind == "class":
        labels = one_hot(labels, len(names))
    fingerprint = digest(_VERSION, size, channels, done.notes["contents"], kind, names)
    if labels is not None:
        labels = labels.astype(np.float32)
        fingerprint = digest(fingerprint, digest(labels.argmax(1).tolist(), labels.sum(1).tolist()))
    spec = DataSpec(request.name, size, channels, kind, names)
    return Dataset(spec, done.images, labels, fingerprint)


def _paths(data_dir: Path | None) -> list[Path]:
    if data_dir is None:
        return []
    if not data_dir.exists():
        raise DataError(f"{data_dir} does not exist; name the folder of the files by --data_dir")
    return sorted(path for path in data_dir.rglob("*") if path.is_file())


def _build(request: Request, name: str, asked: Sequence[str], append: Append):
    part, whole = _part(_open(name, request), request)
    features = part.features or {}
    image, columns = _columns(features, asked, request.name)
    told: dict[str, list[Cell]] = {}
    rows = _rows(part, image, columns, told, lambda row: whole or in_part(request, row))
    notes = decode_all(request, rows, append, request.name)
    if not columns:
        return None, notes | {"kind": None, "names": []}
    for row, _ in notes["corrupt"]:
        told.pop(row)
    words = name_words(columns, [*told.values()], request.label_kind)
    names = _class_names(features[columns[0]]) if len(columns) == 1 else None
    names = names or sorted({word for some in words for word in some})
    check_names(names, Path(request.name))
    kind = request.label_kind or ("class" if all(len(some) == 1 for some in words) else "tags")
    if kind == "class" and any(len(some) != 1 for some in words):
        raise DataError(
            f"{', '.join(columns)} of {request.name!r} give pictures none or several classes; try "
            "--label_kind=tags"
        )
    number = {word: i for i, word in enumerate(names)}
    numbers = [[number[word] for word in some] for some in words]
    labels = np.array(numbers)[:, 0] if kind == "class" else multi_hot(numbers, len(names))
    return labels, notes | {"kind": kind, "names": names}


def _open(name: str, request: Request):
    """The parts of the set by their names, unread."""
    try:
        import datasets
    except ImportError as reason:
        raise DataError(
            f"{request.name!r} needs the library datasets ({reason}): pip install 'jaxgan[hf]'"
        ) from None
    path, _, configuration = name.partition(":")
    data_dir = request.data_dir and str(request.data_dir)
    if data_dir is None and not Path(path).exists() and not datasets.config.HF_HUB_OFFLINE:
        # The library would go on trying for minutes.
        require_reachable(
            datasets.config.HF_ENDPOINT, "load it where there is a network, or name local files"
        )
    try:
        return datasets.load_dataset(path, configuration or None, data_dir=data_dir, streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as reason:
        raise DataError(
            f"{request.name!r} cannot be opened ({str(reason).splitlines()[0]}); it is "
            "hf:OWNER/NAME or hf:OWNER/NAME:CONFIGURATION, or hf:imagefolder or hf:parquet with "
            "--data_dir"
        ) from reason


def _part(parts: Mapping, request: Request):
    """A part of the set, and whether all of it is wanted."""
    held_out = [part for part in _HELD_OUT if part in parts]
    if request.split == "holdout" and held_out:
        return parts[held_out[0]], True
    if "train" not in parts:
        raise DataError(f"data set {request.name!r} has no part 'train' but {', '.join(parts)}")
    if not held_out:
        part_of(request, ())  # whether a fraction is named
    return parts["train"], bool(held_out) or request.holdout == 0


def _columns(features: Mapping, asked: Sequence[str], name: str) -> tuple[str, list[str]]:
    """The column of pictures, and those of labels."""
    import datasets

    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    for column in asked:
        if column not in features:
            raise DataError(f"{name!r} has no column {column!r} but {', '.join(features)}")
    if not images:
        raise DataError(f"data set {name!r} holds no pictures but {', '.join(features)}")
    chosen = [column for column in asked if column in images] or images
    usual = [column for column in _LABELS if column in features][:1]
    return chosen[0], [column for column in asked if column not in images] or usual


def _class_names(kind) -> list[str] | None:
    """The names of a column of ClassLabels or of lists of them."""
    return getattr(getattr(kind, "feature", kind), "names", None)


def _rows(part, image, columns, told, wanted) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The wanted pictures by their number and what reads them; their labels go into `told`."""
    import datasets

    names = {column: _class_names(part.features[column]) for column in columns}

    def text(value, known):
        if isinstance(value, list):
            return [text(one, known) for one in value]
        if value is None or (known and value < 0):
            return ""
        return known[value] if known else str(value)

    # Decoded by ours, so that a picture is the same wherever it comes from.
    part = part.select_columns([image, *columns]).cast_column(image, datasets.Image(decode=False))
    for number, row in enumerate(part):
        if wanted(str(number)):
            told[str(number)] = [text(row[column], names[column]) for column in columns]
            yield str(number), partial(_bytes, row[image])


def _bytes(cell: Mapping | None) -> bytes:
    if cell is None:
        raise CorruptPicture("there is none")
    if cell["bytes"] is not None:
        return cell["bytes"]
    import fsspec

    try:
        with fsspec.open(cell["path"], "rb") as file:
            return file.read()
    except OSError as reason:
        raise DataError(
            f"{cell['path']} cannot be read ({reason}); repair or remove it"
        ) from reason
