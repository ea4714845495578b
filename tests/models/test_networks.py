"""The models' networks against the same ones in PyTorch, with the same weights."""

import functools

import jax
import pytest
from helpers import assert_as_stored
from stored.networks import CASES, KEPT, network_inputs

from jaxgan.core import AXIS, Context


@pytest.mark.parametrize("name", CASES)
def test_networks_compute_what_pytorchs_do(name):
    gan, variables, batch = network_inputs(name)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0), axis_name=AXIS)
    def compute(variables, batch):
        numbers = {}
        for mode in CASES[name].modes:
            context = Context(0, None, {}, mode == "train")

            def score(image, context=context):
                scores, _ = gan.score(variables["discriminator"], image, batch["label"], context)
                return scores.source

            gradient = jax.grad(lambda x, score=score: (score(x) ** 2).sum())(batch["image"])
            fake, _ = gan.generate(variables["generator"], batch, context)
            numbers |= {
                f"{mode}_image": fake.image[:, KEPT, KEPT],
                f"{mode}_source": score(batch["image"]),
                f"{mode}_gradient": gradient[:, KEPT, KEPT],
            }
        return numbers

    ours = compute(variables, jax.tree.map(lambda x: x[None], batch))
    assert_as_stored({key: x[0] for key, x in ours.items()}, name)
