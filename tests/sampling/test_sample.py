"""Drawing pictures: what an image depends on, and paths between latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TOY, first_state
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from jaxgan.errors import UsageError
from jaxgan.sampling import pictures
from jaxgan.sampling.draw import draw, draw_latents, generator_variables
from jaxgan.sampling.paths import slerp, walk

VARIABLES = generator_variables(first_state())


def _draw(num, **changes):
    return draw(TOY, VARIABLES, num, **changes)


def test_image_i_depends_on_the_seed_and_on_i_alone():
    images = _draw(7, seed=5)
    assert images.shape == (7, 2, 2, 1) and images.dtype == np.uint8
    for num, batch_size in ((7, 3), (4, 64), (7, 7), (1, 1)):
        np.testing.assert_array_equal(_draw(num, seed=5, batch_size=batch_size), images[:num])
    assert len(np.unique(images.reshape(7, 4), axis=0)) == 7
    assert not (_draw(7, seed=6) == images).all()


def test_given_latents_are_used_and_those_of_draw_can_be_had():
    latents = draw_latents(TOY, 7, seed=5)
    assert latents.shape == (7, 3)
    for batch_size in (2, 7, 64):
        images = _draw(7, latent=latents, batch_size=batch_size)
        np.testing.assert_array_equal(images, _draw(7, seed=5))
    np.testing.assert_array_equal(_draw(7, latent=latents[::-1]), _draw(7, seed=5)[::-1])


def test_a_model_that_maps_images_has_no_latents():
    with pytest.raises(UsageError, match="no latents"):
        draw_latents(TOY._replace(latent=None), 4)


def test_pixels_are_rounded_and_clipped():
    def generate(variables, batch, context):
        fake, stats = TOY.generate(variables, batch, context)
        values = jnp.array([-1.5, -1.0, 0.0, 2 * 200.4 / 255 - 1, 1.0, 7.0]).reshape(1, 1, 6, 1)
        return fake._replace(image=jnp.repeat(values, len(batch["index"]), 0)), stats

    images = draw(TOY._replace(generate=generate), VARIABLES, 2)
    np.testing.assert_array_equal(images[1, 0, :, 0], [0, 0, 128, 200, 255, 255])


def test_the_average_is_drawn_unless_the_raw_weights_are_asked_for():
    state = first_state()
    state = state.replace(ema=jax.tree.map(lambda x: x + 1, state.ema))
    average, raw = (generator_variables(state, raw=raw) for raw in (False, True))
    np.testing.assert_array_equal(average["params"]["w"], raw["params"]["w"] + 1)
    np.testing.assert_array_equal(raw["params"]["w"], VARIABLES["params"]["w"])


def _unit(seed, num=4, size=16):
    z = np.random.default_rng(seed).normal(size=(num, size)).astype(np.float32)
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


@given(st.integers(0, 1000), st.integers(2, 9))
def test_a_path_has_its_ends_and_stays_on_the_sphere(seed, count):
    start, end = _unit(seed), _unit(seed + 1)
    path = walk(slerp, start, end, count)
    assert path.shape == (4, count, 16) and path.dtype == np.float32
    np.testing.assert_allclose(path[:, 0], start, atol=1e-6)
    np.testing.assert_allclose(path[:, -1], end, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), 1, atol=1e-5)
    steps = np.linalg.norm(np.diff(path, axis=1), axis=-1)
    np.testing.assert_allclose(steps, steps[:, :1].repeat(count - 1, 1), atol=1e-5)


def test_lengths_change_evenly_along_a_path():
    start, end = _unit(1), 3 * _unit(2)
    lengths = np.linalg.norm(walk(slerp, start, end, 5), axis=-1)
    np.testing.assert_allclose(lengths, np.tile([1, 1.5, 2, 2.5, 3], (4, 1)), rtol=1e-5)


def test_a_path_between_neighbors_is_straight():
    start = _unit(1)
    np.testing.assert_allclose(
        walk(slerp, start, start, 3), np.repeat(start[:, None], 3, 1), atol=1e-5
    )
    ends = start + np.float32(1e-4)
    middle = walk(slerp, start, ends, 3)[:, 1]
    np.testing.assert_allclose(middle, (start + ends) / 2, atol=1e-5)


def test_captions_are_cut_and_find_a_font(tmp_path, monkeypatch):
    grid = np.zeros((20, 40, 3), np.uint8)
    assert pictures.captioned(grid, ["x" * 500, "y"]).shape[1] <= 40 + 160 + 8
    asked, own = [], ImageFont.load_default(10)
    monkeypatch.setattr(pictures, "_letters", lambda: {"cjk.ttf": {0x732B}, "b.ttf": {0x41}})
    monkeypatch.setattr(
        pictures.ImageFont, "truetype", lambda path, *_, **__: asked.append(path) or own
    )
    pictures.captioned(grid, ["\u732b", "cat"])
    assert "cjk.ttf" in asked and "b.ttf" not in asked


def test_the_fonts_of_this_machine_can_be_read():
    assert all(letters for letters in pictures._letters().values())
