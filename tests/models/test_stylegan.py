"""StyleGAN: its size, what growing preserves, and its two halves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SEED, share_mixed

from jaxgan.core import Context, Plan, example_keys, init_state
from jaxgan.data import DataSpec
from jaxgan.layers.resample import average_downsample, nearest_upsample
from jaxgan.models import stylegan
from jaxgan.stages import at_step, carry_over

SPEC = DataSpec("noise", 16, 3, "class", ("a", "b", "c"))
CONFIG = stylegan.Config(
    latent_size=6,
    mapping_width=5,
    mapping_layers=1,
    width=6,
    group=2,
    mixing=0.0,
    fade_images=16,
    stable_images=16,
    batch_sizes=(8,),
)
STAGES = stylegan.make(SPEC, CONFIG, Plan(8, 100))
KEYS = example_keys(jax.random.key(1), jnp.arange(4))
LATENT = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
LABEL = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
IMAGE = np.random.default_rng(1).uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)


def _context(step, train):
    return Context(jnp.int32(step), KEYS, {}, train)


def _play(gan, variables, step, image, train=True):
    @jax.jit
    def play(variables, image):
        batch = {"latent": LATENT, "label": LABEL}
        fake, _ = gan.generate(variables["generator"], batch, _context(step, train))
        scores, _ = gan.score(variables["discriminator"], image, LABEL, _context(step, train))
        return fake.image, scores.source

    return play(variables, image)


@pytest.mark.slow
def test_growing_preserves_what_both_players_do():
    small, large = STAGES
    assert [stage[1:] for stage in STAGES] == [(8, 8, 0), (16, 8, 2)]

    @jax.jit
    def grow(rng):
        state = init_state(small.gan, rng)
        variables = jax.tree.map(
            lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), state.variables
        )
        state = state.replace(variables=variables)
        return variables, carry_over(state, large.gan, jax.random.key(5)).variables

    old, new = grow(jax.random.key(SEED))
    image, source = _play(large.gan, new, large.first, IMAGE)
    before, as_before = _play(small.gan, old, large.first, average_downsample(IMAGE))
    np.testing.assert_allclose(image, nearest_upsample(before), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(source, as_before, rtol=1e-4, atol=1e-4)
    later, _ = _play(large.gan, new, large.first + 1, IMAGE)
    assert np.abs(later - image).max() > 1e-2

    # The two halves make what the whole does, and at the step that is chosen.
    whole, _ = _play(large.gan, new, large.first + 1, IMAGE, train=False)
    gan = at_step(large.gan, large.first + 1)

    @jax.jit
    def halves(variables):
        w = gan.style.w(variables, LATENT, LABEL)
        return w, gan.style.synthesize(variables, w, _context(0, False))

    w, made = halves(new["generator"])
    assert w.shape == (4, 6, 5) and gan.style.average(new["generator"]).shape == (5,)
    np.testing.assert_allclose(made, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_nine_of_ten_examples_are_mixed():
    # As many as in the paper, table 2.
    config = dataclasses.replace(CONFIG, conditional=False, start_size=16)
    mixing = dataclasses.replace(config, mixing=stylegan.Config().mixing)
    ((plain, *_),), ((mixed, *_),) = (
        stylegan.make(SPEC, each, Plan(8, 100)) for each in (config, mixing)
    )
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda x: random.normal(size=x.shape).astype(np.float32),
        jax.eval_shape(plain.init, jax.random.key(0))["generator"],
    )
    assert abs(share_mixed(plain, mixed, variables) - 0.9) < 0.1


def test_it_has_the_parameters_of_the_paper():
    """Section 2: 26.2M in the generator at 1024 px, where ProGAN has 23.1M."""
    spec = DataSpec("faces", 1024, 3, None, ())
    (stage,) = stylegan.make(spec, stylegan.Config(start_size=1024), Plan(4, 1))
    params = jax.eval_shape(stage.gan.init, jax.random.key(0))["generator"]["params"]
    count = sum(x.size for x in jax.tree.leaves(params))
    assert f"{count / 1e6:.1f}M" == "26.2M"


def test_rates_are_higher_for_large_pictures():
    spec = DataSpec("faces", 256, 3, None, ())
    stages = stylegan.make(spec, stylegan.Config(), Plan(128, 1))
    moved = []
    for stage in stages:
        adam = stage.gan.optimizers["generator"]
        update, _ = adam.update(jnp.ones(()), adam.init(jnp.ones(())))
        moved.append(round(float(-update), 6))
    assert moved == [1e-3, 1e-3, 1e-3, 1e-3, 1.5e-3, 2e-3]
