"""Flags from files: recipes by their name, and flagfiles that name others beside them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

import jaxgan
from jaxgan.errors import UsageError, unknown

_PACKAGE = pathlib.Path(jaxgan.__file__).parent
_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent / "experiments" / "recipes")
"""Where an installed package has its recipes, and a checkout."""


def recipes() -> dict[str, pathlib.Path]:
    """Returns the file of each recipe."""
    files = (path for folder in _FOLDERS for path in sorted(folder.glob("*.cfg")))
    return {path.stem: path for path in files}


def expanded(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of a command with the lines of a file in place of each that names one.

    `--recipe=NAME` is a recipe of the library, `--flagfile=PATH` any file. A file has a flag a
    line; lines that begin with # are comments. It may name others, relative to its own folder.

    Raises:
      UsageError: if there is no such recipe or file, or a file leads back to itself.
    """
    return [*_expanded(list(arguments), pathlib.Path(), ())]


def _expanded(
    arguments: list[str], folder: pathlib.Path, within: tuple[pathlib.Path, ...]
) -> Iterator[str]:
    while arguments:
        argument = arguments.pop(0)
        name, equals, value = argument.partition("=")
        if name.lstrip("-") not in ("recipe", "flagfile") or not name.startswith("-"):
            yield argument
            if argument == "--":
                yield from arguments
                return
            continue
        if not equals:
            if not arguments:
                raise UsageError(f"{name} needs a value: {name}=...")
            value = arguments.pop(0)
        path = _recipe(value) if name.endswith("recipe") else _file(value, folder)
        if path.resolve() in within:
            raise UsageError(f"{path} names itself, directly or through another flagfile")
        lines = (line.strip() for line in path.read_text().splitlines())
        flags = [line for line in lines if line and not line.startswith(("#", "//"))]
        yield from _expanded(flags, path.parent, (*within, path.resolve()))


def _recipe(name):
    found = recipes()
    if name not in found:
        raise unknown("recipe", name, found)
    return found[name]


def _file(name, folder):
    path = pathlib.Path(name).expanduser()
    # A path from where the command was started is found, too.
    for candidate in (folder / path, path):
        if candidate.is_file():
            return candidate
    raise UsageError(f"--flagfile={name}: there is no such file; --recipe=NAME names a recipe")
