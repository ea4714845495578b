"""R3GAN: sizes as the paper prints them, where it begins, and what changes during the burn-in."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SEED, TOY, a_view, assert_as_stored, noise_images, on_host, toy_dataset
from stored.models import probes, r3gan_inputs

from jaxgan import optim, penalties
from jaxgan.core import Context, Plan
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.models import r3gan
from jaxgan.training.loop import train
from jaxgan.training.record import Schedule

KEY = jax.random.key(2)
SMALL = r3gan.Config(width=8, group=4)


def _spec(size, labels=()):
    return DataSpec("data", size, 3, "class" if labels else None, labels)


def _shapes(config, size, labels=()):
    return jax.eval_shape(r3gan.make(_spec(size, labels), config, Plan(256, 1)).init, KEY)


def _count(variables):
    return sum(x.size for x in jax.tree.leaves(variables))


def test_it_has_the_parameters_that_the_paper_prints():
    # Table 2, configuration E: 23.058M and 23.010M at 256 px.
    variables = _shapes(r3gan.Config(), 256)
    assert _count(variables["generator"]) == 23_057_952
    assert _count(variables["discriminator"]) == 23_009_568


@pytest.mark.parametrize(
    ("config", "size", "group"),
    [(r3gan.Config(), 64, 16), (r3gan.Config(width=1536, group=32), 32, 32)],
)
def test_convolutions_of_three_look_at_a_group(config, size, group):
    for variables in _shapes(config, size).values():
        kernels = [
            x.shape
            for path, x in jax.tree_util.tree_leaves_with_path(variables)
            if "GroupedConv_0" in jax.tree_util.keystr(path)
        ]
        assert len(kernels) == 2 * {64: 5, 32: 4}[size]
        assert {kernel[:3] for kernel in kernels} == {(3, 3, group)}
        assert {kernel[3] for kernel in kernels} <= {2 * config.width, config.width}


def test_labels_are_embedded_beside_the_latents_and_projected():
    labels = tuple("abcde")
    without, variables = (_shapes(r3gan.Config(), 64, names) for names in ((), labels))
    extra = {player: _count(variables[player]) - _count(without[player]) for player in variables}
    # An embedding of 64, which the first layer also reads; and 768 features for the one score.
    assert extra["generator"] == 5 * 64 + 64 * 768
    assert extra["discriminator"] == 5 * 768 + 767 * 768


def test_a_block_is_the_identity_at_first_and_not_later():
    block = r3gan.Block(group=16, depth=10)
    x = jax.random.normal(KEY, (2, 4, 4, 64))
    variables = block.init(KEY, x)
    np.testing.assert_array_equal(block.apply(variables, x), x)
    moved = jax.tree.map(lambda x: x + 0.01, variables)
    assert np.abs(block.apply(moved, x) - x).max() > 1e-3
    params, gain = variables["params"], (2 / 1.04) ** 0.5 * 10**-0.25
    for name, fan_in in (("Conv_0", 64), ("GroupedConv_0", 9 * 16)):
        deviation = params[name]["kernel"].std() * fan_in**0.5
        np.testing.assert_allclose(deviation, gain, rtol=0.05)


def test_the_discriminator_is_linear_at_first():
    # All of its blocks being identities.
    gan = r3gan.make(_spec(16), SMALL, Plan(8, 1))
    params = jax.jit(gan.init)(KEY)["discriminator"]
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    score = jax.jit(lambda images: _score(gan, params, images))
    np.testing.assert_allclose(score(2 * images), 2 * score(images), rtol=1e-4, atol=1e-5)


def _score(gan, variables, images, label=None):
    context = Context(jnp.int32(0), jax.random.split(KEY, len(images)), {}, train=False)
    return gan.score(variables, images, label, context)[0].source


def test_images_are_bounded_in_use_but_not_in_training():
    gan = r3gan.make(_spec(16), SMALL, Plan(8, 1))
    variables = jax.jit(gan.init)(KEY)["generator"]
    loud = jax.tree.map(lambda x: 3 * x, variables)
    context = Context(jnp.int32(0), jax.random.split(KEY, 4), {}, train=True)

    @jax.jit
    def generate(variables):
        both = (context, context._replace(train=False))
        return [gan.generate(variables, {}, each)[0].image for each in both]

    training, use = generate(loud)
    assert np.abs(training).max() > 1
    np.testing.assert_array_equal(np.clip(training, -1, 1), use)


def test_networks_and_penalties_are_those_of_pytorch():
    gan, variables, latent, image, label, keys = r3gan_inputs()
    context = Context(jnp.int32(0), keys, {}, train=True)
    batch = {"latent": latent, "label": label}
    made = jax.jit(lambda params: gan.generate(params, batch, context)[0])(variables["generator"])

    def penalty(params, term):
        def score(image, label):
            return _score(gan, {"params": params}, image, label)

        view = a_view(image=image, made=made.image, label=label, score=score)
        return term(view), score(image, label)

    @jax.jit
    def both(params):
        slope = jax.value_and_grad(penalty, has_aux=True)
        return slope(params, penalties.r1), slope(params, penalties.r2)

    ((r1, source), r1_slopes), ((r2, _), r2_slopes) = both(variables["discriminator"]["params"])
    ours = {
        "image": made.image,
        "source": source,
        "r1": r1,
        "r1_slopes": probes(r1_slopes),
        "r2": r2,
        "r2_slopes": probes(r2_slopes),
    }
    assert_as_stored(ours, "torch_r3gan")


# The burn-in


def test_a_cosine_goes_from_the_first_value_to_the_final_one_and_stays():
    value = optim.cosine(2.0, 0.2, 100)
    np.testing.assert_allclose([value(s) for s in (0, 50, 100, 500)], [2, 1.1, 0.2, 0.2], rtol=1e-6)
    assert optim.cosine(2.0, 0.2, 0)(0) == pytest.approx(0.2)


def test_what_the_burn_in_changes():
    config = r3gan.Config(burn_in=25_600.0)
    gan = r3gan.make(_spec(16), config, Plan(256, 1))
    (discriminator, generator), end = gan.updates, 100
    assert generator.fresh and all(u.every == u.repeat == 1 for u in gan.updates)
    real, generated = np.ones((2, 4, 4, 3), np.float32), np.full((2, 4, 4, 3), 2, np.float32)
    # The slope of the score is the image: 48 is its squared length where it is real.
    view = a_view(
        image=real,
        made=generated,
        score=lambda image, label=None: jnp.square(image).sum((1, 2, 3)) / 2,
    )
    for step, gamma, p in ((0, 2.0, 0.0), (end // 2, 1.1, 0.15), (end, 0.2, 0.3), (900, 0.2, 0.3)):
        now = view._replace(step=jnp.int32(step))
        for name, squared in (("r1", 48), ("r2", 4 * 48)):
            weight, term = discriminator.objective[name]
            np.testing.assert_allclose(weight * term(now), gamma / 2 * squared, rtol=1e-5)
        np.testing.assert_allclose(discriminator.objective["augment_p"][1](now), p, atol=1e-6)
    assert gan.ema(0) == 0
    np.testing.assert_allclose(gan.ema(end), 0.5 ** (256 / 500_000), rtol=1e-6)
    grads = {"w": jnp.ones(())}
    for player in gan.optimizers.values():
        first = player.init(grads)
        for step, rate, beta2 in ((0, 2e-4, 0.9), (end // 2, 1.25e-4, 0.945), (end, 5e-5, 0.99)):
            _, state = player.update(grads, _at(step, first))
            np.testing.assert_allclose(state.hyperparams["learning_rate"], rate, rtol=1e-5)
            np.testing.assert_allclose(state.hyperparams["b2"], beta2, rtol=1e-5)


def _at(step, state):
    """The optimizer's state as it is later, its moments apart."""
    later = {
        name: each._replace(count=jnp.int32(step))
        for name, each in state.hyperparams_states.items()
    }
    return state._replace(count=jnp.int32(step), hyperparams_states=later)


