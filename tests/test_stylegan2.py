"""StyleGAN2 against PyTorch, its published sizes and settings, its lazy terms."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SEED, a_view

from jaxgan.core import AXIS, Context, Fake, Plan, example_keys
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.layers.noise import pixel_noise
from jaxgan.models import stylegan2
from jaxgan.models.common import fold, normal_latents

BATCH, SIZE, CLASSES = 4, 16, 3
SPEC = DataSpec("data", SIZE, 3, "class", ("a", "b", "c"))
NARROW = stylegan2.Config(
    latent_size=5, mapping_width=6, channel_base=128, max_width=8, group=2, mixing=0.0
)
KEYS = example_keys(jax.random.key(SEED), jnp.arange(BATCH))


@functools.cache
def _drawn(conditional):
    """A small model, and variables that are drawn, so that no bias or strength is zero."""
    config = dataclasses.replace(NARROW, conditional=conditional)
    gan = stylegan2.make(SPEC, config, Plan(BATCH, 1))
    random = np.random.default_rng(0)

    def draw(path, x):
        scale = 100 if "mapping" in str(path) or "LabelMapping" in str(path) else 1
        return random.normal(scale=scale, size=x.shape).astype(np.float32)

    shapes = jax.eval_shape(gan.init, jax.random.key(0))
    return gan, jax.tree_util.tree_map_with_path(draw, shapes)


def _batch():
    random = np.random.default_rng(1)
    image = random.uniform(-1, 1, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    return {"image": image, "label": np.eye(CLASSES, dtype=np.float32)[[0, 2, 1, 2]]}


def _on_one_device(function):
    return lambda *args: jax.tree.map(
        lambda x: x[0],
        jax.jit(jax.vmap(function, axis_name=AXIS, axis_size=1, in_axes=None))(*args),
    )


def _close(ours, theirs, tolerance=2e-4):
    """To a share of the largest number."""
    scale = np.abs(theirs).max()
    assert scale > 0
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=tolerance)


def _noise(keys):
    """As the layers draw it from the keys of a pass."""
    sides = [4, 8, 8, 16, 16]
    return [np.asarray(pixel_noise(fold(keys, i), s, s)) for i, s in enumerate(sides)]


@pytest.mark.parametrize("conditional", [False, True])
def test_networks_and_penalties_are_those_of_pytorch(conditional):
    torch = pytest.importorskip("torch")
    import torch_stylegan2 as other

    gan, variables = _drawn(conditional)
    batch, mean = _batch(), 0.7
    latent = np.random.default_rng(2).normal(size=(BATCH, 5)).astype(np.float32)
    terms = {name: term for update in gan.updates for name, (_, term) in update.objective.items()}
    r1, path_length = terms["r1"], terms["path_length"]

    # Ours.

    def played(params):
        tree = {
            player: {**variables[player], "params": params[player]}
            for player in ("generator", "discriminator")
        }
        context = Context(jnp.int32(0), KEYS, {}, train=True)
        fake, _ = gan.generate(tree["generator"], {**batch, "latent": latent}, context)

        def score(image, label):
            return gan.score(tree["discriminator"], image, label, context)[0].source

        view = a_view(image=batch["image"], made=fake.image, label=batch["label"], score=score)
        view = view._replace(variables=tree, memory={"path_mean": mean}, rng=KEYS)
        length, memory = path_length(view)
        return (length, r1(view)), (fake.image, score(batch["image"], batch["label"]), memory)

    def ours(params):
        values, rest = played(params)
        slopes = [jax.grad(lambda p, i=i: played(p)[0][i])(params) for i in range(2)]
        return values, rest, slopes[0]["generator"], slopes[1]["discriminator"]

    params = {player: tree["params"] for player, tree in variables.items()}
    (length, penalty), (fake, source, memory), g_slope, d_slope = _on_one_device(ours)(params)

    # Theirs.

    def tensor(x):
        x = torch.tensor(np.asarray(x))
        return x.permute(0, 3, 1, 2) if x.ndim == 4 else x

    def trainable(x):
        return torch.tensor(x, requires_grad=True)

    def slopes(value, tree):
        leaves, structure = jax.tree.flatten(tree)
        found = torch.autograd.grad(value, leaves, allow_unused=True)
        return jax.tree.unflatten(structure, [0 if x is None else x.numpy() for x in found])

    g, d = (jax.tree.map(trainable, params[p]) for p in ("generator", "discriminator"))
    label = torch.tensor(batch["label"]) if conditional else None
    noise = [tensor(x) for x in _noise(KEYS)]
    torch_fake = other.generator(g, torch.tensor(latent), label, noise)
    _close(fake, torch_fake.detach().permute(0, 2, 3, 1).numpy())
    image = tensor(batch["image"]).requires_grad_()
    torch_source = other.discriminator(d, image, label, group=2)
    _close(source, torch_source.detach().numpy())

    (slope,) = torch.autograd.grad(torch_source.sum(), image, create_graph=True)
    torch_penalty = slope.square().sum((1, 2, 3)).mean() / 2
    _close(penalty, torch_penalty.detach().numpy())
    _all_close(d_slope, slopes(torch_penalty, d))

    # One of two neighbours, and keys of their own for latents, noise and directions.
    z, layers, directions = (fold(KEYS[::2], number) for number in range(3))
    z = torch.tensor(np.asarray(normal_latents(z, 5)))
    w = other.mapping(g["mapping"], z, None if label is None else label[::2])
    w = w[:, None].repeat(1, 6, 1)
    made = other.synthesis(g["synthesis"], w, [tensor(x) for x in _noise(layers)])
    y = jax.vmap(lambda key: jax.random.normal(key, (SIZE, SIZE, 3)))(directions)
    (slope,) = torch.autograd.grad((made * tensor(y)).sum() / SIZE, w, create_graph=True)
    lengths = slope.square().sum(2).mean(1).sqrt()
    torch_mean = mean + 0.01 * (lengths.mean() - mean)
    torch_length = (lengths - torch_mean).square().mean()
    _close(length, torch_length.detach().numpy())
    _close(memory["path_mean"], torch_mean.detach().numpy())
    _all_close(g_slope, slopes(torch_length, g))


def _all_close(ours, theirs):
    """Leaf by leaf; one far smaller than the largest is what rounding leaves of sums."""
    largest = max(np.abs(x).max() for x in jax.tree.leaves(theirs))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        tolerance = 2e-3 * np.abs(b).max() + 1e-3 * largest
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


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
        "generator/loss": 16,
        "generator/path_length": 16 * 2,
        "discriminator/loss": 16,
        "discriminator/r1": 16 * 5,
    }
    assert _weights() == often == _weights(r1_every=4, path_every=8)


def test_terms_without_weight_have_no_update():
    config = dataclasses.replace(NARROW, gamma=0.0, path_weight=0.0)
    gan = stylegan2.make(SPEC, config, Plan(BATCH, 1))
    assert [update.player for update in gan.updates] == ["generator", "discriminator"]


def test_a_batch_of_which_no_half_can_be_taken_is_refused():
    gan, variables = _drawn(False)
    view = a_view(image=np.zeros((3, SIZE, SIZE, 3)), label=np.zeros((3, CLASSES)))
    view = view._replace(variables=variables, memory={"path_mean": 0.0})
    with pytest.raises(UsageError, match="a batch of 3 on a device .* groups of 2; .*path_shrink"):
        gan.updates[1].objective["path_length"][1](view)


# Mixing, and what lies between latents and images


def test_training_mixes_and_use_does_not():
    gan = stylegan2.make(SPEC, dataclasses.replace(NARROW, mixing=1.0), Plan(BATCH, 1))
    plain, variables = _drawn(True)
    batch = {**_batch(), "latent": np.ones((BATCH, 5), np.float32)}

    def image(gan, train):
        context = Context(jnp.int32(0), KEYS, {}, train=train)
        return gan.generate(variables["generator"], batch, context)[0].image

    np.testing.assert_array_equal(image(gan, False), image(plain, False))
    differ = np.abs(image(gan, True) - image(plain, True)).max((1, 2, 3))
    assert (differ > 1e-3).all()


def test_the_two_halves_of_the_generator_are_the_whole():
    gan, variables = _drawn(True)
    variables, batch = variables["generator"], _batch()
    context = Context(jnp.int32(0), KEYS, {}, train=False)
    fake, _ = gan.generate(variables, batch, context)
    assert isinstance(fake, Fake)
    w = gan.style.w(variables, gan.latent(KEYS), batch["label"])
    assert w.shape == (BATCH, 6, 6)
    image = gan.style.synthesise(variables, w, context)
    assert np.abs(image).max() > 1  # linear
    np.testing.assert_allclose(np.clip(image, -1, 1), fake.image, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(gan.style.average(variables), variables["w_avg"]["mapping"]["w"])
