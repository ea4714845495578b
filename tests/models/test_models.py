"""Every model in MODELS, narrow and on tiny pictures, through the loop; and the shapes of big ones.

A new model needs no line here.
"""

import collections
import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SEED, grown, noise_images, on_host, recorded, small_config, small_model

from jaxgan import devices
from jaxgan.core import Context, Gan, Plan, example_keys, normalize
from jaxgan.data import DataSpec, batches
from jaxgan.errors import UsageError
from jaxgan.models import MODELS
from jaxgan.models.common import halvings
from jaxgan.sampling.draw import draw, generator_variables
from jaxgan.training.loop import init, iterate

BATCH, STEPS = 8, 3
DATA, TINY = (noise_images(20, size=size, channels=3, classes=3) for size in (16, 8))
# Models of many layers, half of which are left at 8 px: they compile sooner.
DEEP = {"acgan", "sagan", "progan", "stylegan", "stylegan2", "r3gan", "stargan"}
# And what a field turns into other networks or another objective.
PLAYED = {name: (name, {}) for name in MODELS} | {
    "sagan of the port": ("sagan", {"residual": False, "hinge": False, "penalty": 10.0})
}
# Those whose layers and terms others have, too: only `make test-all` plays them.
LIKE_ANOTHER = {"wgan", "acgan", "progan", "stylegan"}
COMPILED = "/jax/core/compile/backend_compile_duration"


class Played(NamedTuple):
    """What a few iterations of a model left behind."""

    gan: Gan
    size: int  # of the pictures
    first: object
    last: object
    metrics: list
    calls: list  # (update number, state before, state after)
    traces: collections.Counter  # how often an update of each player was traced
    compiled: list  # programs compiled in each iteration


def _params():
    for name, model in PLAYED.items():
        often = name in MODELS and name not in LIKE_ANOTHER
        yield pytest.param(model, marks=[] if often else [pytest.mark.slow])


@pytest.fixture(scope="module", params=_params(), ids=PLAYED)
def played(request) -> Played:
    name, changes = request.param
    data = TINY if name in DEEP else DATA
    size = data.spec.size
    config = dataclasses.replace(small_config(name, size), **changes)
    gan = grown(MODELS[name].make(data.spec, config, Plan(BATCH, 4)))
    traces = collections.Counter()

    def counted(player, tx):
        def update(*args):
            traces[player] += 1
            return tx.update(*args)

        return tx._replace(update=update)

    gan = gan._replace(
        optimizers={player: counted(player, tx) for player, tx in gan.optimizers.items()}
    )
    state = init(gan, SEED)
    first, metrics, compiled = on_host(state), [], []
    program, calls = recorded(gan)

    def note(event, duration, **unused):
        if event == COMPILED:
            compiled[-1] += 1

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        with batches(data, seed=SEED, batch_size=BATCH, place=devices.shard) as drawn:
            iterations = iterate(gan, program, state, drawn, SEED)
            for _ in range(STEPS):
                compiled.append(0)
                _, state, measured = next(iterations)
                metrics.append(on_host(measured))
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    return Played(gan, size, first, on_host(state), metrics, calls, traces, compiled)


def test_all_is_finite(played):
    chex.assert_tree_all_finite((played.last, played.metrics))
    assert played.last.step == STEPS
    assert played.last.skipped["total"] == 0


def test_each_update_is_traced_and_compiled_once(played):
    # An optimizer's update runs once in each trace of an update of its player.
    assert played.traces == collections.Counter(update.player for update in played.gan.updates)
    assert played.compiled[0] >= len(played.gan.updates)
    assert played.compiled[1:] == [0] * (STEPS - 1)


def test_the_state_keeps_its_shapes_and_types(played):
    chex.assert_trees_all_equal_shapes_and_dtypes(played.first, played.last)
    assert {str(x.dtype) for x in jax.tree.leaves(played.last.variables)} == {"float32"}


def test_every_update_changes_its_player_and_no_one_else(played):
    for number, before, after in played.calls:
        (other,) = {"generator", "discriminator"} - {played.gan.updates[number].player}
        for field in ("variables", "opt"):
            chex.assert_trees_all_equal(getattr(after, field)[other], getattr(before, field)[other])
        chex.assert_trees_all_equal((after.ema, after.step), (before.ema, before.step))


def test_every_layer_of_both_players_moves(played):
    old, new = (
        dict(jax.tree_util.tree_leaves_with_path(state.variables))
        for state in (played.first, played.last)
    )
    # A bias may stay: that of a critic's last layer cancels in the Wasserstein loss; and so does a
    # spectral vector of one entry, whose length is 1.
    still = [
        jax.tree_util.keystr(path)
        for path, x in old.items()
        if path[-1].key != "bias" and np.array_equal(x, new[path])
        if not (path[1].key == "spectral" and x.size == 1)
    ]
    assert not still


