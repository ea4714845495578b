"""Networks as PyTorch stores them, with made-up weights, written without PyTorch."""

import zipfile
import zlib

import numpy as np

STORAGES = {"float32": "FloatStorage", "int64": "LongStorage"}


def made_up(shapes):
    """Weights {name: array} of {name: shape} under which every part of a network shows in its
    output: none vanishes or explodes."""
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name, shape):
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    low, high = -0.3, 0.3
    if name.endswith("running_var"):
        low, high = 0.005, 0.02  # near the epsilon, so that another epsilon shows
    elif name.endswith("weight") and len(shape) == 1:
        low, high = 0.05, 0.15
    elif name.endswith("weight"):
        high = (6 / np.prod(shape[1:])) ** 0.5
        low = -high
    elif name.endswith("bias"):
        high = 0.5
    random = np.random.RandomState(zlib.crc32(name.encode()))  # whose numbers never change
    return random.uniform(low, high, shape).astype(np.float32)


def described(state):
    """The shapes of a `state_dict` as arrays: names [n], and sides [n, 4] of which -1 is none."""
    sides = [[*tensor.shape, *[-1] * (4 - tensor.ndim)] for tensor in state.values()]
    return {"names": np.array([*state]), "sides": np.array(sides, np.int16)}


def shapes(names, sides):
    """What `described` describes, as {name: shape}."""
    return {
        str(name): tuple(int(n) for n in row if n >= 0)
        for name, row in zip(names, sides, strict=True)
    }


def save(path, state, entry=None):
    """Writes arrays {name: array} as torch.save does, or a mapping that has them as an entry."""
    pickled = _mapping({name: _tensor(str(i), x) for i, (name, x) in enumerate(state.items())})
    if entry is not None:
        pickled = _mapping({entry: pickled})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + pickled + b".")
        for i, array in enumerate(state.values()):
            archive.writestr(f"x/data/{i}", np.ascontiguousarray(array).tobytes())


def _mapping(items):
    return b"}(" + b"".join(_text(name) + item for name, item in items.items()) + b"u"


def _tensor(key, array):
    storage = f"ctorch\n{STORAGES[array.dtype.name]}\n".encode()
    strides = [stride // array.itemsize for stride in np.ascontiguousarray(array).strides]
    view = [
        _tuple(_text("storage"), storage, _text(key), _text("cpu"), _int(array.size)) + b"Q",
        _int(0),
        _tuple(*map(_int, array.shape)),
        _tuple(*map(_int, strides[: array.ndim])),
        b"\x89",
        b"}",
    ]
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + _tuple(*view) + b"R"


def _tuple(*items):
    return b"(" + b"".join(items) + b"t"


def _text(text):
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def _int(number):
    return b"J" + number.to_bytes(4, "little")
