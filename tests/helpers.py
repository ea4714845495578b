"""A toy Gan, tiny data, and ways to run steps that several test files share."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan import losses
from jaxgan.core import (
    AXIS,
    Batch,
    Context,
    Fake,
    Gan,
    GanState,
    Plan,
    Scores,
    Update,
    Variables,
    View,
    batch_mean,
    init_state,
)
from jaxgan.data import Dataset, DataSpec
from jaxgan.models import MODELS
from jaxgan.models.common import normal_latents
from jaxgan.stages import Stages
from jaxgan.step import update_step
from jaxgan.training.loop import Program, compile_program

SEED = 3


def noise_images(count: int = 20, size: int = 16, channels: int = 3, classes: int = 0) -> Dataset:
    """Random uint8 pictures, with one-hot labels if there are classes."""
    random = np.random.default_rng(0)
    names = tuple(f"class {k}" for k in range(classes))
    spec = DataSpec("noise", size, channels, "class" if classes else None, names, synthetic=True)
    images = random.integers(0, 256, (count, size, size, channels), np.uint8)
    labels = np.eye(classes, dtype=np.float32)[np.arange(count) % classes] if classes else None
    return Dataset(spec, images, labels, "noise")


def float_batch(count: int = 8, seed: int = 0) -> Batch:
    """A global batch of pictures [count, 2, 2, 1] for the toy."""
    image = np.random.default_rng(seed).uniform(-1, 1, (count, 2, 2, 1)).astype(np.float32)
    return {"image": image, "index": np.arange(count, dtype=np.int32)}


def small_config(name: str, size: int = 16):
    """The model's default Config, but narrow and shallow, with n_critic 2 and groups of 2 if it has
    them; one that grows starts at `size`."""
    config = MODELS[name].Config()
    changes = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if "width" in field.name:
            changes[field.name] = (8,) * min(3, len(value)) if isinstance(value, tuple) else 4
        elif field.name in ("blocks", "mapping_layers"):
            changes[field.name] = 1
        elif field.name in ("n_critic", "group"):
            changes[field.name] = 2
        elif field.name == "start_size":
            changes[field.name] = size
    return dataclasses.replace(config, **changes)


def grown(model: Gan | Stages) -> Gan:
    """The Gan, or that of the last stage."""
    return model if isinstance(model, Gan) else model[-1].gan


def small_model(name: str, dataset: Dataset, batch_size: int = 8) -> Gan:
    """The model with `small_config`."""
    return grown(MODELS[name].make(dataset.spec, small_config(name), Plan(batch_size, 4)))


def _centered(variables, x, train):
    """x [B, F] less its batch mean, whose running average is kept as batch norm does."""
    average = variables["batch_stats"]["mean"]
    mean = batch_mean(x) if train else average
    return x - mean, {"batch_stats": {"mean": 0.9 * average + 0.1 * mean}}


def _init(rng):
    g, d = jax.random.split(rng)
    return {
        "generator": {
            "params": {"w": jax.random.normal(g, (3, 4))},
            "batch_stats": {"mean": jnp.zeros(4)},
        },
        "discriminator": {
            "params": {"u": jax.random.normal(d, (4,)), "v": jnp.ones(4)},
            "batch_stats": {"mean": jnp.zeros(4)},
        },
    }


def _latent(rng):
    return normal_latents(rng, 3)


def _generate(variables, batch, context):
    z = batch["latent"] if "latent" in batch else _latent(context.rng)
    x, stats = _centered(variables, z @ variables["params"]["w"], context.train)
    return Fake(jnp.tanh(x).reshape(-1, 2, 2, 1)), stats


def _score(variables, image, label, context):
    x = image.reshape(len(image), 4)
    centered, stats = _centered(variables, x, context.train)
    params = variables["params"]
    return Scores(jnp.tanh(centered @ params["u"]) + x @ params["v"], features=x), stats


DISCRIMINATOR = Update("discriminator", {"adversarial": (1.0, losses.minimax_discriminator)})
GENERATOR = Update("generator", {"adversarial": (1.0, losses.nonsaturating_generator)})

TOY = Gan(
    _init,
    _generate,
    _score,
    (DISCRIMINATOR, GENERATOR),
    {"generator": optax.sgd(0.1), "discriminator": optax.sgd(0.1)},
    latent=_latent,
)
"""Players with one layer and a batch mean, for pictures [B, 2, 2, 1]; plain gradient descent."""


def toy_dataset(count: int = 10) -> Dataset:
    """Pictures for the toy."""
    return noise_images(count, size=2, channels=1)


def first_state(gan: Gan = TOY) -> GanState:
    """The state before the first step, on one device."""
    return init_state(gan, jax.random.key(SEED))


def split(batch: Batch, devices: int) -> Batch:
    """[B, ...] to [devices, B / devices, ...]."""
    return {name: x.reshape(devices, -1, *x.shape[1:]) for name, x in batch.items()}


def virtual(gan: Gan, number: int = 0, devices: int = 1, micro_batches: int = 1):
    """Update `number` as (state, batch [B, ...], rng) -> (state, metrics), played by vmap.

    An oracle for pmap on any number of devices; nothing is donated.
    """
    step = update_step(gan, number, micro_batches)
    played = jax.jit(jax.vmap(step, in_axes=(None, 0, None), out_axes=None, axis_name=AXIS))
    return lambda state, batch, rng: played(state, split(batch, devices), rng)


def on_host(tree):
    """A copy that outlives donation."""
    return jax.tree.map(lambda x: np.array(x, copy=True), tree)


def assert_as_stored(ours: Mapping[str, np.ndarray], name: str) -> None:
    """Compares with `tests/stored/NAME.npz`, relative to the largest number of each array.

    Of floats; whatever else there is must be equal. `*_slopes` are `stored.models.probes`: relative
    to the length of the leaf, but one far shorter than the longest is what rounding leaves of sums.
    """
    with np.load(Path(__file__).parent / "stored" / f"{name}.npz") as file:
        stored = dict(file)
    assert ours.keys() == stored.keys()
    for key, theirs in stored.items():
        if theirs.dtype.kind != "f":
            np.testing.assert_array_equal(ours[key], theirs)
            continue
        scale = tolerance = np.abs(theirs).max()
        assert scale > 0
        if key.endswith("_slopes"):
            lengths = theirs[:, 1:]
            tolerance = 10 * lengths + 5 * lengths.max()
        excess = np.abs(ours[key] - theirs) - 2e-4 * tolerance
        assert (excess <= 0).all(), f"{key} differs by {excess.max() / scale:.1e} too much"


def share_mixed(plain: Gan, mixing: Gan, generator: Variables, count: int = 100) -> float:
    """The share of the examples, in training, that `mixing` draws otherwise than `plain`."""
    keys = jax.random.split(jax.random.key(SEED), count)
    context = Context(jnp.int32(0), keys, {}, train=True)

    @jax.jit
    def images():
        batch = {"latent": plain.latent(keys)}
        return [gan.generate(generator, batch, context)[0].image for gan in (plain, mixing)]

    first, second = images()
    return float((jnp.abs(first - second).max((1, 2, 3)) > 1e-4).mean())


def recorded(gan: Gan):
    """The Gan's program, and the list of (update number, before, after) that running it fills."""
    calls, program = [], compile_program(gan)

    def record(number, function):
        def run(state, batch, rng):
            before = on_host(state)
            state, metrics = function(state, batch, rng)
            calls.append((number, before, on_host(state)))
            return state, metrics

        return run

    updates = tuple(record(number, function) for number, function in enumerate(program.updates))
    return Program(updates, program.end), calls


def a_view(real=(), fake=(), *, image=None, made=None, label=None, score=None) -> View:
    """A View whose scores are given numbers; `score` judges images [B, ...] -> [B]."""
    batch = {"image": image}
    if label is not None:
        batch["label"] = label
    count = 1 if image is None else len(image)
    return View(
        batch,
        Fake(made, label),
        Scores(jnp.asarray(real, jnp.float32)),
        Scores(jnp.asarray(fake, jnp.float32)),
        generate=None,
        score=lambda image, label=None: Scores(score(image, label)),
        variables={},
        memory={},
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.split(jax.random.key(SEED), count),
    )