def test_metrics_are_named_by_player_and_term(played):
    names = {
        f"{update.player}/{term}" for update in played.gan.updates for term in update.objective
    }
    names |= {"generator/loss", "discriminator/loss", "skipped", "skipped_in_row"}
    # The first iteration plays the lazy updates, too.
    assert played.metrics[0].keys() == names


def test_a_players_loss_is_the_sum_that_its_first_update_minimizes(played):
    for player in ("generator", "discriminator"):
        objective = next(u.objective for u in played.gan.updates if u.player == player)
        assert next(iter(objective)) == "adversarial"
        for metrics in played.metrics:
            total = sum(weight * metrics[f"{player}/{n}"] for n, (weight, _) in objective.items())
            np.testing.assert_allclose(metrics[f"{player}/loss"], total, rtol=1e-4, atol=1e-5)


def test_pictures_have_their_shape_and_range(played):
    label = DATA.labels[:5] if played.gan.conditional else None
    given = (TINY if played.size == 8 else DATA).images[:5]
    image = given if played.gan.targets else None
    variables = generator_variables(played.last)
    images = draw(played.gan, variables, 5, label=label, image=image, batch_size=4)
    assert images.shape == (5, played.size, played.size, 3) and images.dtype == np.uint8
    context = Context(jnp.int32(0), jax.random.split(jax.random.key(0), 4), {}, train=False)
    variables = played.last.variables["generator"]
    loud = jax.tree.map(lambda x: 100 * x, variables)
    batch = {"index": jnp.arange(4), "label": DATA.labels[:4], "image": normalize(given[:4])}
    use = jax.jit(lambda variables: played.gan.generate(variables, batch, context))
    for tree in (variables, loud):
        fake, stats = use(tree)
        assert fake.image.dtype == jnp.float32
        assert np.abs(fake.image).max() <= 1
        chex.assert_trees_all_equal(stats, {n: x for n, x in tree.items() if n != "params"})


# Big ones, by their shapes alone


def _shapes(name, size, channels, names=(), **changes):
    module = MODELS[name]
    config = dataclasses.replace(module.Config(), **changes)
    kind = "class" if names else None
    gan = grown(module.make(DataSpec("data", size, channels, kind, names), config, Plan(64, 1)))
    label = jnp.zeros((16, len(names))) if names else None
    given = jnp.zeros((16, size, size, channels))
    variables = jax.eval_shape(gan.init, jax.random.key(0))
    keys = jax.eval_shape(example_keys, jax.random.key(0), jnp.arange(16))
    context = Context(jnp.int32(0), keys, {}, train=False)

    def play(variables, keys):
        batch = {"index": jnp.arange(16), "label": label, "image": given}
        fake, _ = gan.generate(variables["generator"], batch, context._replace(rng=keys))
        scores, _ = gan.score(
            variables["discriminator"], fake.image, label, context._replace(rng=keys)
        )
        return fake.image, scores.source

    return variables, *jax.eval_shape(play, variables, keys)


# Models that double from 4 px on, and take no other sides.
POWERS_OF_TWO = {"progan", "stylegan", "stylegan2"}
PATCHES = {"stargan"}  # their discriminators score each patch


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3)])
def test_shapes_at_the_usual_sizes(name, size, channels):
    if size == 28 and name in POWERS_OF_TWO:
        with pytest.raises(UsageError, match="28 px: .* power of two .*image_size=16 or 32"):
            _shapes(name, size, channels)
        size = 16
    _, image, source = _shapes(name, size, channels, ("a", "b", "c"))
    assert image.shape == (16, size, size, channels)
    assert source.shape[0] == 16 and source.ndim == (3 if name in PATCHES else 1)


@pytest.mark.parametrize("name", ["dcgan", "wgan", "wgan_gp"])
@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("linear_stem", [False, True])
def test_both_kernels_and_stems_give_the_size_that_was_asked_for(name, kernel, linear_stem):
    _, image, source = _shapes(name, 40, 3, kernel=kernel, linear_stem=linear_stem)
    assert image.shape == (16, 40, 40, 3) and source.shape == (16,)


