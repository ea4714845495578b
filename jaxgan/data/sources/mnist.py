"""MNIST and Fashion-MNIST from their IDX files (LeCun's format), and StackedMNIST, made of MNIST.

StackedMNIST is three digits in the three colors of a picture, 1000 modes to be found: Metz et al.,
"Unrolled Generative Adversarial Networks", 2017, arXiv:1611.02163, section 3.3.1.
"""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np

from jaxgan import files
from jaxgan.data.cache import digest
from jaxgan.data.download import Remote, default_data_dir, fetch
from jaxgan.data.pictures import resize_all
from jaxgan.data.spec import Dataset, DataSpec, Request, one_hot
from jaxgan.errors import DataError

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_STACKED = {"train": 128_000, "holdout": 26_000}  # pictures, as in PacGAN (arXiv:1712.04086)
_PREFIX = {"train": "train", "holdout": "t10k"}
_MOST = 1 << 29  # bytes of a file, packed or not
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"

_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_MNIST_SHA256 = {
    f"train-{_IMAGES}": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    f"train-{_LABELS}": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    f"t10k-{_IMAGES}": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    f"t10k-{_LABELS}": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_FASHION_SHA256 = {
    f"train-{_IMAGES}": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    f"train-{_LABELS}": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    f"t10k-{_IMAGES}": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    f"t10k-{_LABELS}": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


def load_mnist(request: Request) -> Dataset:
    """MNIST: 60,000 digits and 10,000 held-out ones, `[N, 28, 28, 1]`, 10 classes.

    From the IDX files in `data_dir` or `data_dir/mnist`, downloaded if they are in neither.
    """
    return _load(request, _DIGITS, _MNIST, _MNIST_SHA256)


def load_fashion_mnist(request: Request) -> Dataset:
    """Fashion-MNIST: 60,000 clothes and 10,000 held-out ones, `[N, 28, 28, 1]`, 10 classes.

    From the IDX files in `data_dir` or `data_dir/fashion_mnist`, downloaded if they are in neither.
    """
    return _load(request, _CLOTHES, _FASHION, _FASHION_SHA256)


def load_stacked_mnist(request: Request) -> Dataset:
    """StackedMNIST: pictures `[N, 28, 28, 3]` of three of MNIST's digits each, without labels.

    `num_examples` of them, by default 128,000 and 26,000 held-out ones. Which digits make which
    picture depends on the seed and on the picture's number alone.
    """
    digits = load_mnist(request._replace(name="mnist"))
    count = request.num_examples or _STACKED[request.split]
    chosen = np.random.default_rng(request.seed).integers(len(digits), size=(count, 3))
    images = np.stack([digits.images[column, ..., 0] for column in chosen.T], -1)
    spec = digits.spec._replace(name=request.name, channels=3, label_kind=None, label_names=())
    return Dataset(spec, images, None, digest(digits.fingerprint, request.seed, count))


def read_idx(path: Path) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, packed with gzip or not.

    Raises:
      DataError: if the file is damaged.
    """
    try:
        data = files.content(path, _MOST)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(_MOST)
    except (OSError, EOFError, zlib.error, files.DamagedFile) as reason:
        raise DataError(f"{path} is damaged ({reason}); get it again") from reason
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise DataError(f"{path} is not an IDX file of unsigned bytes; get it again")
    header = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:header]) if len(data) >= header else (-1,)
    if len(data) - header != np.prod(shape):
        raise DataError(
            f"{path} is damaged: {len(data) - header} bytes for an array of {shape}; get it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _load(
    request: Request, names: tuple[str, ...], address: str, sha256: dict[str, str]
) -> Dataset:
    data_dir = request.data_dir or default_data_dir()
    prefix = _PREFIX[request.split]
    home = data_dir / request.name
    for folder in (data_dir, home):
        images = _find(folder, f"{prefix}-{_IMAGES}")
        labels = _find(folder, f"{prefix}-{_LABELS}")
        if images and labels:
            return _from_files(request, names, images, labels)
    packed = []
    for name in (f"{prefix}-{_IMAGES}", f"{prefix}-{_LABELS}"):
        packed.append(home / f"{name}.gz")
        remedy = (
            f"put the four IDX files of {request.name} into {home}, or name theirs by --data_dir"
        )
        fetch(Remote(f"{address}/{name}.gz", sha256[name]), packed[-1], remedy)
    return _from_files(request, names, *packed)


def _find(folder: Path, name: str) -> Path | None:
    # Some tools write a dot where the original names have a hyphen.
    for variant in (name, name.replace("-idx", ".idx")):
        for path in (folder / variant, folder / f"{variant}.gz"):
            if path.is_file():
                return path
    return None


def _from_files(
    request: Request, names: tuple[str, ...], images_path: Path, labels_path: Path
) -> Dataset:
    images, classes = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise DataError(f"{images_path} holds an array of {images.shape}, not square pictures")
    if classes.shape != images.shape[:1]:
        raise DataError(f"{labels_path} holds {classes.shape} labels for {len(images)} pictures")
    if classes.max(initial=0) >= len(names):
        raise DataError(f"{labels_path} holds a label {classes.max()}, allowed are 0 to 9")
    size = request.image_size or images.shape[1]
    fingerprint = digest(size, zlib.crc32(images.tobytes()), zlib.crc32(classes.tobytes()))
    images = resize_all(images[..., None], size, images_path)
    spec = DataSpec(request.name, size, 1, "class", names)
    return Dataset(spec, images, one_hot(classes, len(names)), fingerprint)
