"""Models that draw what a label says: what the label does, and what it must not do."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SEED, a_view, grown, noise_images, small_config, small_model

from jaxgan import losses
from jaxgan.core import Context, Gan, Plan, PyTree, Scores
from jaxgan.data import DataError, DataSpec
from jaxgan.errors import UsageError
from jaxgan.models import MODELS
from jaxgan.sampling.draw import Rows, draw

CLASSES = noise_images(8, size=16, channels=1, classes=4)
TAGS = CLASSES.spec._replace(label_kind="tags")
CONDITIONAL = [name for name in MODELS if small_model(name, CLASSES).conditional]
KEYS = jax.random.split(jax.random.key(SEED), 4)


IMAGE = jnp.asarray(CLASSES.images[:4], jnp.float32) / 128 - 1
STYLES = {"stylegan", "stylegan2"}  # small weights would hide a style
CLASSIFIERS = {"acgan", "improved", "progan", "stargan"}  # their discriminators name the label


class Small(NamedTuple):
    """A small model for `CLASSES`, whose variables are drawn: zeros would hide labels."""

    gan: Gan
    variables: PyTree
    play: Callable  # label, latent, image, keys -> generated images, scores of the image


def _play(gan, variables, label, latent, image, keys=KEYS):
    context = Context(jnp.int32(0), keys, {}, train=False)
    batch = {"index": jnp.arange(4), "label": label, "latent": latent, "image": image}
    fake, _ = gan.generate(variables["generator"], batch, context)
    return fake.image, gan.score(variables["discriminator"], image, label, context)[0].source


@functools.cache
def _small(name):
    gan = small_model(name, CLASSES)
    random = np.random.default_rng(0)

    def draw(path, x):
        if "spectral" in str(path):  # so that no kernel is divided by something near zero
            return np.ones(x.shape, np.float32)
        scale = 10 if name in STYLES else 1
        scale *= 100 if "apping" in str(path) else 1  # what mapping networks divide by
        return scale * (random.uniform(0, 0.2, x.shape) - 0.1 * (x.ndim > 1)).astype(np.float32)

    shapes = jax.eval_shape(gan.init, jax.random.key(0))
    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    return Small(gan, variables, jax.jit(functools.partial(_play, gan, variables)))


def test_which_models_take_labels():
    assert set(CONDITIONAL) == set(MODELS) - {"gan", "improved_mlp"}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_the_label_matters_to_both_players(name):
    gan, _, play = _small(name)
    latent = gan.latent(KEYS) if gan.latent else None
    one, other = (play(jnp.eye(4)[jnp.full(4, k)], latent, IMAGE, KEYS) for k in (0, 1))
    assert (np.abs(one[0] - other[0]).max((1, 2, 3)) > 1e-6).all()
    if name not in CLASSIFIERS:
        assert (one[1] != other[1]).all()


@pytest.mark.parametrize("name", CONDITIONAL)
def test_permuting_a_batch_permutes_what_comes_out(name):
    gan, _, play = _small(name)
    latent = gan.latent(KEYS) if gan.latent else None
    # An order that keeps groups of two together.
    label, order = jnp.eye(4), jnp.array([3, 2, 1, 0])
    examples = (label, latent, IMAGE, KEYS)
    straight, mixed = (
        play(*each) for each in (examples, jax.tree.map(lambda x: x[order], examples))
    )
    for a, b in zip(straight, mixed, strict=True):
        np.testing.assert_allclose(a[order], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(CONDITIONAL) - {"improved"}))
def test_a_tag_alone_is_as_the_class(name):
    by_class, variables, _ = _small(name)
    by_tag = grown(MODELS[name].make(TAGS, small_config(name), Plan(8, 4)))
    latent = by_class.latent(KEYS) if by_class.latent else None
    first, second = (
        jax.jit(functools.partial(_play, gan)).lower(variables, jnp.eye(4), latent, IMAGE).as_text()
        for gan in (by_class, by_tag)
    )
    assert first == second


@pytest.mark.parametrize(
    "name", ["dcgan", "wgan", "wgan_gp", "sagan", "progan", "stylegan", "stylegan2", "r3gan"]
)
def test_labels_are_left_out_when_asked(name):
    module = MODELS[name]
    gan = grown(module.make(CLASSES.spec, module.Config(conditional=False), Plan(8, 1)))
    assert not gan.conditional
    plain = grown(module.make(CLASSES.spec._replace(label_kind=None), module.Config(), Plan(8, 1)))
    assert not plain.conditional


@pytest.mark.parametrize("name", ["cgan", "acgan", "improved", "improved_mlp", "stargan"])
def test_labels_must_be_there(name):
    module = MODELS[name]
    with pytest.raises(DataError, match="has none; labeled ones are"):
        module.make(DataSpec("plain", 28, 1, None, ()), module.Config(), Plan(16, 1))


def test_tags_are_refused_where_one_class_is_needed():
    with pytest.raises(DataError, match="improved needs .*'class' and .*'tags'.*kind='class'"):
        MODELS["improved"].make(TAGS, MODELS["improved"].Config(), Plan(16, 1))


def test_a_batch_of_broken_groups_names_whole_ones():
    with pytest.raises(UsageError, match="batch of 40.*groups of 16.*batch_size=32"):
        MODELS["improved"].make(CLASSES.spec, MODELS["improved"].Config(), Plan(40, 1))


def test_sampling_needs_labels_where_the_model_takes_them_and_there_only():
    gan = small_model("cgan", CLASSES)
    with pytest.raises(UsageError, match="give some"):
        draw(gan, {}, 4)
    with pytest.raises(UsageError, match="takes none"):
        draw(small_model("gan", CLASSES), {}, 4, label=CLASSES.labels[:4])


def test_rows_have_captions():
    conditions = np.array([[1, 0, 1], [0, 1, 0]], np.float32)
    rows = Rows.of(conditions, ("a", "b", "c"), 3)
    assert rows.captions == ("a, c", "b") and rows.columns == 3
    np.testing.assert_array_equal(rows.label, conditions[[0, 0, 0, 1, 1, 1]])


# The K + 1 classes of the improved GAN are K classes and a source.


def test_the_sum_of_class_and_source_is_the_cross_entropy_of_k_plus_1():
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32) * 3  # 3 and "fake"
    label = np.eye(3, dtype=np.float32)[[0, 1, 2, 1, 0]]
    all_classes = jax.nn.log_softmax(logits)
    source = jax.nn.logsumexp(logits[:, :3], -1) - logits[:, 3]
    view = a_view(source, source, label=label)
    view = view._replace(on_real=Scores(source, label_logits=logits[:, :3]))

    on_real = losses.classify_real(view, kind="class") + jax.nn.softplus(-source).mean()
    np.testing.assert_allclose(on_real, -(label * all_classes[:, :3]).sum(-1).mean(), rtol=1e-5)
    np.testing.assert_allclose(jax.nn.softplus(source).mean(), -all_classes[:, 3].mean(), rtol=1e-5)


def test_the_fake_logit_fixed_at_0_is_the_logsumexp_form():
    # -l_y + LSE of the labeled, 1/2 softplus(LSE) and -1/2 LSE + 1/2 softplus(LSE) of the others.
    logits = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    source = jax.nn.logsumexp(logits, -1)
    np.testing.assert_allclose(
        jax.nn.softplus(-source), -source + jax.nn.softplus(source), rtol=1e-5, atol=1e-6
    )
    gan = MODELS["improved"].make(
        CLASSES.spec, MODELS["improved"].Config(fake_logit=False, width=4), Plan(16, 1)
    )
    variables = jax.tree.map(
        lambda x: jnp.full(x.shape, 0.1), jax.eval_shape(gan.init, jax.random.key(0))
    )
    keys = jax.random.split(jax.random.key(0), 16)
    context = Context(jnp.int32(0), keys, {}, train=False)
    image = jnp.asarray(CLASSES.images[np.arange(16) % 8], jnp.float32) / 128 - 1

    @jax.jit
    def score(variables):
        return gan.score(variables, image, None, context)[0]

    scores = score(variables["discriminator"])
    assert scores.label_logits.shape == (16, 4)
    np.testing.assert_allclose(scores.source, jax.nn.logsumexp(scores.label_logits, -1), rtol=1e-6)


def test_each_tag_is_classified_apart():
    logits = np.array([[2.0, -1.0], [0.5, 3.0]], np.float32)
    label = np.array([[1, 1], [0, 1]], np.float32)
    p = 1 / (1 + np.exp(-logits))
    expected = -(label * np.log(p) + (1 - label) * np.log(1 - p)).sum(-1).mean()
    np.testing.assert_allclose(losses.label_loss(logits, label, kind="tags"), expected, rtol=1e-5)
    one = np.array([[1, 0], [0, 1]], np.float32)
    expected = -np.log(np.exp(logits)[[0, 1], [0, 1]] / np.exp(logits).sum(-1)).mean()
    np.testing.assert_allclose(losses.label_loss(logits, one, kind="class"), expected, rtol=1e-5)


def test_dropout_draws_a_mask_for_each_example_and_each_pass():
    from jaxgan.models.common import dropout

    x = jnp.ones((4, 200))
    dropped = dropout(x, KEYS, 0.3)
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs(float((dropped == 0).mean()) - 0.3) < 0.06
    assert len(np.unique(np.asarray(dropped), axis=0)) == 4
    np.testing.assert_array_equal(dropout(x[2:3], KEYS[2:3], 0.3)[0], dropped[2])
