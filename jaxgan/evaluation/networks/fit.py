"""Trains a classifier on labeled pictures."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import Array

from jaxgan import bars, data, devices
from jaxgan.core import AXIS, example_keys, seen
from jaxgan.errors import UsageError
from jaxgan.evaluation.networks import classifier
from jaxgan.evaluation.networks.weights import Variables
from jaxgan.losses import label_loss


class State(NamedTuple):
    """What a step changes."""

    variables: Variables
    opt: optax.OptState
    step: Array


def fit(
    dataset: data.Dataset,
    architecture: str | None = None,
    *,
    epochs: float,
    batch_size: int,
    learning_rate: float,
    shift: int | None = None,
    flip: bool = False,
    seed: int = 0,
) -> tuple[classifier.About, Variables]:
    """Trains with Adam, whose learning rate rises for a fifth of the steps, then falls to nothing.

    Args:
      dataset: with labels.
      architecture: one of `classifier.ARCHITECTURES`; None for that of the pictures' size.
      epochs: how often each picture is seen.
      batch_size: pictures a batch, over all devices.
      learning_rate: the highest.
      shift: pixels a picture is shifted at most; None for a 14th of its size.
      flip: mirrors pictures at random.
      seed: of weights and order.

    Raises:
      UsageError: if there is no such architecture, if the batch cannot be divided among the
        devices, or if there is less than one batch.
    """
    spec = dataset.spec
    about = classifier.About(
        architecture or classifier.default_architecture(spec.size),
        spec.size,
        spec.channels,
        spec.label_names,
        spec.label_kind,
        spec.name,
        dataset.fingerprint,
    )
    network, rng = classifier.module(about), jax.random.key(seed)
    steps = _steps(epochs, len(dataset), batch_size)
    adam = optax.adam(optax.warmup_cosine_decay_schedule(0.0, learning_rate, steps // 5, steps))
    pictures = jnp.zeros((1, spec.size, spec.size, spec.channels))
    # Compiled, so that the pictures' way through the network is left out.
    variables = jax.jit(functools.partial(network.init, train=False))(rng, pictures)
    state = devices.replicate(State(variables, adam.init(variables["params"]), jnp.zeros((), int)))
    most = spec.size // 14 if shift is None else shift
    step = devices.pmap(_step(network, adam, spec.label_kind, most))
    batches = data.batches(
        dataset,
        seed=seed,
        batch_size=batch_size,
        flip=flip,
        part=devices.process_part(batch_size),
        place=devices.shard,
    )
    bar = bars.bar(steps, "step", shown=devices.is_main())
    with contextlib.closing(batches), bar:
        for number in range(steps):
            state, loss = step(state, next(batches), rng)
            bar.update()
            if number % 20 == 0:
                bar.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
    return about, jax.device_get(state.variables)


def _steps(epochs: float, num_examples: int, batch_size: int) -> int:
    devices.check_divisible(batch_size)
    steps = epochs * num_examples / batch_size
    if not 1 <= steps < math.inf:
        raise UsageError(
            f"--epochs={epochs} of {num_examples} pictures must be at least one batch of "
            f"{batch_size}; raise --epochs or lower --batch_size"
        )
    return int(steps)


def _step(network: nn.Module, optimizer: optax.GradientTransformation, kind: str, shift: int):
    """Returns (state, batch, rng) -> (state, loss), for `devices.pmap`."""

    def step(state, batch, rng):
        keys = example_keys(jax.random.fold_in(rng, state.step), batch["index"])
        images = shifted(seen(batch)["image"], keys, shift)

        def loss(params):
            (_, logits), rest = network.apply(
                {**state.variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return label_loss(logits, batch["label"], kind=kind), rest

        params = state.variables["params"]
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        value, gradients = jax.lax.pmean((value, gradients), AXIS)
        updates, opt = optimizer.update(gradients, state.opt)
        variables = {**rest, "params": optax.apply_updates(params, updates)}
        return State(variables, opt, state.step + 1), value

    return step


def shifted(images: Array, keys: Array, most: int) -> Array:
    """Moves each picture [B, H, W, C] by up to `most` pixels; what comes in repeats its edge."""
    wide = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")

    def cut(image, key):
        down, across = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return jax.lax.dynamic_slice(image, (down, across, 0), images.shape[1:])

    return jax.vmap(cut)(wide, keys)
