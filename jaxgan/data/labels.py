"""Labels of pictures in files: the folders that they lie in, or what a file says of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgan.data.errors import DataError
from jaxgan.data.split import inside_names
from jaxgan.data.tagfile import read_tags


class Labels(NamedTuple):
    """kind: "class" or "tags"; names: the K labels; of: for a file, the numbers of its labels."""

    kind: str
    names: tuple[str, ...]
    of: Mapping[str, tuple[int, ...]]


# The labels of pictures with these names; a picture that is not in `of` is left out.
Labelling = Callable[[Sequence[str]], Labels]


def number_labels(kind: str, named: Mapping[str, Iterable[str]], names: Sequence[str]) -> Labels:
    """`Labels` from the label names of each file, all of them in `names`."""
    number = {name: i for i, name in enumerate(names)}
    of = {file: tuple(sorted({number[name] for name in some})) for file, some in named.items()}
    return Labels(kind, tuple(names), of)


def label_vectors(labels: Labels, files: Sequence[str]) -> np.ndarray:
    """`[N, K]` float32 for N files: one-hot for classes, multi-hot for tags."""
    vectors = np.zeros((len(files), len(labels.names)), np.float32)
    for vector, file in zip(vectors, files, strict=True):
        vector[list(labels.of[file])] = 1
    return vectors


def label_by_folder(files: Sequence[str], folders: Iterable[str], root: Path) -> Labels:
    """The folders at the top as classes, sorted; inside the common one if all is in one folder.

    Raises `DataError` if there are fewer than two, if one holds no picture, and if a picture lies
    in none.
    """
    tops = {folder.split("/", 1)[0] for folder in folders}
    if len(tops) == 1 and all("/" in file for file in files):
        inside = {file: file.split("/", 1)[1] for file in files}
        tops = {folder.split("/", 2)[1] for folder in folders if "/" in folder}
    else:
        inside = {file: file for file in files}
    if len(tops) < 2:
        raise DataError(
            f"labels='folders' needs a folder for each class in {root}, two or more, and there is "
            f"{'only ' + repr(*tops) if tops else 'none'}; sort the pictures into folders"
        )
    outside = [file for file in files if "/" not in inside[file]]
    if outside:
        raise DataError(
            f"{len(outside)} of {len(files)} pictures in {root} lie in no class's folder, the "
            f"first {outside[0]!r}; move them into one, or away"
        )
    named = {file: [name.split("/", 1)[0]] for file, name in inside.items()}
    empty = sorted(tops - {name for (name,) in named.values()})
    if empty:
        raise DataError(
            f"{len(empty)} of {len(tops)} class folders in {root} hold no picture, the first "
            f"{empty[0]!r}; remove them or fill them"
        )
    return number_labels("class", named, sorted(tops))


def label_by_file(path: Path, files: Sequence[str]) -> Labels:
    """Tags, sorted, from a file that `read_tags` reads.

    Raises `DataError` for fewer than two tags, a picture that the file does not name, and what
    `read_tags` and `match_files` refuse.
    """
    named = match_files(read_tags(path), files, path)
    bare = [file for file in files if file not in named]
    if bare:
        raise DataError(
            f"{len(bare)} of {len(files)} pictures are not named in {path}, the first {bare[0]!r}; "
            "add a line for each, or move them away"
        )
    names = sorted(set().union(*named.values()))
    check_names(names, path)
    return number_labels("tags", named, names)


def match_files(
    named: Mapping[str, list[str]], files: Sequence[str], source: Path
) -> dict[str, list[str]]:
    """`named` by the pictures' full names, for names with or without their common top folder.

    Raises `DataError` for names that are no picture's, and for two of the same picture.
    """
    full = dict(zip(inside_names(files), files, strict=True)) | {file: file for file in files}
    missing = [name for name in named if name not in full]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(named)} files named in {source} are not among the pictures, "
            f"the first {missing[0]!r}; add them, or take them out of it"
        )
    twice = [name for name in named if full[name] != name and full[name] in named]
    if twice:
        raise DataError(
            f"{source} names {twice[0]!r} twice, as {full[twice[0]]!r} too; keep one of them"
        )
    return {full[name]: tags for name, tags in named.items()}


def check_names(names: Sequence[str], source: Path) -> None:
    """Raises `DataError` if there are fewer than two label names."""
    if len(names) < 2:
        raise DataError(
            f"{source} has {'only the label ' + repr(*names) if names else 'no label'}; with "
            "fewer than two there is nothing to tell apart, so name two or more, or give no labels"
        )
