"""TensorFlow Datasets without TensorFlow, by a tiny data set of our own."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxgan.data import DataError, load

# Run apart, so that what it defines is unknown to the tests: they find files alone.
PREPARE = """
import pathlib, sys
import numpy as np
import tensorflow_datasets as tfds

pictures = pathlib.Path(sys.argv[1])

class Tiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    PARTS = ("train", "test")

    def _info(self):
        features = tfds.features.FeaturesDict({
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        })
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager):
        return {part: self._generate_examples(part) for part in self.PARTS}

    def _generate_examples(self, part):
        numbers = range(8) if part == "train" else range(8, 10)
        for i in numbers:
            yield i, {"image": pictures / f"{i}.png", "label": i % 2}

class Bare(Tiny):
    PARTS = ("train",)

    def _info(self):
        features = tfds.features.FeaturesDict({"picture": tfds.features.Image(shape=(12, 12, 1))})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _generate_examples(self, part):
        for i in range(8):
            yield i, {"picture": pictures / f"gray{i}.png"}

for builder in (Tiny, Bare):
    builder(data_dir=sys.argv[2], file_format="array_record").download_and_prepare()
assert "tensorflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Pictures 16 wide and 12 high, number i all of gray 20 * i; and the same in gray, 12x12."""
    root = tmp_path_factory.mktemp("tfds")
    for i in range(10):
        Image.fromarray(np.full((12, 16, 3), 20 * i, np.uint8)).save(root / f"{i}.png")
        Image.fromarray(np.full((12, 12), 20 * i, np.uint8)).save(root / f"gray{i}.png")
    command = [sys.executable, "-c", PREPARE, str(root), str(root / "data")]
    subprocess.run(command, check=True, capture_output=True)
    return root / "data"


@pytest.fixture
def load_it(data_dir, tmp_path):
    def load_tfds(name, **settings):
        return load(name, data_dir=data_dir, cache_dir=tmp_path, **settings)

    return load_tfds


def test_a_labeled_set(load_it):
    train, held = load_it("tfds:tiny", image_size=8), load_it("tfds:tiny", split="holdout")
    assert train.spec == ("tfds:tiny", 8, 3, "class", ("cat", "dog"), False)
    assert train.images.shape == (8, 8, 8, 3) and held.images.shape == (2, 64, 64, 3)
    grays = train.images[:, 0, 0, 0]
    assert sorted(grays) == [20 * i for i in range(8)]
    np.testing.assert_array_equal(train.labels.argmax(1), grays // 20 % 2)
    assert train.fingerprint != held.fingerprint
    again = load_it("tfds:tiny", image_size=8)  # from the cache
    np.testing.assert_array_equal(again.images, train.images)
    np.testing.assert_array_equal(again.labels, train.labels)
    assert again.fingerprint == train.fingerprint


def test_an_unlabeled_gray_set_of_one_part(load_it):
    dataset = load_it("tfds:bare")
    assert dataset.spec == ("tfds:bare", 12, 1, None, (), False) and dataset.labels is None
    assert dataset.images.shape == (8, 12, 12, 1)
    with pytest.raises(DataError, match="no held-out part of its own"):
        load_it("tfds:bare", split="holdout")
    parts = [load_it("tfds:bare", split=split, holdout=0.4) for split in ("train", "holdout")]
    grays = [set(part.images[:, 0, 0, 0].tolist()) for part in parts]
    assert grays[0].isdisjoint(grays[1]) and len(grays[0] | grays[1]) == 8
    assert len({part.fingerprint for part in [dataset, *parts]}) == 3


def test_enlarged_pictures_are_counted(load_it, caplog):
    load_it("tfds:bare")
    assert "enlarged" not in caplog.text
    load_it("tfds:bare", image_size=13)
    assert "8 of 8 pictures in tfds:bare are smaller than 13 px" in caplog.text


def test_an_unknown_set_is_named(load_it):
    with pytest.raises(DataError, match="no data set 'no_such_thing'.*, and none is prepared in"):
        load_it("tfds:no_such_thing")
    with pytest.raises(DataError, match="'mnsit' .did you mean 'mnist'"):
        load_it("tfds:mnsit")


def test_tensorflow_is_never_imported(data_dir, tmp_path):
    program = (
        "import sys; from jaxgan import data\n"
        f"data.load('tfds:tiny', data_dir={str(data_dir)!r}, cache_dir={str(tmp_path)!r})\n"
        "assert not {'tensorflow', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_a_network_it_fails_at_once_and_says_what_to_do(load_it, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DataError, match="cannot be reached .*; prepare 'cifar100' on a machine"):
        load_it("tfds:cifar100")
