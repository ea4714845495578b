"""N devices do what one does. With plain gradient descent: Adam would hide a factor."""

import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from helpers import (
    SEED,
    TOY,
    first_state,
    float_batch,
    noise_images,
    on_host,
    small_model,
    split,
    toy_dataset,
    virtual,
)

from jaxgan import devices, processes
from jaxgan.core import PLAYERS, Scores, Update, batch_mean, example_keys, init_state
from jaxgan.data import batches
from jaxgan.errors import UsageError
from jaxgan.layers.norm import BatchNorm
from jaxgan.losses import minimax_discriminator
from jaxgan.models import MODELS
from jaxgan.models.common import noise_gan
from jaxgan.penalties import gradient_penalty
from jaxgan.step import update_step
from jaxgan.training.loop import train

KEY = jax.random.key(11)
CLOSE = {"rtol": 1e-4, "atol": 1e-6}

pytestmark = pytest.mark.skipif(
    jax.device_count() != 4, reason="written for the four CPU devices of conftest.py"
)


def _devices(gan, number, count):
    """Update `number` on one device, or on the four there are."""
    if count == 1:
        return virtual(gan, number)
    step = devices.pmap(update_step(gan, number))
    return lambda state, batch, rng: step(devices.replicate(state), devices.shard(batch), rng)


def _first_state(gan):
    return jax.jit(lambda key: init_state(gan, key))(KEY)


def _play(gan, devices, data):
    updates = [_devices(gan, number, devices) for number in range(len(gan.updates))]
    state = _first_state(gan)
    for batch in data:
        for update in updates:
            state, metrics = update(state, batch, KEY)
            state = on_host(state)
    return state, on_host(metrics)


# Steps


def _spread(view):
    """Not linear in the batch mean: the difference of the mean features, squared."""
    real, fake = (batch_mean(x.features) for x in (view.on_real, view.on_fake))
    return jnp.square(real - fake).sum() + jnp.square(batch_mean(view.on_real.source))


def _wrong(view):
    """As one must not write it."""
    return jnp.square(view.on_real.source.mean())


LINEAR = Update(
    "discriminator", {"adversarial": (1.0, minimax_discriminator), "gp": (1, gradient_penalty)}
)
NOT_LINEAR = Update("generator", {"spread": (0.5, _spread), "wrong": (0.0, _wrong)})


def test_devices_play_the_toy_as_one_does():
    gan = TOY._replace(updates=(LINEAR, NOT_LINEAR))
    data = [float_batch(seed=seed) for seed in range(3)]
    (one, metrics), (four, same) = (_play(gan, devices, data) for devices in (1, 4))
    chex.assert_trees_all_close(four, one, **CLOSE)
    np.testing.assert_allclose(same["generator/spread"], metrics["generator/spread"], rtol=1e-4)
    first = jax.tree.leaves(_first_state(TOY).variables)
    for old, new in zip(first, jax.tree.leaves(one.variables), strict=True):
        assert np.abs(new - old).max() > 1e-3
    # The test can tell: without `batch_mean` inside, the number depends on the devices.
    assert not np.isclose(same["generator/wrong"], metrics["generator/wrong"], rtol=1e-2)


class Normed(nn.Module):
    """Two layers with the library's batch normalization between them."""

    features: int

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(6)(x.reshape(len(x), -1))
        x = nn.relu(BatchNorm()(x, train=train))
        return nn.Dense(self.features)(x)


class NormedGenerator(nn.Module):
    @nn.compact
    def __call__(self, z, label, context):
        return jnp.tanh(Normed(4)(z, train=context.train)).reshape(-1, 2, 2, 1)


class NormedDiscriminator(nn.Module):
    @nn.compact
    def __call__(self, image, label, context):
        return Scores(Normed(1)(image, train=context.train)[:, 0])


def test_batch_normalization_is_over_all_devices():
    gan = noise_gan(
        NormedGenerator(),
        NormedDiscriminator(),
        data=toy_dataset().spec,
        latent_size=3,
        conditional=False,
        updates=TOY.updates,
        optimizers=TOY.optimizers,
        ema=TOY.ema,
    )
    data = [float_batch(seed=seed) for seed in range(3)]
    (one, _), (four, _) = (_play(gan, devices, data) for devices in (1, 4))
    chex.assert_trees_all_close(four, one, **CLOSE)
    for player in PLAYERS:
        mean = one.variables[player]["batch_stats"]["Normed_0"]["BatchNorm_0"]["mean"]
        assert np.abs(mean).max() > 1e-2


def _uneven(path, x):
    """Makes StyleGAN's learned start, the same everywhere, uneven: dividing by no deviation would
    magnify rounding errors."""
    even = path[-1].key == "start"
    return x + jnp.sin(jnp.arange(x.size)).reshape(x.shape) if even else x


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_four_devices_train_every_model_as_one_does(name):
    dataset = noise_images(20, size=16, channels=3, classes=3)
    gan = small_model(name, dataset)
    # Slow enough that a second step does not magnify what the first one rounded.
    gan = gan._replace(
        optimizers=dict.fromkeys(PLAYERS, optax.sgd(0.01)),
        init=lambda rng, init=gan.init: jax.tree_util.tree_map_with_path(_uneven, init(rng)),
    )
    with batches(dataset, seed=SEED, batch_size=8) as data:
        data = [next(data) for _ in range(2)]
    (one, _), (four, _) = _play(gan, 1, data), _play(gan, 4, data)
    chex.assert_trees_all_close(four.variables, one.variables, rtol=1e-3, atol=1e-5)


