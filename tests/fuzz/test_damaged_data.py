"""No picture, zip or file of weights, however damaged, ends in a traceback or takes the memory."""

import base64
import io
import shutil
import zipfile
import zlib

import numpy as np
import pytest
from conftest import STORED
from evaluation.test_torch_file import OLD
from fuzz.mutations import GIB, cases, less_memory_than, mutated, repacked
from PIL import Image

from jaxgan.data import DataError, load
from jaxgan.data.pictures import _FORMATS, CorruptPicture, decode
from jaxgan.errors import UsageError
from jaxgan.evaluation.evaluator import _cached
from jaxgan.evaluation.networks import classifier
from jaxgan.evaluation.networks.torch_file import read_state

# Pillow warns of some damage that it can live with.
pytestmark = pytest.mark.filterwarnings("ignore")

MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK")


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """A picture in each format and in each mode that it takes."""
    rng, made = np.random.default_rng(0), []
    noise = Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in _FORMATS:
        for mode in MODES:
            picture = Image.new(mode, (20, 24), 7) if mode == "I;16" else noise.convert(mode)
            for options in ({}, {"exif": exif}, {"save_all": True, "append_images": [picture]}):
                file = io.BytesIO()
                try:
                    picture.save(file, kind, **options)
                except (OSError, ValueError, KeyError):  # not in this format
                    continue
                made.append(file.getvalue())
    return made


def test_pictures(pictures):
    with less_memory_than(GIB):
        for case in cases(few=150, full=10_000):
            rng = np.random.default_rng(case)
            data = mutated(rng, pictures[rng.integers(len(pictures))], pictures)
            try:
                image = decode(data, 8, channels=int(rng.choice([1, 3])), max_pixels=1 << 22)
            except CorruptPicture as reason:
                assert "object at" not in str(reason)
                continue
            assert image.shape[:2] == (8, 8) and image.dtype == np.uint8


@pytest.fixture(scope="module")
def zips(pictures) -> list[bytes]:
    """A few pictures, packed in the ways that there are."""
    made = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as archive:
            for i in range(5):
                archive.writestr(f"{'ab'[i % 2]}/ü{i}.png", pictures[i])
            archive.writestr("folder/", b"")
            archive.comment = b"packed"
        made.append(file.getvalue())
    return made


def test_zips(zips, tmp_path):
    with less_memory_than(GIB):
        for case in cases(few=60, full=10_000):
            rng = np.random.default_rng(case)
            path = tmp_path / "x.zip"
            path.write_bytes(mutated(rng, zips[rng.integers(len(zips))], zips))
            settings = {"skip_corrupt": bool(case % 2), "tags": "folders" if case % 3 else None}
            try:
                found = load(
                    "folder", data_dir=path, image_size=8, cache_dir=tmp_path / "cache", **settings
                )
            except DataError as reason:
                assert "\n" not in str(reason) and str(path) in str(reason)
            else:
                assert len(found) == len(found.images)
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)


def _damaged(rng, good):
    """One of some files, as a whole or inside."""
    data = good[rng.integers(len(good))]
    if data[:2] == b"PK" and rng.random() < 0.5:
        return repacked(rng, data)
    return mutated(rng, data, good)


@pytest.fixture(scope="module")
def torch_files() -> list[bytes]:
    with np.load(STORED / "torch_file.npz") as file:
        made = [file[name].tobytes() for name in file.files if not name.startswith("array.")]
    return [zlib.decompress(base64.b64decode(OLD)), *made]


def test_torch_files(torch_files, tmp_path):
    path = tmp_path / "x.pth"
    with less_memory_than(GIB):
        for case in cases(few=150, full=5_000):
            rng = np.random.default_rng(case)
            path.write_bytes(_damaged(rng, torch_files))
            try:
                state = read_state(path)
            except UsageError as reason:
                assert str(path) in str(reason)
                continue
            assert all(isinstance(array, np.ndarray) for array in state.values())


@pytest.fixture(scope="module")
def npz_files(tmp_path_factory) -> list[bytes]:
    """A classifier's weights and what an evaluation keeps, small ones."""
    folder, rng = tmp_path_factory.mktemp("npz"), np.random.default_rng(0)
    about = classifier.About("small", 8, 1, ("a", "b"), "class")
    weights = {"params": {"w": rng.normal(size=(3, 4)).astype(np.float32)}}
    classifier.save(folder / "c.npz", about, weights)
    stored = {"features": np.zeros((5, 3), np.float32), "count": 5}
    np.savez(folder / "r.npz", mean=np.zeros(3), scatter=np.eye(3), **stored)
    np.savez_compressed(folder / "z.npz", mean=np.zeros(3), scatter=np.eye(3), **stored)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def test_weights_and_readings(npz_files, tmp_path):
    def read_again():
        raise LookupError("read again")

    path = tmp_path / "x.npz"
    with less_memory_than(GIB):
        for case in cases(few=150, full=5_000):
            rng = np.random.default_rng(case)
            path.write_bytes(_damaged(rng, npz_files))
            try:
                classifier.read_file(path)
            except UsageError as reason:
                assert str(path) in str(reason)
            try:
                _cached(path, read_again)
            except LookupError as reason:
                assert str(reason) == "'read again'" or str(reason) == "read again"
