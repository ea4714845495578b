"""What a checkpoint remembers of its arrays and files, to tell damage from another model.

A flipped byte in a stored array restores as a wrong number without any error, and a template of
another dtype is cast without a word; the records kept here make both visible.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgan import files
from jaxgan.core import PyTree, named_leaves

Arrays = dict[str, np.ndarray]  # "generator/params/Dense_0/kernel" -> array
Records = Mapping[str, Mapping[str, Any]]  # the same names -> {"crc", "dtype", "shape"}


class DamagedError(ValueError):
    """What was read is not what was written."""


def host_copy(tree: PyTree) -> Arrays:
    """Copies the leaves of a tree to the host, by name ("generator/params/Dense_0/kernel").

    The arrays own their memory: the tree may be donated as soon as this returns.

    Raises:
      TypeError: a leaf is not an array of numbers.
      ValueError: two leaves have the same name, as with the keys 0 and "0".
    """
    named = named_leaves(tree)
    for leaf in named.values():
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    return {name: _copy(name, leaf) for name, leaf in named.items()}


def record(arrays: Arrays) -> dict[str, dict[str, Any]]:
    """The checksum, dtype and shape of each array, ready for JSON."""
    return {
        name: {"crc": checksum(array), "dtype": str(array.dtype), "shape": list(array.shape)}
        for name, array in arrays.items()
    }


def verify(arrays: Arrays, records: Records) -> None:
    """Raises DamagedError unless the arrays are, bit for bit, those that were recorded."""
    found = record(arrays)
    for name in sorted(found.keys() | records.keys()):
        if found.get(name) != records.get(name):
            raise DamagedError(f"{name} is {found.get(name)} and was saved as {records.get(name)}")


def fit(template: PyTree, arrays: Arrays) -> PyTree:
    """Arranges arrays by name into the structure of the template; shapes and dtypes must agree.

    Raises:
      ValueError: a leaf is missing, left over, or of another shape or dtype; names the leaf and
        both values.
    """
    wanted = named_leaves(template)
    differences = [
        _difference(name, arrays.get(name), wanted.get(name))
        for name in [*wanted, *sorted(arrays.keys() - wanted.keys())]
        if _signature(arrays.get(name)) != _signature(wanted.get(name))
    ]
    if differences:
        more = len(differences) - 1
        raise ValueError(differences[0] + (f" (and {more} more leaves differ)" if more else ""))
    return jax.tree.unflatten(jax.tree.structure(template), [arrays[name] for name in wanted])


def file_checksums(directory: Path) -> dict[str, str]:
    """The checksum of every file below a directory, by relative path."""
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): _file_crc(path) for path in found}


def verify_files(directory: Path, checksums: Mapping[str, str]) -> None:
    """Raises DamagedError unless all these files are there and unchanged."""
    for name, crc in checksums.items():
        try:
            found = _file_crc(directory / name)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise DamagedError(f"{name} is missing") from error
        if found != crc:
            raise DamagedError(f"{name} is not what was written: checksum {found}, expected {crc}")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object together with its checksum, under the key "crc"."""
    path.write_text(json.dumps({**content, "crc": json_crc(content)}, indent=1))


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote; raises DamagedError if it is absent or changed."""
    try:
        content = files.parse_json(files.content(path))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise DamagedError(f"{path.name} is missing") from error
    except files.DamagedFile as error:
        raise DamagedError(f"{path.name} is not JSON: {error}") from error
    crc = content.pop("crc", None) if isinstance(content, dict) else None
    if crc is None or crc != json_crc(content):
        raise DamagedError(f"{path.name} does not match its checksum")
    return content


def _copy(name: str, leaf: Any) -> np.ndarray:
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
        raise TypeError(f"{name} is a typed random key; keep jax.random.key_data of it instead")
    # A view will not do: on a CPU it would show whatever a donated buffer is used for next.
    array = np.array(leaf, copy=True, order="C")
    if array.dtype.kind in "OSUM":
        raise TypeError(f"{name} is {leaf!r}; a checkpoint holds arrays of numbers only")
    return array


def checksum(array: np.ndarray) -> str:
    """The checksum of an array's bits."""
    return f"{zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data):08x}"


def _file_crc(path: Path) -> str:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return f"{crc:08x}"


def json_crc(content: Mapping[str, Any]) -> str:
    """The checksum of what JSON holds, however it is written."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _signature(leaf: Any) -> tuple[tuple[int, ...], str] | None:
    if leaf is None:
        return None
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return tuple(leaf.shape), str(leaf.dtype)


def _difference(name: str, stored: Any, wanted: Any) -> str:
    if wanted is None:
        return f"{name} is in the checkpoint and not in this model"
    if stored is None:
        return f"{name} is in this model and not in the checkpoint"
    (stored_shape, stored_dtype), (shape, dtype) = _signature(stored), _signature(wanted)
    if stored_shape != shape:
        return f"{name} is {stored_shape} in the checkpoint and {shape} in this model"
    return f"{name} is {stored_dtype} in the checkpoint and {dtype} in this model"
