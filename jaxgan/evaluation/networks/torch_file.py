"""Reads what `torch.save` wrote, without PyTorch.

Both of its formats are a pickle in which tensors are views of storages that lie beside it: since
2020 in a zip archive, before that one after the other in the same file. Nothing that the pickle
names is imported or called, so that a file from the network cannot do harm.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from jaxgan.errors import UsageError

_MAGIC = 0x1950A86A20F9469CFC6C  # with which the older format begins
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What reading a damaged pickle or archive ends in.
_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)


def read_state(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a saved `state_dict` by name, also if it is the entry "model" or
    "state_dict" of what was saved.

    Raises:
      UsageError: if the file is missing, damaged or holds something else.
    """
    try:
        with open(path, "rb") as file:
            saved = _read(file)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a .pth file") from error
    except _DAMAGE as error:
        raise UsageError(
            f"{path} is damaged, or was not written by torch.save ({error}); download it again"
        ) from error
    for entry in ("model", "state_dict"):
        if isinstance(saved, Mapping) and isinstance(saved.get(entry), Mapping):
            saved = saved[entry]
    state = saved if isinstance(saved, Mapping) else {}
    state = {name: array for name, array in state.items() if isinstance(array, np.ndarray)}
    if not state:
        raise UsageError(
            f"{path} holds no state_dict; write it by torch.save(network.state_dict(), path)"
        )
    return state


def _read(file: BinaryIO) -> Any:
    size = file.seek(0, 2)
    file.seek(0)
    if zipfile.is_zipfile(file):
        return _read_archive(file, size)
    file.seek(0)
    return _read_sequence(file, size)


def _read_archive(file: BinaryIO, size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        root = archive.namelist()[0].split("/")[0] + "/"
        with archive.open(f"{root}data.pkl") as pickled:
            reader = _Reader(cast(BinaryIO, pickled), size)
            saved = reader.load()
        for key, storage in reader.storages.items():
            _fill(storage, archive.read(f"{root}data/{key}"))
    return saved


def _read_sequence(file: BinaryIO, size: int) -> Any:
    if _Reader(file, size).load() != _MAGIC:
        raise ValueError("it does not begin as such files do")
    for _ in ("protocol", "system"):
        _Reader(file, size).load()
    reader = _Reader(file, size)
    saved = reader.load()
    for key in _Reader(file, size).load():
        storage = reader.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.size:
            raise ValueError("a storage is not as long as it should be")
        _fill(storage, file.read(storage.nbytes))
    return saved


def _fill(storage: np.ndarray, content: bytes) -> None:
    if len(content) != storage.nbytes:
        raise EOFError("it ends too early")
    storage[...] = np.frombuffer(content, storage.dtype)


class _Reader(pickle.Unpickler):
    """Tensors become NumPy views of `storages`, which are to be filled; the rest is inert."""

    def __init__(self, file: BinaryIO, size: int):
        super().__init__(file, encoding="utf-8")
        self.storages: dict = {}
        self._size = size

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        return _KNOWN.get((module, name), _Foreign)

    def persistent_load(self, reference: tuple) -> np.ndarray:
        _, dtype, key, _, length, *view = reference
        if view and view[0] is not None:
            raise ValueError("it holds views of storages, as PyTorch wrote them long ago")
        if not isinstance(dtype, np.dtype):
            raise ValueError("it holds numbers of a kind that NumPy has not")
        if not 0 <= length * dtype.itemsize <= self._size:
            raise ValueError("a storage is longer than the file")
        return self.storages.setdefault(key, np.zeros(length, dtype))


class _Foreign:
    """Stands for any object that is not a tensor."""

    def __init__(self, *_):
        pass

    def __setstate__(self, _):
        pass

    def __setitem__(self, *_):
        pass

    def append(self, _):
        pass


def _tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_) -> np.ndarray:
    width = storage.itemsize
    steps = [width * step for step in stride]
    # NumPy checks that the view lies within its storage.
    return np.ndarray(size, storage.dtype, storage, width * offset, steps)


def _parameter(data: np.ndarray, *_) -> np.ndarray:
    return data


_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
