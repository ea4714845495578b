"""Grids and curves."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxgan.sampling import pictures
from jaxgan.training import curves


def _numbered(count, height=2, width=3, channels=1):
    number = np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(number, (count, height, width, channels))


def test_a_grid_goes_row_by_row_with_black_between():
    grid = pictures.grid(_numbered(5), columns=3, gap=1)
    assert grid.shape == (2 * 2 + 1, 3 * 3 + 2, 1)
    rows = grid[..., 0]
    np.testing.assert_array_equal(rows[0], [1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3])
    np.testing.assert_array_equal(rows[2], 0)
    np.testing.assert_array_equal(rows[4], [4, 4, 4, 0, 5, 5, 5, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (4, 2, 2), (5, 3, 2), (16, 4, 4), (64, 8, 8)]
)
def test_a_grid_is_as_square_as_possible(count, columns, rows):
    grid = pictures.grid(_numbered(count, 4, 4, 3), gap=2)
    assert grid.shape == (rows * 6 - 2, columns * 6 - 2, 3)
    assert grid.dtype == np.uint8


def test_no_gap():
    assert pictures.grid(_numbered(4), gap=0).shape == (4, 6, 1)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_saved_image_comes_back(tmp_path, channels, mode):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, channels), np.uint8)
    path = tmp_path / "new" / "folder" / "image.png"
    pictures.save_image(path, image)
    with Image.open(path) as saved:
        assert saved.mode == mode
        np.testing.assert_array_equal(np.asarray(saved).reshape(image.shape), image)


def _curves(tmp_path, lines):
    metrics, path = tmp_path / "metrics.jsonl", tmp_path / "curves.png"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves.curves(metrics, path)
    return path


def test_curves_are_drawn(tmp_path):
    lines = [
        {
            "step": step,
            "images": 8 * step,
            "seconds": 1.0,
            "generator/loss": step / 3,
            "discriminator/loss": None if step == 2 else 1.0,
            "discriminator/never": None,
            "discriminator/real": 1.0,
            "discriminator/fake": -1.0,
            "discriminator/real_probability": 0.6,
            "skipped": 0,
        }
        for step in range(1, 4)
    ]
    with Image.open(_curves(tmp_path, lines)) as image:
        pixels = np.asarray(image.convert("RGB"))
    # Four panels (loss, score, probability, skipped): three in a row, and one below.
    height, width, _ = pixels.shape
    third = width // 3
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0)):
        panel = pixels[row * height // 2 :, column * third :][: height // 2, :third]
        assert len(np.unique(panel.reshape(-1, 3), axis=0)) > 10
    assert (pixels[height // 2 :, 2 * third :] == 255).all()


def test_nothing_to_draw_draws_nothing(tmp_path):
    assert not _curves(tmp_path, []).exists()
    lines = [{"step": 1, "images": 8, "seconds": 1.0, "generator/loss": None}]
    assert not _curves(tmp_path, lines).exists()
