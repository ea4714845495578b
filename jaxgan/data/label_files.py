"""Tables of labels in the forms that people have: CSV and its kin, JSON, JSON lines."""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxgan import files
from jaxgan.data.pictures import looks_like_picture
from jaxgan.errors import DataError, some

ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl")
FILE_COLUMNS = (
    *("file", "filename", "file_name", "filepath", "file_path", "path"),
    *("image", "image_file", "image_name", "image_path", "image_id", "img", "picture", "id"),
)
"""What the column of files is usually called, in small letters."""

_FALSE = {"", "0", "-1", "0.0", "-1.0", "false", "no"}
_TRUE = {"1", "1.0", "true", "yes"}
_PARTS = {None: "[;|]", "tags": "[;|,]"}  # what separates the words in a cell, by the kind


Cell = str | list[str]  # a list where the file has one


class _Rows(NamedTuple):
    header: list[str] | None
    cells: Sequence[Sequence[Cell]]


def read_labels(
    path: Path, columns: Sequence[str] = (), kind: str | None = None
) -> dict[str, list[str]]:
    """The label names of each picture that a table names.

    A table is CSV, with commas, tabs or semicolons, and a first line that names the columns or
    without; JSON, an object {file: labels} or a list of objects or of [file, label, ...]; or JSON
    lines. Cells may be empty. Where several columns hold nothing but truth values (1 and 0 or -1,
    true and false), a label is such a column's name. Where columns share words it is
    "column: word", unless the columns' names differ in a number alone (tag1, tag2).

    Args:
      path: of the table.
      columns: that of the files, if it has none of the usual names, and then those of the labels;
        all others if there are none.
      kind: "class" takes a cell as one word, "tags" parts it at commas, semicolons and bars, None
        at the latter two. "words" takes it as one, in whichever column it is, as jaxgan 0.1 did.

    Raises:
      DataError: if the file is missing, empty or malformed, lacks a column, or has a line without a
        picture or a picture twice.
    """
    rows = _read_rows(path, columns)
    file, chosen = _columns(rows, columns, path)
    if file is None:
        raise DataError(
            f"{path} has no column of files, such as 'file', but {some(rows.header)}; name it "
            f"by --tags={path.name}:COLUMN"
        )
    labels = {}
    for row, words in zip(rows.cells, _words(rows, chosen, kind), strict=True):
        name = row[file]
        if not isinstance(name, str) or not name:
            raise DataError(f"{path} has a line without a file, {_text(row[1:])!r}; name its file")
        if name in labels:
            raise DataError(f"{path} names {name!r} twice; keep one line for each picture")
        labels[name] = words
    return labels


def read_conditions(path: Path, names: Iterable[str]) -> list[list[str]]:
    """The label names in each line of a table, in which a column of files may be missing.

    Args:
      path: of a table as `read_labels` takes it.
      names: all label names, which decide between "word", "column" and "column: word".

    Raises:
      DataError: if the file is missing, empty or malformed.
    """
    names, rows = set(names), _read_rows(path)
    chosen = range(max(map(len, rows.cells)))
    first = rows.cells[0][0] if rows.cells[0] else ""
    if rows.header or (isinstance(first, str) and looks_like_picture(first)):
        _, chosen = _columns(rows, (), path)

    def name(i: int, word: str) -> str:
        if not rows.header:
            return word
        told = rows.header[i] if word.lower() in _TRUE else f"{_column(rows.header[i])}: {word}"
        return told if told in names else word

    return [
        [
            name(i, word)
            for i in chosen
            if i < len(row)
            for word in _split(row[i], None)
            if word in names or word.lower() not in _FALSE
        ]
        for row in rows.cells
    ]


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      DataError: if it is missing, empty or malformed, or has a key twice.
    """
    return _parse_json(_read_text(path), path)


def _parse_json(text: str, path: Path) -> Any:
    try:
        return files.parse_json(text, object_pairs_hook=_without_doubles)
    except files.DamagedFile as reason:
        raise DataError(f"{path} is not JSON ({reason}); fix it") from reason


def name_words(
    header: Sequence[str], cells: Sequence[Sequence[Cell]], kind: str | None
) -> list[list[str]]:
    """The label names in rows of cells whose columns have names, as `read_labels` gives them."""
    return _words(_Rows([*header], [[*row] for row in cells]), range(len(header)), kind)


def _words(rows: _Rows, chosen: Sequence[int], kind: str | None) -> list[list[str]]:
    """The label names in each row."""
    if kind == "words" or not rows.header:
        kind = "class" if kind == "words" else kind
        return [
            [w for i in chosen if i < len(row) for w in _split(row[i], kind)] for row in rows.cells
        ]
    groups = {i: _column(rows.header[i]) for i in chosen}
    found = {
        i: [_split(row[i], kind) if i < len(row) else [] for row in rows.cells] for i in chosen
    }
    vocabulary = {i: {word for words in found[i] for word in words} for i in chosen}
    owners = defaultdict(set)
    for i in chosen:
        if (
            len(chosen) > 1
            and vocabulary[i]
            and {w.lower() for w in vocabulary[i]} <= _TRUE | _FALSE
        ):
            name = rows.header[i]
            found[i] = [[name for w in words if w.lower() in _TRUE] for words in found[i]]
            groups[i] = ""
        else:
            for word in vocabulary[i]:
                owners[word].add(groups[i])
    shared = set().union(*(who for who in owners.values() if len(who) > 1))
    return [
        [f"{groups[i]}: {w}" if groups[i] in shared else w for i in chosen for w in found[i][row]]
        for row in range(len(rows.cells))
    ]


def _column(name: str) -> str:
    """A column's name, without a number at its end."""
    return re.sub(r"[\s_-]*\d+$", "", name) or name