def test_scheduled_adam_is_pytorchs_with_settings_that_change():
    rates, beta2s = optim.cosine(0.1, 0.02, 6), optim.cosine(0.9, 0.99, 6)
    tx = optim.scheduled_adam(rates, beta2s)
    params = jnp.array([1.0, -2.0, 0.5])
    state, moment, expected = tx.init(params), np.zeros(3), np.array(params)
    for step in range(8):
        grads = np.sin(np.arange(3) + step)
        updates, state = jax.jit(tx.update)(jnp.asarray(grads, jnp.float32), state, params)
        params = params + updates
        beta2 = float(beta2s(step))
        moment = beta2 * moment + (1 - beta2) * grads**2
        corrected = np.sqrt(moment / (1 - beta2 ** (step + 1)))
        expected = expected - float(rates(step)) * grads / (corrected + 1e-8)
        np.testing.assert_allclose(params, expected, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_goes_on_in_the_middle_of_the_schedules(tmp_path):
    def optimizer():
        return optim.scheduled_adam(optim.cosine(0.1, 0.02, 6), optim.cosine(0.9, 0.99, 6))

    gan = TOY._replace(optimizers={player: optimizer() for player in TOY.optimizers})
    schedule = Schedule(log_every=10, sample_every=10, checkpoint_every=10, num_samples=4)

    def run(name, steps):
        state = train(
            gan,
            toy_dataset(),
            batch_size=8,
            steps=steps,
            seed=SEED,
            workdir=tmp_path / name,
            schedule=schedule,
            progress=False,
        )
        return on_host(state)

    run("parts", 2)
    chex.assert_trees_all_equal(run("parts", 4), run("whole", 4))


def test_widths_that_cannot_be_divided_name_one_that_can():
    with pytest.raises(UsageError, match=r"width 24 gives 12 channels .*config={'width': 16}"):
        r3gan.make(_spec(64), r3gan.Config(width=24), Plan(8, 1))
    r3gan.make(_spec(64), r3gan.Config(width=16), Plan(8, 1))
    with pytest.raises(UsageError, match="cannot work at 30 px"):
        r3gan.make(_spec(30), r3gan.Config(), Plan(8, 1))


def test_without_augmentation_there_is_none():
    spec = noise_images(size=16).spec
    plain, augmented = (
        r3gan.make(spec, r3gan.Config(width=8, augment=p), Plan(8, 1)) for p in (0.0, 0.3)
    )
    assert "augment_p" not in plain.updates[0].objective
    assert "augment_p" in augmented.updates[0].objective