def _count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_dcgan_has_the_parameters_of_the_official_example():
    variables, *_ = _shapes("dcgan", 64, 3)

    def convolution(inputs, outputs):
        return 4 * 4 * inputs * outputs

    def norm(features):
        return 2 * features

    generator = (convolution(100, 512) + norm(512) + convolution(512, 256) + norm(256)) + (
        convolution(256, 128) + norm(128) + convolution(128, 64) + norm(64) + convolution(64, 3)
    )
    discriminator = (
        convolution(3, 64) + convolution(64, 128) + norm(128) + convolution(128, 256)
    ) + (norm(256) + convolution(256, 512) + norm(512) + convolution(512, 1))
    assert (generator, discriminator) == (3_576_704, 2_765_568)
    assert _count(variables["generator"]["params"]) == generator
    assert _count(variables["discriminator"]["params"]) == discriminator


def test_gan_has_the_parameters_of_the_course():
    variables, *_ = _shapes("gan", 28, 1)
    assert _count(variables["generator"]["params"]) == 101 * 300 + 301 * 784
    assert _count(variables["discriminator"]["params"]) == 785 * 300 + 301 * 100 + 101


def test_wgan_gp_has_no_normalization_in_its_critic():
    variables, *_ = _shapes("wgan_gp", 64, 3)
    assert set(variables["discriminator"]) == {"params"}
    assert "batch_stats" in variables["generator"]


@pytest.mark.parametrize("residual", [True, False])
def test_sagan_attends_where_it_is_asked_to(residual):
    variables, *_ = _shapes(
        "sagan", 64, 3, residual=residual, attention=(16, 40), discriminator_attention=(2,)
    )
    assert _attention(variables["generator"]) == {"attention_16", "attention_32"}
    assert _attention(variables["discriminator"]) == {"attention_4"}
    variables, *_ = _shapes("sagan", 64, 3, residual=residual, discriminator_attention=())
    assert _attention(variables["generator"]) == {"attention_32"}
    assert not _attention(variables["discriminator"])


def _attention(variables):
    return {name for name in variables["params"] if name.startswith("attention")}


def test_sagan_of_the_port_normalizes_all_but_the_last_layer_of_each_player():
    variables, *_ = _shapes("sagan", 64, 3, ("a", "b"), residual=False, attention=())
    for player, last in (("generator", "ConvTranspose_0"), ("discriminator", "Conv_0")):
        params = set(variables[player]["params"])
        norms = {name for name in params if name.startswith("BatchNorm")}
        normalized = set(variables[player]["spectral"])
        assert len(normalized) == 4
        assert params == normalized | norms | {last, "Dense_0"}
        assert len(norms) == (4 if player == "generator" else 0)


# Where weights begin


def test_dcgan_begins_with_the_papers_deviations():
    config = MODELS["dcgan"].Config(width=32, conditional=False)
    gan = MODELS["dcgan"].make(DATA.spec, config, Plan(BATCH, 1))
    params = jax.jit(gan.init)(jax.random.key(SEED))
    for player in ("generator", "discriminator"):
        for path, x in jax.tree_util.tree_leaves_with_path(params[player]["params"]):
            kind, mean = path[-1].key, float(path[-1].key == "scale")
            if kind == "bias":
                np.testing.assert_array_equal(x, 0)
            else:
                assert abs(x.mean() - mean) < 0.01
                assert abs(x.std() - 0.02) < 0.008


def test_wgan_keeps_its_critic_in_range_from_the_start():
    gan = small_model("wgan", DATA, BATCH)
    limit = np.nextafter(np.float32(0.01), np.float32(1))
    variables = jax.jit(gan.init)(jax.random.key(SEED))
    for x in jax.tree.leaves(variables["discriminator"]["params"]):
        assert np.abs(x).max() <= limit
    assert max(np.abs(x).max() for x in jax.tree.leaves(variables["generator"]["params"])) > limit


# Sizes that do not fit


@pytest.mark.parametrize(
    ("size", "expected"),
    [(8, (1, 4)), (28, (2, 7)), (32, (3, 4)), (40, (3, 5)), (48, (3, 6)), (64, (4, 4))],
)
def test_halvings(size, expected):
    assert halvings(size) == expected


@pytest.mark.parametrize(("size", "near"), [(30, "28 or 32"), (62, "56 or 64"), (7, "8 or 10")])
def test_sizes_that_cannot_be_halved_name_those_that_can(size, near):
    with pytest.raises(UsageError, match=f"model cannot work at {size} px.*image_size={near}"):
        halvings(size)
    for name in ("dcgan", "wgan", "wgan_gp"):
        with pytest.raises(UsageError, match=f"{size} px"):
            spec = DataSpec("data", size, 3, None, ())
            MODELS[name].make(spec, MODELS[name].Config(), Plan(BATCH, 1))
