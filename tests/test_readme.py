"""The Python of the README and of the API's page runs, at a small size."""

import re

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

SMALLER = {
    "image_size=64": "image_size=16",
    "batch_size=64": "batch_size=8",
    "2000": "1",
    '"n_critic": 2': '"n_critic": 2, "width": 4',
}


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_python_of_a_page_trains_and_draws(page, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(import jaxgan.*?)```", (ROOT / page).read_text(), re.DOTALL)
    for usual, small in SMALLER.items():
        assert usual in code
        code = code.replace(usual, small)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "PICTURES").mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "PICTURES" / f"{number}.png")
    exec(code, {})
    assert np.asarray(Image.open("grid.png")).shape[-1] == 3
