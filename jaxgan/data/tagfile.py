"""Files that say what is on the pictures: CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxgan.data.errors import DataError


def read_tags(path: Path) -> dict[str, list[str]]:
    """The tags of each file that `path` names.

    A .csv has lines `file,tag,tag,...`, with or without a first line that begins with `file`; cells
    may be empty. A .json is an object {file: [tag, ...]}, as i-CLEVR's. Raises `DataError` if the
    file is missing, empty or malformed, or names a picture twice.
    """
    match path.suffix.lower():
        case ".csv":
            rows = read_table(path)
            return _by_file(rows[1:] if rows[0][0].lower() == "file" else rows, path)
        case ".json":
            return _check_tags(read_json(path), path)
    raise DataError(f"{path} must end in .csv or .json to be a file of labels")


def read_column(path: Path, column: str) -> dict[str, list[str]]:
    """What the column named `column` of a CSV says of each file that the column `file` names.

    The first line has the columns' names. Files with nothing in that column are left out. Raises
    `DataError` as `read_tags` does, and if there are no such columns.
    """
    header, *rows = read_table(path)
    header = [name.lower() for name in header]
    for name in ("file", column):
        if name not in header:
            raise DataError(f"{path} has no column {name!r} but {', '.join(header)}; name one so")
    file, value = header.index("file"), header.index(column)
    for row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path} has {len(header)} columns and a line of {len(row)}, {','.join(row)!r}; "
                "mend it"
            )
    values = _by_file([[row[file], row[value]] for row in rows], path)
    return {name: cells for name, cells in values.items() if cells}


def read_table(path: Path) -> list[list[str]]:
    """The rows of a CSV file, at least one, without space around the cells and without blank lines.

    Raises `DataError` if the file is missing, empty or malformed.
    """
    lines = io.StringIO(_read_text(path), newline="")
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, strict=True)]
    except csv.Error as reason:
        raise DataError(f"{path} is not CSV ({reason}); mend it") from reason
    rows = [row for row in rows if any(row)]
    if not rows:
        raise _empty(path)
    return rows


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises `DataError` if it is missing, empty or malformed."""
    text = _read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_without_doubles)
    except ValueError as reason:
        raise DataError(f"{path} is not JSON ({reason}); mend it") from reason


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin theirs with a mark
    except OSError as reason:
        raise DataError(
            f"{path} cannot be read ({reason.strerror}); name a .csv or .json file"
        ) from reason
    except UnicodeDecodeError as reason:
        raise DataError(f"{path} is not text in UTF-8 ({reason}); save it as such") from reason
    if not text.strip():
        raise _empty(path)
    return text


def _empty(path: Path) -> DataError:
    return DataError(f"{path} is empty; write what is on each picture into it, or name another")


def _without_doubles(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice")
        found[key] = value
    return found


def _by_file(rows: list[list[str]], path: Path) -> dict[str, list[str]]:
    tags = {}
    for file, *cells in rows:
        if not file:
            raise DataError(f"{path} has a line without a file, {','.join(cells)!r}; name its file")
        if file in tags:
            raise DataError(f"{path} names {file!r} twice; keep one line for each picture")
        tags[file] = [cell for cell in cells if cell]
    return tags


def _check_tags(found: Any, path: Path) -> dict[str, list[str]]:
    if not isinstance(found, dict):
        raise DataError(
            f'{path} must be an object {{"file.png": ["tag", ...], ...}}, not '
            f"{json.dumps(found)[:40]}"
        )
    for file, tags in found.items():
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise DataError(
                f"{path} must give a list of names for {file!r}, not {json.dumps(tags)[:40]}"
            )
    return {file: [tag.strip() for tag in tags if tag.strip()] for file, tags in found.items()}
