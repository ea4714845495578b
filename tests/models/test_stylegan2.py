"""StyleGAN2 against PyTorch, its published sizes and settings, its lazy terms."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import a_view, assert_as_stored, share_mixed
from stored.models import BATCH, NARROW, PATH_MEAN, SIZE, SPEC, probes, stylegan2_inputs

from jaxgan.core import AXIS, Context, Fake, Plan
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.models import stylegan2

CLASSES = len(SPEC.label_names)


@functools.cache
def _drawn(conditional):
    return stylegan2_inputs(conditional)


def _on_one_device(function):
    return lambda *args: jax.tree.map(
        lambda x: x[0],
        jax.jit(jax.vmap(function, axis_name=AXIS, axis_size=1, in_axes=None))(*args),
    )


@pytest.mark.parametrize("conditional", [pytest.param(False, marks=pytest.mark.slow), True])
def test_networks_and_penalties_are_those_of_pytorch(conditional):
    gan, variables, latent, image, label, keys = _drawn(conditional)
    terms = {name: term for update in gan.updates for name, (_, term) in update.objective.items()}
    context = Context(jnp.int32(0), keys, {}, train=True)

    def discriminator(params):
        def score(image, label):
            tree = {**variables["discriminator"], "params": params}
            return gan.score(tree, image, label, context)[0].source

        view = a_view(image=image, label=label, score=score)
        return terms["r1"](view), score(image, label)

    def generator(params):
        tree = {**variables["generator"], "params": params}
        fake, _ = gan.generate(tree, {"latent": latent, "label": label}, context)
        view = a_view(image=image, label=label)
        view = view._replace(variables={"generator": tree}, rng=keys)
        length, memory = terms["path_length"](
            view._replace(memory={"path_mean": PATH_MEAN}, style=gan.style)
        )
        return length, (memory["path_mean"], fake.image)

    def slope(function, player):
        differentiated = jax.value_and_grad(function, has_aux=True)
        return _on_one_device(differentiated)(variables[player]["params"])

    (r1, source), r1_slopes = slope(discriminator, "discriminator")
    (length, (mean, fake)), path_slopes = slope(generator, "generator")
    ours = {
        "image": fake,
        "source": source,
        "r1": r1,
        "r1_slopes": probes(r1_slopes),
        "path_length": length,
        "path_mean": mean,
        "path_slopes": probes(path_slopes),
    }
    assert_as_stored(ours, "torch_stylegan2_labels" if conditional else "torch_stylegan2")


# What is published


def _parameters(config, size):
    gan = stylegan2.make(DataSpec("data", size, 3, None, ()), config, Plan(32, 1))
    shapes = jax.eval_shape(gan.init, jax.random.key(0))
    return tuple(
        sum(x.size for x in jax.tree.leaves(shapes[player]["params"]))
        for player in ("generator", "discriminator")
    )


def test_parameters_are_as_many_as_the_official_code_prints():
    # stylegan2-ada-pytorch at 1024 px, --cfg=auto; configuration F has six more layers of 512.
    assert _parameters(stylegan2.Config(), 1024) == (28_794_124, 29_012_513)
    six = 6 * (512 * 512 + 512)
    assert _parameters(stylegan2.Config(mapping_layers=8), 1024)[0] == 28_794_124 + six


def test_what_is_left_open_is_as_the_official_code_has_it_on_one_gpu():
    config = stylegan2.resolved(stylegan2.Config(), 64, 32)
    assert (config.channel_base, config.group) == (16384, 4)
    assert config.learning_rate == config.discriminator_learning_rate == 0.0025
    np.testing.assert_allclose(config.gamma, 0.0256)
    assert config.ema_half_life == 10_000
    large = stylegan2.resolved(stylegan2.Config(), 1024, 4)
    assert (large.channel_base, large.learning_rate, large.ema_half_life) == (32768, 0.002, 1250)
    np.testing.assert_allclose(large.gamma, 0.0002 * 1024**2 / 4)


def test_what_is_given_stays():
    given = stylegan2.Config(gamma=0.0, learning_rate=1.0, group=7)
    config = stylegan2.resolved(given, 64, 30)
    assert (config.gamma, config.learning_rate, config.group) == (0, 1, 7)
    assert config.discriminator_learning_rate == 1
    assert stylegan2.resolved(stylegan2.Config(), 64, 30).group == 3  # the largest that divides


# Lazy terms


def _weights(**changes):
    """What each term weighs over sixteen iterations."""
    config = dataclasses.replace(NARROW, gamma=5.0, **changes)
    updates = stylegan2.make(SPEC, config, Plan(BATCH, 1)).updates
    return {
        f"{update.player}/{name}": weight * len(range(0, 16, update.every))
        for update in updates
        for name, (weight, _) in update.objective.items()
        if weight
    }


def test_a_lazy_term_weighs_as_much_as_one_on_every_step():
    often = _weights(r1_every=1, path_every=1)
    assert often == {
        "generator/adversarial": 16,
        "generator/path_length": 16 * 2,
        "discriminator/adversarial": 16,
        "discriminator/r1": 16 * 5,
    }
    assert _weights() == often == _weights(r1_every=4, path_every=8)


def test_each_players_adam_is_corrected_for_its_own_lazy_term():
    config = dataclasses.replace(NARROW, learning_rate=0.5, path_every=4, r1_every=16)
    optimizers = stylegan2.make(SPEC, config, Plan(BATCH, 1)).optimizers
    for player, corrected in (("generator", 4 / 5), ("discriminator", 16 / 17)):
        adam = optimizers[player]
        step, _ = adam.update(jnp.ones(()), adam.init(jnp.ones(())))
        np.testing.assert_allclose(step, -0.5 * corrected, rtol=1e-4)


def test_terms_without_weight_have_no_update():
    config = dataclasses.replace(NARROW, gamma=0.0, path_weight=0.0)
    gan = stylegan2.make(SPEC, config, Plan(BATCH, 1))
    assert [update.player for update in gan.updates] == ["generator", "discriminator"]


def test_a_batch_of_which_no_half_can_be_taken_is_refused():
    gan, variables, *_ = _drawn(False)
    view = a_view(image=np.zeros((3, SIZE, SIZE, 3)), label=np.zeros((3, CLASSES)))
    view = view._replace(variables=variables, memory={"path_mean": 0.0})
    with pytest.raises(UsageError, match="a batch of 3 on a device .* groups of 2; .*path_shrink"):
        gan.updates[1].objective["path_length"][1](view)


# Mixing, and what lies between latents and images


def test_training_mixes_and_use_does_not():
    plain, variables, latent, _, label, keys = _drawn(True)
    mixing = stylegan2.make(SPEC, dataclasses.replace(NARROW, mixing=1.0), Plan(BATCH, 1))

    def image(gan, train):
        context = Context(jnp.int32(0), keys, {}, train=train)
        batch = {"latent": latent, "label": label}
        return gan.generate(variables["generator"], batch, context)[0].image

    both = jax.jit(lambda train: (image(mixing, train), image(plain, train)), static_argnums=0)
    np.testing.assert_array_equal(*both(False))
    mixed, alone = both(True)
    assert (np.abs(mixed - alone).max((1, 2, 3)) > 1e-3).all()


def test_nine_of_ten_examples_are_mixed():
    # As many as in the paper, arXiv:1812.04948, table 2.
    config = dataclasses.replace(NARROW, mixing=stylegan2.Config().mixing, conditional=False)
    plain, variables, *_ = _drawn(False)
    mixing = stylegan2.make(SPEC, config, Plan(BATCH, 1))
    share = share_mixed(plain, mixing, variables["generator"])
    assert abs(share - 0.9) < 0.1


def test_the_two_halves_of_the_generator_are_the_whole():
    gan, variables, latent, _, label, keys = _drawn(True)
    variables = variables["generator"]
    context = Context(jnp.int32(0), keys, {}, train=False)

    @jax.jit
    def whole_and_halves(variables):
        fake, _ = gan.generate(variables, {"latent": latent, "label": label}, context)
        w = gan.style.w(variables, latent, label)
        return fake, w, gan.style.synthesize(variables, w, context)

    fake, w, image = whole_and_halves(variables)
    assert isinstance(fake, Fake)
    assert w.shape == (BATCH, 6, 6)
    assert np.abs(image).max() > 1  # linear
    np.testing.assert_allclose(np.clip(image, -1, 1), fake.image, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(gan.style.average(variables), variables["w_avg"]["mapping"]["w"])
