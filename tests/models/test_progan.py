"""ProGAN: what growing preserves, its schedule, its size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SEED, noise_images

from jaxgan.core import Context, Plan, example_keys, init_state
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.layers.resample import average_downsample, nearest_upsample
from jaxgan.models import progan
from jaxgan.models.growing import Fade, schedule
from jaxgan.stages import carry_over

DATA = noise_images(20, size=8, channels=3, classes=3)
# Three steps of 16 at 4 px; a fade over two of 8 from step 3.
CONFIG = progan.Config(
    latent_size=6,
    width=6,
    group=2,
    fade_images=16,
    stable_images=48,
    batch_sizes=(16, 8),
)
STAGES = progan.make(DATA.spec, CONFIG, Plan(16, 100))
KEYS = example_keys(jax.random.key(1), jnp.arange(4))
LATENT = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
LABEL = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
IMAGE = np.random.default_rng(1).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)


def _context(step, train=True):
    return Context(jnp.int32(step), KEYS, {}, train)


def _play(gan, variables, step, image=IMAGE, train=True):
    """What the generator makes of the latents, and the scores and label logits of an image."""

    @jax.jit
    def play(variables, image):
        batch = {"latent": LATENT, "label": LABEL}
        fake, _ = gan.generate(variables["generator"], batch, _context(step, train))
        scores, _ = gan.score(variables["discriminator"], image, LABEL, _context(step, train))
        return fake.image, scores.source, scores.label_logits

    return play(variables, image)


@pytest.fixture(scope="module")
def grown():
    """The variables of the first stage, with every bias drawn, and of the second."""
    small, large = (stage.gan for stage in STAGES)

    @jax.jit
    def grow(rng):
        state = init_state(small, rng)
        state = state.replace(variables=jax.tree.map(_stirred, state.variables))
        return state.variables, carry_over(state, large, jax.random.key(5)).variables

    return grow(jax.random.key(SEED))


def _stirred(x):
    return x + 0.1 * jnp.sin(jnp.arange(x.size)).reshape(x.shape)


def test_growing_preserves_what_both_players_do(grown):
    (old, new), (small, large) = grown, STAGES
    image, source, label = _play(large.gan, new, large.first)
    before, as_before, labels_before = _play(small.gan, old, large.first, average_downsample(IMAGE))
    assert image.shape == (4, 8, 8, 3) and before.shape == (4, 4, 4, 3)
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(image, nearest_upsample(before), **close)
    np.testing.assert_allclose(source, as_before, **close)
    np.testing.assert_allclose(label, labels_before, **close)
    # The test can tell: the new layers are not silent.
    later, *_ = _play(large.gan, new, large.first + 1)
    assert np.abs(later - image).max() > 1e-2


def test_a_faded_stage_is_the_networks_without_the_old_ones(grown):
    (_, new), (_, large) = grown, STAGES
    config = dataclasses.replace(CONFIG, start_size=8)
    (alone,) = progan.make(DATA.spec, config, Plan(16, 100))
    there = jax.eval_shape(alone.gan.init, jax.random.key(0))
    assert set(new["generator"]["params"]) - set(there["generator"]["params"]) == {"image_4"}
    only = {
        player: {"params": {n: new[player]["params"][n] for n in there[player]["params"]}}
        for player in new
    }
    for step in (large.first + 2, large.first + 50):
        for actual, expected in zip(
            _play(large.gan, new, step), _play(alone.gan, only, 0), strict=True
        ):
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_alpha_is_linear_in_images():
    fade = Fade(first=10, batch_size=4, images=16.0)
    alphas = [float(fade.alpha(jnp.int32(step))) for step in (9, 10, 11, 13, 14, 99)]
    assert alphas == [0, 0, 0.25, 0.75, 1, 1]
    assert fade._replace(images=0.0).alpha(jnp.int32(10)) == 1


def test_real_pictures_are_blended_with_what_was_seen_before():
    small, large = STAGES
    batch = {"image": IMAGE, "label": LABEL}
    fine = average_downsample(IMAGE)
    seen = small.gan.prepare(batch, _context(0))
    np.testing.assert_array_equal(seen["image"], fine)
    np.testing.assert_array_equal(seen["label"], LABEL)
    for step, alpha in ((3, 0), (4, 0.5), (5, 1)):
        seen = large.gan.prepare(batch, _context(step))["image"]
        expected = alpha * IMAGE + (1 - alpha) * nearest_upsample(fine)
        np.testing.assert_allclose(seen, expected, rtol=1e-6, atol=1e-6)


def test_in_use_pictures_have_their_final_size(grown):
    (old, _), (small, _) = grown, STAGES
    image, source, _ = _play(small.gan, old, 0, train=False)
    inside, same, _ = _play(small.gan, old, 0, average_downsample(IMAGE))
    np.testing.assert_allclose(image, jnp.clip(nearest_upsample(inside), -1, 1), rtol=1e-6)
    np.testing.assert_allclose(source, same, rtol=1e-5, atol=1e-6)


def test_the_schedule_is_in_images():
    assert [stage[1:] for stage in STAGES] == [(4, 16, 0), (8, 8, 3)]
    official = progan.make(DataSpec("faces", 128, 3, None, ()), progan.Config(), Plan(128, 1))
    assert [stage.size for stage in official] == [4, 8, 16, 32, 64, 128]
    assert [stage.batch_size for stage in official] == [128, 128, 128, 64, 32, 16]
    assert [stage.first for stage in official] == [0, 4688, 14063, 23438, 42188, 79688]
    capped = schedule("x", 16, 8, 64, (128, 32), 0, 100)
    assert [(part.size, part.batch_size, part.first) for part in capped] == [
        (8, 32, 0),
        (16, 32, 4),
    ]


@pytest.mark.parametrize(
    ("size", "start", "message"),
    [
        (48, 4, "progan cannot work at 48 px.*power of two from 8 to 1024; try image_size=32 or"),
        (4, 4, "cannot work at 4 px.*try image_size=8"),
        (32, 12, "cannot start at 12 px.*from 4 to the pictures' 32"),
        (32, 64, "cannot start at 64 px"),
    ],
)
def test_sizes_that_do_not_double_are_refused(size, start, message):
    spec = DataSpec("data", size, 3, None, ())
    with pytest.raises(UsageError, match=message):
        progan.make(spec, progan.Config(start_size=start), Plan(8, 1))


def test_it_has_the_parameters_of_the_papers_table():
    """Table 2 prints each layer's, rounded, and 23.1M for each player."""
    config = progan.Config(start_size=1024)
    (stage,) = progan.make(DataSpec("faces", 1024, 3, None, ()), config, Plan(4, 1))
    variables = jax.eval_shape(stage.gan.init, jax.random.key(0))
    widths = [512, 512, 512, 512, 256, 128, 64, 32, 16]

    def conv(kernel, inputs, outputs):
        return kernel * kernel * inputs * outputs + outputs

    doubled = list(zip(widths, widths[1:], strict=False))
    generator = conv(4, 512, 512) + conv(3, 512, 512) + conv(1, 16, 3)
    generator += sum(conv(3, a, b) + conv(3, b, b) for a, b in doubled)
    discriminator = conv(3, 513, 512) + conv(4, 512, 512) + conv(1, 512, 1) + conv(1, 3, 16)
    discriminator += sum(conv(3, b, b) + conv(3, b, a) for a, b in doubled)
    counts = [
        sum(x.size for x in jax.tree.leaves(variables[player]))
        for player in ("generator", "discriminator")
    ]
    assert counts == [generator, discriminator]
    assert [f"{count / 1e6:.1f}M" for count in counts] == ["23.1M", "23.1M"]
