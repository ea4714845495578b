"""Reads what `torch.save` wrote, without PyTorch.

Both of its formats are a pickle in which tensors are views of storages that lie beside it: since
2020 in a zip archive, before that one after the other in the same file. Nothing that the pickle
names is imported or called, and no more memory is taken than the file has bytes, so that one from
the network cannot do harm.
"""

from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxgan import files
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
    MemoryError,  # of a number of gigabytes that a few bytes ask for
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def read_state(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a saved `state_dict` by name, also if it is the entry "model" or
    "state_dict" of what was saved.

    Raises:
      UsageError: if the file is missing, damaged or holds something else.
    """
    try:
        with files.regular(path) as file:
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
    with files.open_zip(file) as archive:
        root = archive.namelist()[0].split("/")[0] + "/"
        reader = _Reader(io.BytesIO(files.read_member(archive, f"{root}data.pkl", size)), size)
        saved = reader.load()
        for key, storage in reader.storages.items():
            _fill(storage, files.read_member(archive, f"{root}data/{key}", storage.nbytes))
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


class _Reader(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Tensors become NumPy views of `storages`, which are to be filled; the rest is inert.

    It is the reader in Python and not that in C, since the latter makes a list as long as the
    largest number of a remembered object says, which may be billions.
    """

    # Without what makes room before it reads, and what looks up names elsewhere.
    dispatch = {
        code: step
        for code, step in pickle._Unpickler.dispatch.items()  # type: ignore[attr-defined]
        if bytes([code]) not in (pickle.BYTEARRAY8, pickle.EXT1, pickle.EXT2, pickle.EXT4)
    }

    def __init__(self, file: BinaryIO, size: int):
        super().__init__(file, encoding="utf-8")
        self.storages: dict = {}
        self._left = size

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
        if key not in self.storages:
            self._left -= length * dtype.itemsize
            if length < 0 or self._left < 0:
                raise ValueError("its storages are longer than the file")
            self.storages[key] = np.zeros(length, dtype)
        return self.storages[key]


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
