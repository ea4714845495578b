"""How often a discriminator that names classes is wrong about pictures that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import devices
from jaxgan.core import Context, Gan, GanState, example_keys, normalize
from jaxgan.data import Dataset, DataSpec
from jaxgan.optim import averaged_discriminator


def names_classes(gan: Gan, spec: DataSpec) -> bool:
    """Whether the pictures have classes and the discriminator answers with one."""
    if spec.label_kind != "class":
        return False
    image = jax.ShapeDtypeStruct((8, spec.size, spec.size, spec.channels), np.uint8)
    variables = jax.eval_shape(gan.init, jax.random.key(0))["discriminator"]
    memory = jax.tree.map(jnp.asarray, dict(gan.memory))
    return jax.eval_shape(_answers(gan, memory), variables, image, 0) is not None


def wrong(
    gan: Gan, state: GanState, pictures: Dataset, batch_size: int
) -> Mapping[str, np.ndarray]:
    """Returns for which pictures the likeliest class is not theirs, [N] bool, by the "averaged"
    weights of the discriminator, if it has such, and by its "last" ones.

    They are looked at in an order of chance and in batches of the training's size, which is what
    layers that compare examples are used to.
    """
    answer = jax.jit(_answers(gan, state.memory))
    order = np.random.default_rng(0).permutation(len(pictures))
    asked = {"averaged": averaged_discriminator(state), "last": state.variables["discriminator"]}
    found = {}
    for name, variables in asked.items():
        if variables is None:
            continue
        variables, named = devices.copies(jax.tree.map(np.asarray, variables)), []
        for start in range(0, len(order), batch_size):
            rows = np.resize(order[start : start + batch_size], batch_size)
            image = devices.spread(pictures.images[rows])
            named.append(np.asarray(answer(variables, image, int(state.step))))
        found[name] = np.concatenate(named)[: len(order)] != pictures.labels[order].argmax(1)
    return found


def _answers(gan: Gan, memory: Mapping[str, Any]):
    def answer(variables, image, step):
        keys = example_keys(jax.random.key(0), jnp.arange(len(image)))
        context = Context(jnp.int32(step), keys, memory, train=False)
        logits = gan.score(variables, normalize(image), None, context)[0].label_logits
        return None if logits is None else logits.argmax(-1)

    return answer
