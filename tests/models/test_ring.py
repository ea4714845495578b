"""A ring of Gaussians, learned by an MLP: the whole machine on a problem that can be judged."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import SEED

from jaxgan import penalties
from jaxgan.core import Context, Plan, example_keys
from jaxgan.data import Dataset, DataSpec
from jaxgan.models import gan as mlp
from jaxgan.training.loop import train

MODES, RADIUS, DEVIATION = 8, 0.7, 0.03
BATCH, STEPS = 256, 3000
ANGLES = 2 * np.pi * np.arange(MODES) / MODES
CENTERS = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1)


def _ring(count: int) -> Dataset:
    """Points in the plane as pictures of one pixel with two channels, floats in [-1, 1]."""
    random = np.random.default_rng(0)
    points = CENTERS[random.integers(0, MODES, count)]
    points = points + random.normal(0, DEVIATION, points.shape)
    spec = DataSpec("ring", 1, 2, None, (), synthetic=True)
    return Dataset(spec, points.astype(np.float32)[:, None, None], None, "ring")


@pytest.mark.slow
def test_every_mode_of_a_ring_is_learned():
    data = _ring(20_000)
    config = dataclasses.replace(
        mlp.Config(),
        latent_size=8,
        generator_widths=(128, 128),
        discriminator_widths=(128, 128),
        learning_rate=1e-3,
        ema_half_life=10_000,
    )
    gan = mlp.make(data.spec, config, Plan(BATCH, STEPS))
    first, second = gan.updates
    first = first._replace(objective={**first.objective, "r1": (0.1, penalties.r1)})
    gan = gan._replace(updates=(first, second))
    state = train(gan, data, batch_size=BATCH, steps=STEPS, seed=SEED, progress=False)

    keys = example_keys(jax.random.key(1), np.arange(2000))
    context = Context(state.step, keys, {}, train=False)
    fake, _ = gan.generate(state.ema, {}, context)
    points = np.asarray(fake.image).reshape(-1, 2)
    distances = np.linalg.norm(points[:, None] - CENTERS, axis=-1)
    near = distances.min(1) < 4 * DEVIATION
    share = np.bincount(distances.argmin(1)[near], minlength=MODES) / len(points)
    assert near.mean() > 0.7, near.mean()
    assert share.min() > 0.05, share
