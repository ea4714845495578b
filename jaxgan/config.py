"""Replaces fields of a frozen configuration by text, as in `--set width=32`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from jaxgan.errors import UsageError, unknown

T = TypeVar("T")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def override(config: T, assignments: Iterable[str]) -> T:
    """Returns the dataclass instance with `field=value` assignments, parsed by the fields' types.

    Types may be int, float, bool, str and homogeneous tuples of them (`widths=64,32`).

    Raises:
      UsageError: for an unknown field or a value that is not of the field's type.
    """
    types = typing.get_type_hints(type(config))
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment!r} must look like field=value")
        if name not in types:
            raise unknown("field", name, types)
        try:
            values[name] = _parse(types[name], text)
        except (ValueError, KeyError):
            kind = getattr(types[name], "__name__", str(types[name]))
            kind = str(types[name]) if typing.get_args(types[name]) else kind
            raise UsageError(
                f"--set {assignment!r}: {name} must be {kind}, for example "
                f"{name}={_show(getattr(config, name))}"
            ) from None
    return dataclasses.replace(config, **values)


def _parse(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is tuple:
        return tuple(_parse(typing.get_args(kind)[0], part) for part in text.split(",") if part)
    return _TRUTH[text.lower()] if kind is bool else kind(text)


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
