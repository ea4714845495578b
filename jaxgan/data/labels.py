"""Labels: what is on each picture, and what a conditional generator is asked for.

A data set has K label names. A label vector has an entry for each of them, 1 where it applies:
exactly one for classes, any number for tags.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgan.data.label_files import read_conditions, read_labels
from jaxgan.data.spec import Dataset, DataSpec, multi_hot, require_labels
from jaxgan.errors import DataError, some, unknown

_MOST_NAMES = 50_000  # a picture's label vector has a number for each
_log = logging.getLogger(__name__)


class Labels(NamedTuple):
    """The labels of the pictures in files; a picture that is not in `of` is left out."""

    kind: str  # "class" or "tags"
    names: tuple[str, ...]
    of: Mapping[str, tuple[int, ...]]  # file -> the numbers of its labels, ascending


def label_by_folder(files: Sequence[str], folders: Iterable[str], root: Path) -> Labels:
    """The folders at the top as classes, sorted; if there is one alone, the folders in it.

    Args:
      files: the pictures' names, relative to `root`, with slashes.
      folders: the names of all folders, also of empty ones.
      root: where they are, for messages.

    Raises:
      DataError: if there are fewer than two classes, if one has no picture, and if a picture is
        in none.
    """
    tops = {folder.split("/", 1)[0] for folder in folders}
    inside = files
    if len(tops) == 1 and all("/" in file for file in files):
        inside = inside_names(files)
        tops = {folder.split("/", 2)[1] for folder in folders if "/" in folder}
    if len(tops) < 2:
        raise DataError(
            f"--tags=folders needs a folder for each class in {root}, two or more, and there is "
            f"{'only ' + repr(*tops) if tops else 'none'}; sort the pictures into folders"
        )
    outside = [file for file, name in zip(files, inside, strict=True) if "/" not in name]
    if outside:
        raise DataError(
            f"{len(outside)} of {len(files)} pictures in {root} lie in no class's folder, the "
            f"first {outside[0]!r}; move them into one, or away"
        )
    classes = [name.split("/", 1)[0] for name in inside]
    empty = sorted(tops.difference(classes))
    if empty:
        raise DataError(
            f"{len(empty)} of {len(tops)} class folders in {root} hold no picture, the first "
            f"{empty[0]!r}; remove them or fill them"
        )
    number = {name: i for i, name in enumerate(sorted(tops))}
    of = {file: (number[name],) for file, name in zip(files, classes, strict=True)}
    return Labels("class", tuple(number), of)


def label_by_table(
    files: Sequence[str],
    path: Path,
    columns: Sequence[str] = (),
    kind: str | None = None,
    unlabeled: str = "refuse",
) -> Labels:
    """The labels, sorted by name, that the table `path` gives to the pictures.

    Args:
      files: the names of all pictures.
      path: of the table.
      columns: as in `read_labels`.
      kind: "class", "tags" or "words" (tags as jaxgan 0.1 read them). None: classes if every
        picture has exactly one label, else tags; a log's line says so.
      unlabeled: "refuse" pictures without a line, and without a class, or "drop" them.

    Raises:
      DataError: for what is refused, and what `read_labels` and `match_labels` refuse.
    """
    named = read_labels(path, columns, kind)
    counts = [len(words) for words in named.values()]
    if kind is None:
        kind = "class" if set(counts) <= {0, 1} and counts.count(0) < len(counts) / 2 else "tags"
        also = "tags" if kind == "class" else "class"
        _log.warning("%s is read as %s (label_kind=%s reads it otherwise)", path, kind, also)
    if kind == "class":
        several = next((file for file, words in named.items() if len(words) > 1), None)
        if several is not None:
            raise DataError(
                f"{path} gives {several!r} {len(named[several])} labels, "
                f"{some(named[several])}, and a picture has one class; try --label_kind=tags"
            )
        named = {file: words for file, words in named.items() if words}
    elif 0 in counts:
        _log.warning(
            "%d of %d pictures in %s have no tag; they are learned as such",
            *(counts.count(0), len(counts), path),
        )
    labels = match_labels("class" if kind == "class" else "tags", named, files, path)
    bare = [file for file in files if file not in labels.of]
    if bare and unlabeled == "refuse":
        raise DataError(
            f"{len(bare)} of {len(files)} pictures are not named in {path}, or without a class, "
            f"the first {bare[0]!r}; add a line for each, or leave them out by --unlabeled=drop"
        )
    if bare:
        _log.warning(
            "%d of %d pictures are not labeled in %s; left out", *(len(bare), len(files), path)
        )
    return labels


def match_labels(
    kind: str,
    named: Mapping[str, Sequence[str]],
    files: Sequence[str],
    source: Path,
    names: Sequence[str] | None = None,
) -> Labels:
    """The labels of those pictures that a file of labels names.

    Args:
      kind: "class" or "tags".
      named: the label names of each picture, which may be named without its common top folder, with
        that of all pictures, and, where that is unique, without its ending.
      files: the names of all pictures.
      source: the file of labels, for messages.
      names: all label names in their order; those that occur, sorted, if None.

    Raises:
      DataError: if one that is named is not among the pictures or is named twice, if a label is not
        among `names`, and if there are fewer than two label names.
    """
    full = _known_as(files)
    plain = dict(zip(named, _plain([*named], full), strict=True))
    missing = [name for name in named if plain[name] not in full]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(named)} files named in {source} are not among the pictures, "
            f"the first {missing[0]!r}; add them, take them out of it, or, if it is none, name the "
            f"column of files by --tags={source.name}:COLUMN"
        )
    by_file: dict = {}
    for name in named:
        before = by_file.setdefault(full[plain[name]], name)
        if before != name:
            raise DataError(f"{source} names {name!r} twice, as {before!r} too; keep one of them")
    if names is None:
        names = sorted(set(chain.from_iterable(named.values())))
    check_names(names, source)
    numbers = _numbers(named.values(), names, source)
    of = dict(zip(by_file, numbers, strict=True))
    return Labels(kind, tuple(names), of)


def _known_as(files: Sequence[str]) -> dict[str, str]:
    """The file of each name that it may go by: without its ending or the common top folder, too."""
    full: dict = {}
    stems = Counter(file.rpartition(".")[0] for file in files)
    for file, inside in zip(files, inside_names(files), strict=True):
        names = [file, inside]
        if stems[file.rpartition(".")[0]] == 1:
            names += [name.rpartition(".")[0] for name in names]
        full |= {name: file for name in names if name not in full}
    return full


def _plain(names: list[str], known: Mapping[str, str]) -> list[str]:
    """Names of files without the folders that all are in, so far as none is known with them."""
    while not any(name in known for name in names) and inside_names(names) != names:
        names = inside_names(names)
    return names


def check_names(names: Sequence[str], source: Path) -> None:
    """Raises `DataError` if there are fewer than two label names, or more than `_MOST_NAMES`."""
    if len(names) < 2:
        raise DataError(
            f"{source} has {'only the label ' + repr(*names) if names else 'no label'}; with "
            "fewer than two there is nothing to tell apart, so name two or more, or give no labels"
        )
    if len(names) > _MOST_NAMES:
        raise DataError(
            f"{source} has {len(names):,} labels, and at most {_MOST_NAMES:,} are learned; name "
            "the column of the labels by --tags=FILE:COLUMN"
        )


def inside_names(files: Sequence[str]) -> list[str]:
    """The names without the one folder at the top that an archive may have been packed with."""
    top = {file.split("/", 1)[0] for file in files}
    if len(top) == 1 and all("/" in file for file in files):
        return [file.split("/", 1)[1] for file in files]
    return list(files)


def load_conditions(path: str | Path, spec: DataSpec) -> np.ndarray:
    """The M conditions in a table, as label vectors `[M, K]` float32.

    Args:
      path: of a table of labels as `read_labels` takes it, whose files do not count and need not be
        there, such as a JSON list of lists of names, as i-CLEVR's `test.json` is.
      spec: of the data, for the label names.

    Raises:
      DataError: if the file is missing, empty or something else, for a name that the data do not
        have, and a line without a name or, with classes, with several.
    """
    require_labels(spec)
    conditions = read_conditions(Path(path), spec.label_names)
    for number, names in enumerate(conditions, 1):
        if not names or (spec.label_kind == "class" and len(names) > 1):
            raise DataError(
                f"{path}: condition {number} has {len(names)} labels, {some(names)!r}; "
                f"{'one class' if spec.label_kind == 'class' else 'one tag or more'} belong there"
            )
    return multi_hot(_numbers(conditions, spec.label_names, path), len(spec.label_names))


def parse_labels(text: str, spec: DataSpec) -> np.ndarray:
    """The M conditions in `text`, as label vectors `[M, K]` float32.

    Args:
      text: conditions separated by `;`, the tags of one by `,`: "red cube,blue sphere;gray
        cylinder". With classes each condition is one name: "3;7".
      spec: of the data, for the label names.

    Raises:
      DataError: for data without labels, an unknown name, and a condition without a name or, with
        classes, with several.
    """
    require_labels(spec)
    conditions = [part.strip() for part in text.split(";")]
    if "" in conditions:
        raise DataError(
            f"labels {text!r} have an empty condition; write names between the semicolons, such "
            f"as {';'.join(spec.label_names[:2])!r}"
        )
    if spec.label_kind == "tags":
        named = [[name.strip() for name in part.split(",")] for part in conditions]
    else:
        named = [[part] for part in conditions]
        for part in conditions:
            if part not in spec.label_names and "," in part:
                raise DataError(
                    f"{part!r} asks for several classes of data set {spec.name!r} at once and a "
                    "picture has exactly one; separate them with ';'"
                )
    numbers = _numbers(named, spec.label_names, f"labels {text!r}")
    return multi_hot(numbers, len(spec.label_names))


def conditions_to_show(dataset: Dataset, most: int) -> np.ndarray:
    """At most `most` conditions `[M, K]` float32 that a grid of samples shows.

    The data set's own first ones (8 at most), else its classes, else the tags of its first pictures
    without repetition (8 at most).
    """
    if dataset.conditions is not None:
        return dataset.conditions[: min(8, most)]
    if dataset.spec.label_kind == "class":
        return np.eye(len(dataset.spec.label_names), dtype=np.float32)[:most]
    _, first = np.unique(dataset.labels[:1000], axis=0, return_index=True)
    return np.array(dataset.labels[np.sort(first)[: min(8, most)]])


def _numbers(
    named: Iterable[Sequence[str]], names: Sequence[str], source: object
) -> list[tuple[int, ...]]:
    number = {name: i for i, name in enumerate(names)}
    for name in chain.from_iterable(named):
        if name not in number:
            raise DataError(f"{source}: {unknown('label', name, names)}")
    return [tuple(sorted({number[name] for name in some})) for some in named]