def _split(cell: Cell, kind: str | None) -> list[str]:
    words = cell if isinstance(cell, list) else [cell]
    if kind in _PARTS:
        words = [part for word in words for part in re.split(_PARTS[kind], word)]
    return [word.strip() for word in words if word.strip()]


def _columns(rows: _Rows, named: Sequence[str], path: Path) -> tuple[int | None, list[int]]:
    """The numbers of the column of files and of those of the labels."""
    if not rows.header:
        if named:
            raise DataError(f"{path} has no line that names its columns, among them {named[0]!r}")
        return 0, [*range(1, max(map(len, rows.cells)))]
    header = [name.lower() for name in rows.header]
    for name in named:
        if name.lower() not in header:
            raise DataError(f"{path} has no column {name!r} but {some(rows.header)}; name one so")
    numbers = [header.index(name.lower()) for name in named]
    usual = next((header.index(name) for name in FILE_COLUMNS if name in header), None)
    if numbers and (usual is None or header[numbers[0]] in FILE_COLUMNS):
        usual, *numbers = numbers
    for row in rows.cells:
        if numbers and len(row) != len(header):
            raise DataError(
                f"{path} has {len(header)} columns and a line of {len(row)}, {_text(row)!r}; fix it"
            )
    return usual, numbers or [i for i in range(len(header)) if i != usual]


def _read_rows(path: Path, named: Sequence[str] = ()) -> _Rows:
    """At least one row, in which every column that the header lacks belongs to its last."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DataError(f"{path} must end in {', '.join(ENDINGS)} to be a table of labels")
    text = _read_text(path)
    if ending == ".json":
        rows = _from_json(_parse_json(text, path), path)
    elif ending == ".jsonl":
        lines = [line for line in text.splitlines() if line.strip()]
        rows = _from_json([_parse_json(line, path) for line in lines], path)
    else:
        rows = _from_csv(text, named, path)
    if not rows.cells:
        raise _empty(path)
    return rows


def _from_csv(text: str, named: Sequence[str], path: Path) -> _Rows:
    """Without space around the cells, and without blank lines."""
    # The first of these outside quotes; a name of a file with another one in it is in quotes.
    separator = re.search("[,;\t]", re.sub('"[^"]*"', "", text.lstrip().split("\n", 1)[0]))
    lines = csv.reader(
        io.StringIO(text, newline=""), strict=True, delimiter=separator[0] if separator else ","
    )
    try:
        rows = [[cell.strip() for cell in row] for row in lines]
    except csv.Error as reason:
        raise DataError(f"{path} is not CSV ({reason}); fix it") from reason
    rows = [row for row in rows if any(row)]
    if not rows:
        raise _empty(path)
    header = rows[0] if not any(map(looks_like_picture, rows[0])) else []
    known = {*FILE_COLUMNS, *map(str.lower, named)}
    if not any(name.lower() in known for name in header):
        return _Rows(None, rows)
    last = len(header) - 1
    more: list[Sequence[Cell]] = [
        [*row[:last], row[last:]] if len(row) > len(header) else row for row in rows[1:]
    ]
    return _Rows(header, more)


def _from_json(found: Any, path: Path) -> _Rows:
    if isinstance(found, dict) and [*found] == ["labels"] and isinstance(found["labels"], list):
        found = found["labels"]  # StyleGAN's dataset.json
    if isinstance(found, dict):
        if any(isinstance(value, dict) for value in found.values()):
            found = [{"file": file, **_record(value, path)} for file, value in found.items()]
        else:
            return _Rows(None, [[file, _cell(value, path, file)] for file, value in found.items()])
    if isinstance(found, list) and found and all(isinstance(one, list) for one in found):
        return _Rows(None, [[_cell(value, path, "a picture") for value in one] for one in found])
    if not isinstance(found, list):
        raise _no_table(found, path)
    header = [*dict.fromkeys(key for record in found for key in _record(record, path))]
    return _Rows(
        header, [[_cell(one.get(key), path, f"{key!r}") for key in header] for one in found]
    )


def _record(found: Any, path: Path) -> dict:
    if not isinstance(found, dict):
        raise _no_table(found, path)
    return found


def _no_table(found: Any, path: Path) -> DataError:
    return DataError(
        f'{path} must be an object {{"file.png": ["label", ...], ...}} or a list of objects '
        f'{{"file": "file.png", ...}}, not {json.dumps(found)[:40]}'
    )


def _cell(value: Any, path: Path, what: str) -> Cell:
    if value is None:
        return ""
    if isinstance(value, bool | int | str):
        return str(value).strip()
    if not isinstance(value, list) or not all(type(one) in (int, str) for one in value):
        raise DataError(
            f"{path} must give a name or a list of names for {what}, not {json.dumps(value)[:40]}"
        )
    return [str(one) for one in value]


def _read_text(path: Path) -> str:
    try:
        text = files.content(path).decode("utf-8-sig")  # spreadsheets begin theirs with a mark
    except files.DamagedFile as reason:
        raise DataError(f"{path} is too large ({reason}); name a table of labels") from reason
    except OSError as reason:
        raise DataError(
            f"{path} cannot be read ({reason.strerror}); name a table of labels"
        ) from reason
    except UnicodeDecodeError as reason:
        raise DataError(f"{path} is not text in UTF-8 ({reason}); save it as such") from reason
    if not text.strip():
        raise _empty(path)
    return text


def _text(row: Sequence[Cell]) -> str:
    return some((cell if isinstance(cell, str) else "|".join(cell) for cell in row), 8)


def _empty(path: Path) -> DataError:
    return DataError(f"{path} is empty; write what is on each picture into it, or name another")


def _without_doubles(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice")
        found[key] = value
    return found
