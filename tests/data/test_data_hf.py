"""Data sets of Hugging Face's formats, made here; the network is not asked."""

import numpy as np
import pytest
from PIL import Image

from jaxgan.data import DataError, load

datasets = pytest.importorskip("datasets", reason="needs the extra hf")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    return tmp_path


@pytest.fixture
def load_it(home):
    def load_hf(name, data_dir, **settings):
        settings = {"image_size": 8, "cache_dir": home / "cache"} | settings
        return load(name, data_dir=data_dir, **settings)

    return load_hf


def write(folder, classes=("cat", "dog"), color=(1, 0, 0)):
    """Three pictures a class, the i-th all of i times a color and more."""
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((9, 9, 3), 10 * (3 * k + i)) + color
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.filterwarnings("ignore")
def test_a_folder_and_a_parquet_file_are_the_same(load_it, home):
    write(home / "pictures" / "train")
    write(home / "pictures" / "test", ("cat", "dog"))
    first = load_it("hf:imagefolder", home / "pictures")
    assert first.spec == ("hf:imagefolder", 8, 3, "class", ("cat", "dog"), False)
    assert first.images[:, 0, 0, 0].tolist() == [1, 11, 21, 31, 41, 51]
    np.testing.assert_array_equal(first.labels.argmax(1), [0, 0, 0, 1, 1, 1])
    assert len(load_it("hf:imagefolder", home / "pictures", split="holdout")) == 6

    table = datasets.load_dataset("imagefolder", data_dir=str(home / "pictures"), split="train")
    (home / "table").mkdir()
    table.to_parquet(home / "table" / "train.parquet")
    other = load_it("hf:parquet", home / "table")
    np.testing.assert_array_equal(other.images, first.images)
    assert other.fingerprint == first.fingerprint
    gray = load_it("hf:parquet", home / "table", channels=1)
    assert gray.images.shape == (6, 8, 8, 1) and gray.fingerprint != first.fingerprint


def table_of(folder, **columns):
    data = datasets.Dataset.from_dict(columns).cast_column("photo", datasets.Image())
    folder.mkdir()
    data.to_parquet(folder / "train.parquet")
    return folder


@pytest.mark.filterwarnings("ignore")
def test_columns_are_chosen_by_name(load_it, home):
    files = [str(path) for path in sorted(write(home / "p", color=(0, 0, 0)).rglob("*.png"))]
    words = [["red"], ["red", "big"], [], ["big"], ["red"], ["small"]]
    root = table_of(home / "t", photo=files, words=words, other=list("abbaab"))
    bare = load_it("hf:parquet", root)
    assert bare.spec[2:5] == (1, None, ())
    tagged = load_it("hf:parquet", root, tags="words")
    assert tagged.spec[3:5] == ("tags", ("big", "red", "small"))
    assert tagged.labels.sum(1).tolist() == [1, 2, 0, 1, 1, 1]
    assert load_it("hf:parquet", root, tags="other").spec[3:5] == ("class", ("a", "b"))
    with pytest.raises(DataError, match="no column 'size' but photo, words, other"):
        load_it("hf:parquet", root, tags="size")
    with pytest.raises(DataError, match="none or several classes; try label_kind='tags'"):
        load_it("hf:parquet", root, tags="words", label_kind="class")
    held = load_it("hf:parquet", root, split="holdout", holdout=0.5, tags="other")
    kept = load_it("hf:parquet", root, holdout=0.5, tags="other")
    assert len(held) + len(kept) == 6 and 0 < len(held) < 6


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_such_set_is_one_line(load_it, home):
    (home / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be opened .*OWNER/NAME") as error:
        load_it("hf:imagefolder", home / "empty")
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="gone does not exist"):
        load_it("hf:imagefolder", home / "gone")
    (home / "bad" / "train").mkdir(parents=True)
    (home / "bad" / "train" / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="none of the 1 pictures in hf:imagefolder"):
        load_it("hf:imagefolder", home / "bad")
