"""Replaces fields of a frozen configuration by text, as in `--set width=32`."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from jaxgan.errors import UsageError, unknown

T = TypeVar("T", bound=Any)
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_LEAST = {int: 1, float: 0}


def override(config: T, assignments: Iterable[str]) -> T:
    """Returns the dataclass instance with `field=value` assignments, parsed by the fields' types.

    Types may be int, float, bool, str and homogeneous tuples of them (`widths=64,32`), each or None
    (`discriminator_width=none`). In a Config an integer is a size or a count, at least 1, and a
    float is finite and not negative.

    Raises:
      UsageError: for an unknown field or a value that is not of the field's type.
    """
    kinds = typing.get_type_hints(type(config))
    fields = [field.name for field in dataclasses.fields(config)]
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment!r} must look like field=value")
        model = type(config).__module__.rsplit(".", 1)[-1]
        if name == "conditional" and name not in fields and hasattr(config, name):
            always = "always" if config.conditional else "never"
            raise UsageError(f"--set {assignment!r}: {model} is {always} conditional; leave it out")
        if name not in fields:
            raise unknown(f"field of {model}", name, fields)
        try:
            values[name] = _parse(kinds[name], text)
        except (ValueError, KeyError):
            raise UsageError(
                f"--set {assignment!r}: {name} must be {_describe(kinds[name])}, for example "
                f"{name}={_show(getattr(config, name))}"
            ) from None
    return dataclasses.replace(config, **values)


def _parse(kind: Any, text: str) -> Any:
    if isinstance(kind, types.UnionType):
        return None if text.lower() == "none" else _parse(typing.get_args(kind)[0], text)
    if typing.get_origin(kind) is tuple:
        return tuple(_parse(typing.get_args(kind)[0], part) for part in text.split(",") if part)
    value = _TRUTH[text.lower()] if kind is bool else kind(text)
    if kind in _LEAST and not _LEAST[kind] <= value < math.inf:
        raise ValueError
    return value


def _describe(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return f"{_describe(typing.get_args(kind)[0])}, or none"
    if typing.get_origin(kind) is tuple:
        return f"a list, each {_describe(typing.get_args(kind)[0])}"
    return {
        int: "an integer of at least 1",
        float: "a number of at least 0",
        bool: "true or false",
        str: "a text",
    }[kind]


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
