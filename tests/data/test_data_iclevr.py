"""i-CLEVR's files, made up small and real."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxgan.data import DataError, load, load_conditions

OBJECTS = {"red cube": 1, "gray cube": 0, "blue sphere": 2}
TRAIN = {"s_1.png": ["blue sphere", "gray cube"], "s_0.png": ["red cube"]}


@pytest.fixture
def folder(tmp_path):
    """Pictures of 24x18: red at the left edge and blue at the right one."""
    root = tmp_path / "iclevr"
    (root / "images").mkdir(parents=True)
    pixels = np.zeros((18, 24, 3), np.uint8)
    pixels[:, :3], pixels[:, -3:] = (255, 0, 0), (0, 0, 255)
    for name in [*TRAIN, "unlabeled.png"]:
        Image.fromarray(pixels).save(root / "images" / name)
    (root / "objects.json").write_text(json.dumps(OBJECTS))
    (root / "train.json").write_text(json.dumps(TRAIN))
    return root


def load_it(folder, **settings):
    return load("iclevr", data_dir=folder, cache_dir=folder / "cache", **settings)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("above", [False, True])
def test_the_pictures_of_train_json(folder, zipped, above):
    if zipped:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for path in (folder / "images").iterdir():
                archive.write(path, f"images/{path.name}")
        (folder / "images").rename(folder / "elsewhere")
    dataset = load_it(folder.parent if above else folder)
    assert dataset.spec == (
        "iclevr",
        64,
        3,
        "tags",
        ("gray cube", "red cube", "blue sphere"),
        False,
    )
    np.testing.assert_array_equal(dataset.labels, [[0, 1, 0], [1, 0, 1]])


def test_nothing_is_cropped(folder):
    dataset = load_it(folder, image_size=12)
    assert dataset.images.shape == (2, 12, 12, 3)
    assert (dataset.images[:, :, 0] == (255, 0, 0)).all()
    assert (dataset.images[:, :, -1] == (0, 0, 255)).all()
    cropped = load("folder", data_dir=folder / "images", image_size=12, cache_dir=folder / "cache")
    assert (cropped.images[:, :, 0] != (255, 0, 0)).any()


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("train.json", {**TRAIN, "s_2.png": []}, "1 of 3 files .*train.json .* first 's_2.png'"),
        ("train.json", {"s_0.png": ["red cub"]}, r"train.json: unknown label .*mean 'red cube'\?"),
        ("train.json", ["red"], "train.json must be an object"),
        ("objects.json", ["red cube"], "objects.json must be an object"),
        ("objects.json", {"red cube": "0"}, "objects.json must be an object"),
        ("objects.json", {**OBJECTS, "red cube": 3}, r"its 3 names from 0 to 2, not \[0, 2, 3\]"),
        ("objects.json", {"red cube": 0}, "objects.json has only the label 'red cube'"),
    ],
)
def test_bad_files_are_refused(folder, file, text, words):
    (folder / file).write_text(json.dumps(text))
    with pytest.raises(DataError, match=words):
        load_it(folder)


@pytest.mark.parametrize("file", ["train.json", "objects.json", "images"])
def test_missing_files_are_named(folder, file):
    (folder / file).rename(folder / "moved")
    with pytest.raises(DataError, match=rf"{file}.* of 'iclevr' is not in .*; put images.zip"):
        load_it(folder)


@pytest.mark.slow
def test_the_real_files(real_data, tmp_path):
    dataset = load("iclevr", data_dir=real_data, cache_dir=tmp_path)
    shapes = load("shapes", num_examples=1, image_size=8, cache_dir=tmp_path)
    assert len(dataset) == 18_009 and dataset.spec.label_names == shapes.spec.label_names
    assert set(dataset.labels.sum(1)) == {1, 2, 3}
    for file, count in [("test.json", 72), ("new_test.json", 84)]:
        conditions = load_conditions(real_data / "iclevr" / file, dataset.spec)
        assert conditions.shape == (32, 24) and conditions.sum() == count
