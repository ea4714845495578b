"""StarGAN: PyTorch's numbers, whose label is whose target, and which pictures it takes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_as_stored, noise_images, small_model, virtual
from stored.models import probes
from stored.stargan import BATCH, KEY, stargan_inputs

from jaxgan.core import PLAYERS, Context, Plan, init_state
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.models import stargan
from jaxgan.training.loop import train
from jaxgan.training.record import Schedule

LABEL = np.eye(8, dtype=np.float32)


def test_networks_losses_and_gradients_are_pytorchs():
    gan, variables, image, label = stargan_inputs()
    # Which keeps the gradient as its state.
    gan = gan._replace(
        optimizers=dict.fromkeys(PLAYERS, optax.trace(decay=0.0)), init=lambda rng: variables
    )
    state = jax.jit(lambda: init_state(gan, KEY))()
    batch = {"image": image, "label": label, "index": np.arange(BATCH, dtype=np.int32)}
    found = {}
    for number, player in enumerate(("discriminator", "generator")):
        after, metrics = virtual(gan, number)(state, batch, KEY)
        found[f"{player}_loss"] = metrics[f"{player}/loss"]
        found[f"{player}_slopes"] = probes(after.opt[player].trace)

    @jax.jit
    def play(variables):
        context = Context(jnp.int32(0), None, {}, train=False)
        fake, _ = gan.generate(variables["generator"], batch, context)
        scores, _ = gan.score(variables["discriminator"], image, None, context)
        return {"image": fake.image, "source": scores.source, "logits": scores.label_logits}

    assert_as_stored(found | play(variables), "torch_stargan")


def test_targets_are_the_labels_of_the_group_in_another_order():
    keys = jax.random.split(KEY, 8)
    targets = np.asarray(stargan.shuffled(LABEL, keys, 4)).argmax(1)
    assert sorted(targets[:4]) == [0, 1, 2, 3] and sorted(targets[4:]) == [4, 5, 6, 7]
    assert list(targets) != [*range(8)]
    # A group that lies on another device draws the same.
    np.testing.assert_array_equal(stargan.shuffled(LABEL[4:], keys[4:], 4).argmax(1), targets[4:])
    firsts = {int(stargan.shuffled(LABEL, jax.random.split(k, 8), 4)[0].argmax()) for k in keys}
    assert len(firsts) > 2


def test_both_players_get_targets_and_the_real_pictures_keep_their_label():
    dataset = noise_images(8, size=8, classes=4)
    gan = small_model("stargan", dataset)

    seen = {
        "label": (0.0, lambda view: (view.batch["label"] == dataset.labels).mean()),
        "moved": (0.0, lambda view: jnp.abs(view.fake.label - view.batch["label"]).sum()),
        "sum": (0.0, lambda view: (view.fake.label.sum(0) == view.batch["label"].sum(0)).mean()),
    }
    gan = gan._replace(updates=tuple(u._replace(objective=seen) for u in gan.updates))
    state = jax.jit(lambda: init_state(gan, KEY))()
    batch = {
        "image": dataset.images,
        "label": dataset.labels,
        "index": np.arange(8, dtype=np.int32),
    }
    for number, player in enumerate(("discriminator", "generator")):
        _, metrics = virtual(gan, number)(state, batch, KEY)
        assert metrics[f"{player}/label"] == metrics[f"{player}/sum"] == 1
        assert metrics[f"{player}/moved"] > 0


@pytest.mark.parametrize(("size", "near"), [(30, 32), (6, 8), (70, 72)])
def test_sides_that_cannot_be_halved_twice_name_one_that_can(size, near):
    spec = DataSpec("data", size, 3, "class", ("a", "b"))
    with pytest.raises(UsageError, match=f"stargan cannot work at {size} px.*image_size={near}$"):
        stargan.make(spec, stargan.Config(), Plan(16, 1))


def test_a_batch_that_is_not_whole_groups_names_one_that_is():
    spec = DataSpec("data", 16, 3, "class", ("a", "b"))
    with pytest.raises(UsageError, match="batch of 20 is not whole groups of 16.*batch_size=16,"):
        stargan.make(spec, stargan.Config(), Plan(20, 1))


@pytest.mark.slow
def test_a_run_resumes_exactly_and_both_schedules_agree(tmp_path):
    dataset = noise_images(12, size=8, classes=3)
    gan = small_model("stargan", dataset)
    gan = gan._replace(optimizers=dict.fromkeys(PLAYERS, optax.sgd(0.01)), ema=lambda step: 0.5)

    def trained(steps, **options):
        schedule = Schedule(1, 2, 2, num_samples=4)
        return train(gan, dataset, batch_size=8, steps=steps, schedule=schedule, **options)

    unbroken = trained(4)
    halfway = trained(2, workdir=tmp_path)
    # Not after more steps: where rounding turns the sign of a difference, so does its slope.
    on_device = trained(2, on_device=True)
    chex.assert_trees_all_close(on_device.variables, halfway.variables, rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_equal(trained(4, workdir=tmp_path), unbroken)
