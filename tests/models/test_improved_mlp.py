"""The MLPs that learn from few labels: their losses and their optimizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from helpers import assert_as_stored, noise_images, small_model
from stored.models import improved_mlp_inputs, labeled_images, probes

from jaxgan.core import AXIS, Context, View
from jaxgan.models.common import fold


def test_losses_and_gradients_are_those_of_the_papers_code():
    gan, variables, latent, image, label, keys = improved_mlp_inputs()

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0), axis_name=AXIS)
    def compute(players, keys):
        context = Context(jnp.int32(0), keys, {}, train=True)

        def view(g, d):
            def score(image, label=None, keys=keys):
                full = {**variables["discriminator"], "params": d}
                return gan.score(full, image, label, context._replace(rng=keys))[0]

            full = {**variables["generator"], "params": g}
            batch = {"latent": latent, "image": image, "label": label, "labeled": labeled_images()}
            fake, _ = gan.generate(full, batch, context)
            scores = score(image), score(fake.image, keys=fold(keys, 1))
            others = {"generate": None, "variables": {}, "memory": {}, "step": 0, "rng": keys}
            return View(batch, fake, *scores, score=score, **others)

        def loss(number, g, d):
            terms = gan.updates[number].objective.values()
            return sum(weight * term(view(g, d)) for weight, term in terms if weight)

        now = view(*players)
        d_loss, d_slopes = jax.value_and_grad(lambda d: loss(0, players[0], d))(players[1])
        g_loss, g_slopes = jax.value_and_grad(lambda g: loss(1, g, players[1]))(players[0])
        numbers = {"image": now.fake.image, "logits": now.on_real.label_logits}
        return numbers | {"d_loss": d_loss, "g_loss": g_loss}, d_slopes, g_slopes

    players = tuple(variables[name]["params"] for name in ("generator", "discriminator"))
    numbers, d_slopes, g_slopes = jax.tree.map(lambda x: x[0], compute(players, keys[None]))
    slopes = {"d_slopes": probes(d_slopes), "g_slopes": probes(g_slopes)}
    assert_as_stored(numbers | slopes, "torch_improved_mlp")


def test_adams_epsilon_lies_inside_of_the_root():
    tx = small_model("improved_mlp", noise_images(size=8, classes=2)).optimizers["discriminator"]
    slope = np.float32([1e-5, 1e-4, 1.0])
    step, _ = tx.update(slope, tx.init(slope))
    np.testing.assert_allclose(step, -3e-3 * slope / np.sqrt(slope**2 + 1e-8), rtol=1e-5)
