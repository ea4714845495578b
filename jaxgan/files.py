"""Files that are written whole or not at all, and JSON lines that a kill may have torn."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import IO

from absl import logging


@contextlib.contextmanager
def whole(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO]:
    """Opens a file for writing that takes its name when the block ends.

    Until then, and if the block fails, whatever had that name stays as it was.

    Args:
      path: of the file; its folder must exist.
      mode: "w" for text in UTF-8, "wb" for bytes.

    Raises:
      OSError: if the folder cannot be written, or the disk is full.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def user_cache() -> pathlib.Path:
    """Returns the folder of this library in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "jaxgan"


def read_json_lines(path: str | os.PathLike[str]) -> list[dict]:
    """Returns the objects in a file of JSON lines, none if there is no such file.

    A last line torn by a kill is left out; another damaged one, too, with a warning.
    """
    path = pathlib.Path(path)
    lines = path.read_text().splitlines() if path.exists() else []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                logging.warning("%s, line %d is not JSON: left out", path, number)
    return records
