"""Data sets of known files, and what `load` refuses."""

import gzip
import os
import struct
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from jaxgan.data import DATASETS, DataError, default_data_dir, load, require_labels
from jaxgan.data.download import Remote, fetch
from jaxgan.data.sources.mnist import read_idx


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder, pack=gzip.compress, ending=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in [("train", 7), ("t10k", 3)]:
        arrays[part] = rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count) % 10
        for array, name in zip(arrays[part], ("images-idx3", "labels-idx1"), strict=True):
            path = folder / f"{part}-{name}-ubyte{ending}"
            path.write_bytes(pack(idx_bytes(array.astype(np.uint8))))
    return arrays


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("place", ["", "{}"])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_files(tmp_path, name, place, packed):
    how = (gzip.compress, ".gz") if packed else (bytes, "")
    arrays = write_mnist(tmp_path / place.format(name), *how)
    for split, part in [("train", "train"), ("holdout", "t10k")]:
        dataset = load(name, data_dir=tmp_path, split=split)
        np.testing.assert_array_equal(dataset.images[..., 0], arrays[part][0])
        np.testing.assert_array_equal(dataset.labels.argmax(1), arrays[part][1])
        np.testing.assert_array_equal(dataset.labels.sum(1), 1)
        assert dataset.labels.dtype == np.float32
        assert dataset.spec[:4] == (name, 28, 1, "class") and len(dataset.spec.label_names) == 10


def test_packed_and_plain_files_are_the_same_data(tmp_path):
    write_mnist(tmp_path / "packed")
    write_mnist(tmp_path / "plain", bytes, "")
    prints = [load("mnist", data_dir=tmp_path / name).fingerprint for name in ("packed", "plain")]
    assert prints[0] == prints[1]
    other = load("mnist", data_dir=tmp_path / "plain", split="holdout")
    assert other.fingerprint != prints[0]


def test_stacked_mnist_puts_three_digits_into_the_colors(tmp_path):
    digits = write_mnist(tmp_path / "mnist")["train"][0]
    stacked = load("stacked_mnist", data_dir=tmp_path, num_examples=20)
    assert stacked.images.shape == (20, 28, 28, 3) and stacked.labels is None
    assert stacked.spec[:3] == ("stacked_mnist", 28, 3)
    known = {digit.tobytes() for digit in digits}
    for digit in np.moveaxis(stacked.images, -1, 0).reshape(-1, 28, 28):
        assert digit.tobytes() in known
    fewer, other = (
        load("stacked_mnist", data_dir=tmp_path, num_examples=n, seed=seed)
        for n, seed in ((5, 0), (20, 1))
    )
    np.testing.assert_array_equal(fewer.images, stacked.images[:5])
    assert (other.images != stacked.images).any()
    assert len({stacked.fingerprint, fewer.fingerprint, other.fingerprint}) == 3


def test_idx_pictures_are_resized(tmp_path):
    write_mnist(tmp_path)
    dataset = load("mnist", data_dir=tmp_path, image_size=32)
    assert dataset.images.shape == (7, 32, 32, 1) and dataset.spec.size == 32


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an IDX file"),
        (b"a letter to my aunt", "not an IDX file"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], r"5 bytes for an array of \(2, 3\)"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:6], "damaged"),
        (gzip.compress(idx_bytes(np.zeros((50, 3), np.uint8)), mtime=0)[:-9], "damaged"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, content, words):
    path = tmp_path / "file-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}.*{words}"):
        read_idx(path)


def test_labels_must_fit_the_pictures(tmp_path):
    write_mnist(tmp_path, bytes, "")
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(np.zeros(6, np.uint8)))
    with pytest.raises(DataError, match=r"\(6,\) labels for 7 pictures"):
        load("mnist", data_dir=tmp_path)
    path.write_bytes(idx_bytes(np.full(7, 10, np.uint8)))
    with pytest.raises(DataError, match="a label 10, allowed are 0 to 9"):
        load("mnist", data_dir=tmp_path)


def test_the_real_mnist(real_data):
    train = load("mnist", data_dir=real_data)
    assert train.images.shape == (60_000, 28, 28, 1)
    # The first ten labels and the mean that everybody's MNIST has.
    assert train.labels[:10].argmax(1).tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert abs(train.images.mean() / 255 - 0.1307) < 1e-4
    assert load("mnist", data_dir=real_data, split="holdout").images.shape == (10_000, 28, 28, 1)


@pytest.fixture
def cifar(tmp_path):
    """Two records a file: class k, red plane k, green 100 + k, blue 200 + k."""
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for number, name in enumerate(names):
        records = [
            bytes([k]) + b"".join(bytes([plane + k]) * 1024 for plane in (0, 100, 200))
            for k in ((2 * number) % 10, (2 * number + 1) % 10)
        ]
        (folder / name).write_bytes(b"".join(records))
    return folder