def test_devices_draw_the_latents_of_one():
    def draw(index):
        keys = example_keys(KEY, index)
        return jax.vmap(jax.random.bits)(keys), TOY.latent(keys)

    index = np.arange(8, dtype=np.int32)
    bits, latents = jax.jit(draw)(index)
    for count in (1, 2, 4):
        same, close = jax.pmap(draw)(index.reshape(count, -1))
        np.testing.assert_array_equal(np.reshape(same, bits.shape), bits)
        # Bits are bits; the normal's last one may depend on how the compiler vectorized it.
        np.testing.assert_allclose(np.reshape(close, latents.shape), latents, rtol=5e-7)


def test_nan_on_one_device_holds_all_of_them():
    batch = float_batch()
    batch["image"][5, 1, 0, 0] = np.nan  # on the third of four
    state = devices.replicate(first_state())
    before = on_host(state)
    after, metrics = devices.pmap(update_step(TOY, 0))(state, devices.shard(batch), KEY)
    assert metrics["skipped"] == 1
    for old, new in zip(
        jax.tree.leaves(before.variables), jax.tree.leaves(after.variables), strict=True
    ):
        assert len(new.addressable_shards) == 4
        for shard in new.addressable_shards:
            np.testing.assert_array_equal(shard.data, old)
    for shard in after.skipped["row"].addressable_shards:
        np.testing.assert_array_equal(shard.data, [1, 0])


# Placing


def test_the_state_is_whole_on_every_device_and_is_given_away():
    state = devices.replicate(first_state())
    step = devices.pmap(update_step(TOY, 0))
    after, _ = step(state, devices.shard(float_batch()), KEY)
    for x in jax.tree.leaves(after):
        assert x.sharding.is_fully_replicated and len(x.addressable_shards) == 4
    assert all(x.is_deleted() for x in jax.tree.leaves(state.variables["discriminator"]))


def test_shard_gives_each_device_a_range_of_the_batch():
    parts = devices.shard(float_batch(8))
    np.testing.assert_array_equal(parts["index"], [[0, 1], [2, 3], [4, 5], [6, 7]])
    assert parts["image"].shape == (4, 2, 2, 2, 1)
    chex.assert_trees_all_equal(parts, split(float_batch(8), 4))
    assert devices.process_part(8) == slice(0, 8)


@pytest.mark.parametrize(("batch", "remedy"), [(6, "4 or 8"), (2, "4"), (0, "4"), (-3, "4")])
def test_a_batch_that_cannot_be_divided_is_refused_before_anything_else(batch, remedy):
    with pytest.raises(
        UsageError, match=f"a batch of {batch} .* 4 devices; try batch_size={remedy}$"
    ):
        train(TOY, toy_dataset(), batch_size=batch, steps=1)


# Whole runs, on as many devices as there are

SCRIPT = """
import sys

import jax

jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))

import numpy as np
from helpers import SEED, TOY, toy_dataset

from jaxgan.training.loop import train

state = train(TOY, toy_dataset(), batch_size=8, steps=3, seed=SEED, progress=False)
assert jax.device_count() == int(sys.argv[1])
np.savez(sys.argv[2], *jax.tree.leaves(state))
"""


def test_a_run_ends_alike_on_one_two_and_four_devices(tmp_path):
    tests = pathlib.Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
    runs = {
        count: subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                SCRIPT,
                str(count),
                tmp_path / f"{count}.npz",
            ],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for count in (1, 2)
    }
    four = train(TOY, toy_dataset(), batch_size=8, steps=3, seed=SEED, progress=False)
    for count, run in runs.items():
        _, error = run.communicate()
        assert run.returncode == 0, error
        with np.load(tmp_path / f"{count}.npz") as arrays:
            leaves = list(arrays.values())
        chex.assert_trees_all_close(leaves, jax.tree.leaves(four), **CLOSE)


# GPUs that compute the same bits


def test_a_gpu_must_have_been_told_to_be_deterministic(monkeypatch):
    class Gpu:
        platform = "gpu"

    monkeypatch.setattr(jax, "devices", lambda: [Gpu()])
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=there")
    with pytest.raises(UsageError, match="XLA_FLAGS"):
        devices.check_deterministic()
    devices.be_deterministic()
    assert os.environ["XLA_FLAGS"].startswith("--xla_dump_to=there --xla_gpu")
    devices.check_deterministic()


# Clusters


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),  # a shell of salloc, without srun
        ({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_NUM_TASKS": "2"}, "Slurm"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "Cloud TPU"),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "GKE"),
    ],
)
def test_a_cluster_is_found_by_its_environment(environment, name, monkeypatch):
    for variable in (*os.environ,):
        if variable.startswith(("SLURM_", "TPU_", "KUBERNETES_")):
            monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert processes.cluster() == name
