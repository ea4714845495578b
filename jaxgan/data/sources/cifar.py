"""CIFAR-10 from its binary archive (Krizhevsky, "Learning multiple layers of features from tiny
images", 2009)."""

import tarfile
import zlib
from pathlib import Path

import numpy as np

from jaxgan import files
from jaxgan.data.cache import digest
from jaxgan.data.download import Remote, default_data_dir, fetch
from jaxgan.data.pictures import resize_all
from jaxgan.data.spec import Dataset, DataSpec, Request, one_hot
from jaxgan.errors import DataError

_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_FOLDER, _ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
_REMOTE = Remote(
    f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
_FILES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "holdout": ("test_batch.bin",),
}
_MOST = 1 << 26  # bytes of a file
_RECORD = 1 + 3 * 32 * 32


def load_cifar10(request: Request) -> Dataset:
    """CIFAR-10: 50,000 pictures and 10,000 held-out ones, `[N, 32, 32, 3]`, 10 classes.

    From `cifar-10-binary.tar.gz`, or the folder `cifar-10-batches-bin` that is in it, in `data_dir`
    or `data_dir/cifar10`; downloaded if they are in neither.

    Raises:
      DataError: if the files are damaged or cannot be downloaded.
    """
    data = _read(request.data_dir or default_data_dir(), _FILES[request.split])
    records = np.frombuffer(data, np.uint8)
    if not records.size or records.size % _RECORD or records[::_RECORD].max() > 9:
        raise DataError(
            f"the files {', '.join(_FILES[request.split])} of CIFAR-10 are damaged: {len(data)} "
            f"bytes are not records of {_RECORD} that begin with a class; get {_ARCHIVE} again"
        )
    records = records.reshape(-1, _RECORD)
    size = request.image_size or 32
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    images = resize_all(np.ascontiguousarray(images), size, "CIFAR-10")
    spec = DataSpec(request.name, size, 3, "class", _CLASSES)
    return Dataset(spec, images, one_hot(records[:, 0], 10), digest(size, zlib.crc32(data)))


def _read(data_dir: Path, names: tuple[str, ...]) -> bytes:
    home = data_dir / "cifar10"
    for place in (data_dir, home):
        if (place / _FOLDER).is_dir():
            return _read_folder(place / _FOLDER, names)
        if (place / _ARCHIVE).is_file():
            return _read_archive(place / _ARCHIVE, names)
    fetch(_REMOTE, home / _ARCHIVE, f"put {_ARCHIVE} into {home}, or name its folder by --data_dir")
    return _read_archive(home / _ARCHIVE, names)


def _read_folder(folder: Path, names: tuple[str, ...]) -> bytes:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}; unpack {_ARCHIVE} again")
    try:
        return b"".join(files.content(folder / name, _MOST) for name in names)
    except (OSError, files.DamagedFile) as reason:
        raise DataError(f"{folder} is damaged ({reason}); unpack {_ARCHIVE} again") from reason


def _read_archive(path: Path, names: tuple[str, ...]) -> bytes:
    try:
        with tarfile.open(path) as archive:
            members = [archive.getmember(f"{_FOLDER}/{name}") for name in names]
            if not all(member.isreg() and member.size <= _MOST for member in members):
                raise KeyError("other files than CIFAR-10's")
            return b"".join(archive.extractfile(member).read() for member in members)
    except (tarfile.TarError, EOFError, KeyError, ValueError, zlib.error, OSError) as reason:
        raise DataError(f"{path} is damaged ({reason}); get it again") from reason