def check_cifar(data_dir):
    dataset = load("cifar10", data_dir=data_dir)
    expected = [[k, 100 + k, 200 + k] for k in range(10)]
    assert dataset.images[:, 31, 31].tolist() == expected
    assert dataset.labels.argmax(1).tolist() == list(range(10))
    assert dataset.images.shape == (10, 32, 32, 3) and dataset.spec.label_names[3] == "cat"
    assert len(load("cifar10", data_dir=data_dir, split="holdout")) == 2
    return dataset.fingerprint


def test_cifar_from_its_folder_and_its_archive(cifar, tmp_path):
    fingerprint = check_cifar(tmp_path)
    assert check_cifar(tmp_path / "cifar10") == fingerprint
    (tmp_path / "archive").mkdir()
    with tarfile.open(tmp_path / "archive" / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(cifar, cifar.name)
    assert check_cifar(tmp_path / "archive") == fingerprint


def test_damaged_cifar_is_named(cifar, tmp_path):
    (cifar / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match="lacks data_batch_3.bin"):
        load("cifar10", data_dir=tmp_path)
    (cifar / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(DataError, match="test_batch.bin of CIFAR-10 are damaged: 5 bytes"):
        load("cifar10", data_dir=tmp_path, split="holdout")
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cifar-10-binary.tar.gz is damaged"):
        load("cifar10", data_dir=tmp_path)


def test_a_download_is_checked_and_whole_or_not_there(tmp_path):
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(DataError, match=f"SHA-256 {sha256} and not 00; do it by hand"):
        fetch(Remote(source.as_uri(), "00"), target, "do it by hand")
    assert list(target.parent.iterdir()) == []
    fetch(Remote(source.as_uri(), sha256), target, "do it by hand")
    assert target.read_bytes() == b"abc" and list(target.parent.iterdir()) == [target]


def test_a_downloaded_file_can_be_read_by_whom_the_umask_allows(tmp_path):
    (tmp_path / "source").write_bytes(b"")
    sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    before = os.umask(0o022)
    try:
        fetch(Remote((tmp_path / "source").as_uri(), sha256), tmp_path / "target", "")
    finally:
        os.umask(before)
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o644


def test_without_a_network_the_error_says_where_the_files_belong(tmp_path, monkeypatch):
    # A proxy where nobody listens: the same as no network, also where there is one.
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    for name, words in [
        ("mnist", f"put the four IDX files of mnist into {tmp_path}/mnist"),
        ("fashion_mnist", f"put the four IDX files of fashion_mnist into {tmp_path}"),
        ("cifar10", f"put cifar-10-binary.tar.gz into {tmp_path}/cifar10"),
    ]:
        with pytest.raises(DataError, match=f"cannot be reached.*{words}"):
            load(name, data_dir=tmp_path)


def test_the_data_folder_is_in_the_users_cache_or_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.delenv("JAXGAN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "jaxgan" / "data"
    monkeypatch.setenv("JAXGAN_DATA", str(tmp_path / "mine"))
    assert default_data_dir() == tmp_path / "mine"


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("anima", {}, "unknown data set 'anima' .did you mean 'anime'.*valid: .*tfds:<name>"),
        ("folder:x", {}, "unknown data set 'folder:x'"),
        ("tfds", {}, "unknown data set 'tfds'"),
        ("glyphs", {"image_size": 4}, "image_size must be an integer from 8 to 1024, not 4"),
        ("glyphs", {"image_size": 28.5}, "image_size must .* not 28.5"),
        ("glyphs", {"split": "test"}, "split must be 'train' or 'holdout', not 'test'"),
        ("glyphs", {"holdout": 1.0}, "holdout is a fraction.* not 1.0"),
        ("glyphs", {"num_examples": 0}, "num_examples must be at least 1, not 0"),
    ],
)
def test_nonsense_is_refused(name, settings, words):
    with pytest.raises(DataError, match=words):
        load(name, **settings)


def test_labels_where_there_are_none_are_refused(tmp_path):
    write_mnist(tmp_path)
    spec = load("mnist", data_dir=tmp_path).spec
    require_labels(spec)
    with pytest.raises(DataError, match="of the kind 'tags' and those of data set 'mnist'"):
        require_labels(spec, "tags")
    bare = spec._replace(name="anime", label_kind=None, label_names=())
    with pytest.raises(DataError, match="'anime' has none"):
        require_labels(bare)


def test_importing_and_loading_needs_none_of_the_heavy_packages(tmp_path):
    write_mnist(tmp_path)
    program = (
        "import sys; from jaxgan import data\n"
        f"data.load('mnist', data_dir={str(tmp_path)!r})\n"
        "heavy = {'jax', 'tensorflow', 'tensorflow_datasets', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
    assert set(DATASETS) >= {"mnist", "fashion_mnist", "cifar10", "tfds", "anime", "folder"}
