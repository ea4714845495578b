"""Augmentation: what each transformation does, beside plain numpy, and the controller of ADA."""

import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    TOY,
    a_view,
    first_state,
    float_batch,
    grown,
    noise_images,
    on_host,
    small_config,
    small_model,
    virtual,
)
from jax.test_util import check_grads

from jaxgan import penalties
from jaxgan.augment import AUGMENTATIONS, ada, colors, diffaug
from jaxgan.augment.colors import color_maps, recolor
from jaxgan.augment.geometry import DRAWS, affine_maps, sample, warp
from jaxgan.augment.wrapper import draws
from jaxgan.core import AXIS, Context, Plan, Scores, example_keys, init_state
from jaxgan.errors import UsageError
from jaxgan.models import MODELS

KEY = jax.random.key(5)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def _images(count=6, size=8, channels=3):
    random = np.random.default_rng(0)
    return random.uniform(-1, 1, (count, size, size, channels)).astype(np.float32)


def _keys(count=6):
    return example_keys(KEY, jnp.arange(count))


# Every picture by itself, or not at all

ALL = {
    "diffaug": lambda image, rng, share: diffaug.augment(image, rng, strength=share),
    "ada": lambda image, rng, share: ada.augment(image, rng, share, ada.Pipe(cutout=1.0)),
}


@pytest.mark.parametrize("augment", ALL.values(), ids=ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_is_the_identity_to_the_last_bit(augment, channels):
    images = _images(channels=channels)
    np.testing.assert_array_equal(jax.jit(augment)(images, _keys(), 0.0), images)


@pytest.mark.parametrize("augment", ALL.values(), ids=ALL)
def test_pictures_are_changed_by_their_own_keys_on_any_number_of_devices(augment):
    one = np.broadcast_to(_images(1), (4, 8, 8, 3))
    out = jax.jit(augment)(one, _keys(4), 1.0)
    for i in range(4):
        for j in range(i):
            assert np.abs(out[i] - out[j]).max() > 0.1
    split = [x.reshape(2, -1, *x.shape[1:]) for x in (one, _keys(4))]
    parts = jax.pmap(functools.partial(augment, share=1.0))(*split)
    np.testing.assert_allclose(parts.reshape(out.shape), out, **CLOSE)


@pytest.mark.parametrize("augment", ALL.values(), ids=ALL)
def test_second_derivatives(augment):
    @jax.jit
    def curved(x):
        return jnp.square(augment(x, _keys(2), 0.7)).sum()

    check_grads(curved, (_images(2, 4),), order=2, modes=["rev"], rtol=1e-2)


# DiffAugment


def _all_of(transform, images, count=400):
    """Many draws of a transformation on one picture, as numpy."""
    images = np.broadcast_to(images, (count, *images.shape[1:]))
    return np.asarray(jax.jit(transform)(images, _keys(count), 1.0))


def test_color_keeps_structure_within_its_ranges():
    image = _images(1)
    out = _all_of(diffaug.color, image)
    brighter = out.mean((1, 2, 3)) - image.mean()
    assert -0.5 <= brighter.min() < -0.45 and 0.45 < brighter.max() <= 0.5
    # Across gray it is scaled by saturation and contrast, along it by contrast alone.
    gray, was = (x.mean(-1, keepdims=True) for x in (out, image))
    contrast = (gray.std((1, 2, 3)) / was.std()).reshape(-1, 1, 1, 1)
    assert 0.5 <= contrast.min() < 0.55 and 1.45 < contrast.max() <= 1.5
    saturation = ((out - gray) / contrast / (image - was)).mean((1, 2, 3))
    np.testing.assert_allclose(
        (out - gray) / contrast, saturation[:, None, None, None] * (image - was), atol=1e-4
    )
    assert 0 <= saturation.min() < 0.05 and 1.95 < saturation.max() <= 2


def test_translation_moves_by_up_to_an_eighth_and_fills_with_zeros():
    image = _images(1, 16)
    padded = np.pad(image[0], [(2, 2), (2, 2), (0, 0)])
    expected = {padded[y : y + 16, x : x + 16].tobytes() for y in range(5) for x in range(5)}
    assert {x.tobytes() for x in _all_of(diffaug.translation, image)} == expected


def test_cutout_is_a_square_of_half_the_side_or_what_of_it_is_inside():
    holes = _all_of(diffaug.cutout, np.ones((1, 8, 8, 1), np.float32))[..., 0] == 0
    rows, columns = holes.any(2).sum(1), holes.any(1).sum(1)
    np.testing.assert_array_equal(holes.sum((1, 2)), rows * columns)
    assert set(rows) == set(columns) == {2, 3, 4}
    # Its middle is anywhere from the first to behind the last row.
    assert np.mean(rows == 4) == pytest.approx(5 / 9, abs=0.1)


@pytest.mark.parametrize(("size", "most", "hole"), [(28, 4, 14), (15, 2, 8), (9, 1, 5)])
def test_diffaugs_ranges_are_rounded_and_not_cut(size, most, hole):
    # The official code: int(side * .125 + .5) and int(side * .5 + .5), with halves up.
    corner = np.zeros((1, size, size, 1), np.float32)
    corner[:, size // 2, size // 2] = 1
    rows = np.unique(_all_of(diffaug.translation, corner).argmax(1).max((1, 2)) - size // 2)
    np.testing.assert_array_equal(rows[rows > 0], np.arange(1, most + 1))
    holes = _all_of(diffaug.cutout, np.ones((1, size, size, 1), np.float32))[..., 0] == 0
    assert holes.any(2).sum(1).max() == hole


# ADA's geometry


def _map(a=1.0, b=0.0, x=0.0, c=0.0, d=1.0, y=0.0):
    return jnp.array([[[a, b, x], [c, d, y], [0, 0, 1]]], jnp.float32)


def _reflected(image):
    return np.pad(image, [(7, 7), (7, 7), (0, 0)], "reflect")


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (_map(a=-1), lambda image: image[:, ::-1]),
        (_map(0, -1, 0, 1, 0), lambda image: np.rot90(image)),
        (_map(-1, 0, 0, 0, -1), lambda image: np.rot90(image, 2)),
        (
            _map(x=2, y=-1),
            lambda image: np.pad(image, [(1, 0), (0, 2), (0, 0)], "reflect")[:-1, 2:],
        ),
        (_map(x=0.5), lambda i: (i + np.pad(i, [(0, 0), (0, 1), (0, 0)], "reflect")[:, 1:]) / 2),
        (_map(x=14), lambda image: image),  # reflected twice
    ],
)
def test_maps_read_where_they_point(matrix, expected):
    image = _images(1)
    np.testing.assert_allclose(jax.jit(warp)(image, matrix)[0], expected(image[0]), atol=1e-5)


def test_bilinear_sampling_is_exact_on_planes():
    y, x = np.mgrid[:8, :8].astype(np.float32)
    image = (0.3 * x - 0.2 * y + 1)[None, :, :, None]
    rows, columns = np.random.default_rng(1).uniform(0, 7, (2, 1, 5, 3)).astype(np.float32)
    expected = 0.3 * columns - 0.2 * rows + 1
    np.testing.assert_allclose(sample(image, rows, columns)[..., 0], expected, **CLOSE)


def test_drawn_maps_have_the_frequencies_and_ranges_of_the_paper():
    def drawn(p, blit=0.0, geometric=0.0):
        @jax.jit
        def run(keys):
            uniform = iter(draws(keys, DRAWS))
            return affine_maps(uniform, p, 64, 64, blit=blit, geometric=geometric)

        return np.asarray(run(_keys(4000)))

    blitted = drawn(0.8, blit=1.0)
    np.testing.assert_array_equal(blitted, np.round(blitted))
    np.testing.assert_array_equal(np.abs(np.linalg.det(blitted[:, :2, :2])), 1)
    assert np.abs(blitted[:, :2, 2]).max() == 8
    assert np.mean(np.linalg.det(blitted[:, :2, :2]) < 0) == pytest.approx(0.4, abs=0.03)
    turned = np.abs(blitted[:, 0, 0]) == 0
    assert turned.mean() == pytest.approx(0.4, abs=0.03)

    warped = drawn(0.5, geometric=1.0)
    area = np.log2(np.linalg.det(warped[:, :2, :2]))
    still = np.abs(area) < 1e-5
    assert still.mean() == pytest.approx(0.5, abs=0.03)
    assert area[~still].std() == pytest.approx(0.4, abs=0.02)  # two sides of deviation .2
    # Neither scaled, turned, stretched nor moved: four independent halves.
    identity = np.abs(warped - np.eye(3)).max((1, 2)) == 0
    assert identity.mean() == pytest.approx(1 / 16, abs=0.02)


# ADA's colors


@jax.jit
def _color_maps(keys, p):
    return color_maps(iter(draws(keys, colors.DRAWS)), p)


def test_color_maps_are_turns_and_flips_about_gray():
    maps = np.asarray(_color_maps(_keys(2000), 1.0))
    gray = np.ones(3) / np.sqrt(3)
    # Gray stays gray, for every one of them.
    mapped = maps[:, :3, :3] @ gray
    np.testing.assert_allclose(np.cross(mapped, gray), 0, atol=1e-5)
    along = mapped @ gray
    assert np.mean(along < 0) == pytest.approx(0.5, abs=0.04)  # luma flips
    assert np.log2(np.abs(along)).std() == pytest.approx(0.5, abs=0.03)  # contrast
    across = maps[:, :3, :3] @ np.array([1, -1, 0]) / np.sqrt(2)
    ratio = np.linalg.norm(across, axis=1) / np.abs(along)
    assert np.log2(ratio).std() == pytest.approx(1, abs=0.06)  # saturation
    hue = np.arctan2(across @ np.array([1, 1, -2]) / np.sqrt(6), across @ [1, -1, 0] / np.sqrt(2))
    assert np.histogram(hue, 8, (-np.pi, np.pi))[0].min() > 180  # all hues alike
    np.testing.assert_array_equal(maps[:, 3], np.broadcast_to([0, 0, 0, 1], (2000, 4)))


def test_colors_are_mapped_pixel_by_pixel():
    images, maps = _images(), _color_maps(_keys(), 0.8)
    homogeneous = np.concatenate([images, np.ones_like(images[..., :1])], -1)
    expected = np.einsum("bij,bhwj->bhwi", maps, homogeneous)[..., :3]
    np.testing.assert_allclose(recolor(images, maps), expected, **CLOSE)
    # A gray picture is what it is as three channels, on average.
    gray = images[..., :1]
    expected = np.asarray(recolor(gray.repeat(3, -1), maps)).mean(-1, keepdims=True)
    np.testing.assert_allclose(recolor(gray, maps), expected, **CLOSE)
    with pytest.raises(UsageError, match="4 channels .* augment=.diffaug"):
        recolor(np.zeros((6, 2, 2, 4), np.float32), maps)


def test_adas_cutout_is_a_square_of_half_the_side_with_probability_p():
    ones = np.ones((1000, 8, 8, 1), np.float32)
    augment = jax.jit(functools.partial(ada.augment, pipe=ada.Pipe(0, 0, 0, 1)))
    holes = augment(ones, _keys(1000), 0.5) == 0
    share = np.asarray(holes.mean((1, 2, 3)))
    assert share.max() == 0.25
    assert np.mean(share == 0) == pytest.approx(0.5, abs=0.05)


# The controller


def _adapted(signs, p, count=8):
    """p after batches whose real scores have these mean signs."""

    @jax.jit
    @functools.partial(jax.vmap, axis_name=AXIS)  # one device
    def adapt(source, memory):
        view = a_view(image=jnp.zeros((count, 1)))
        scores = view.on_real._replace(source=source)
        return ada.adapt(view._replace(on_real=scores, memory=memory))

    memory = ada.wrap(TOY).memory | {"augment": ada.wrap(TOY).memory["augment"] | {"p": p}}
    memory = jax.tree.map(lambda x: jnp.asarray(x)[None], memory)
    path = []
    for sign in signs:
        source = np.where(np.arange(count) < count * (sign + 1) / 2, 3.0, -0.1)
        value, memory = adapt(source[None], memory)
        assert value == memory["augment"]["p"]
        path.append(float(value[0]))
    return path


STEP = 4 * 8 / 500_000


@pytest.mark.parametrize(
    ("signs", "p", "expected"),
    [
        ([1.0] * 8, 0.5, [0.5] * 3 + [0.5 + STEP] * 4 + [0.5 + 2 * STEP]),  # overfitting
        ([0.0] * 4, 0.5, [0.5] * 3 + [0.5 - STEP]),
        ([1.0, 1.0, 1.0, -0.25], 0.5, [0.5] * 3 + [0.5 + STEP]),  # .69 on average
        ([1.0, 1.0, 1.0, -1.0], 0.5, [0.5] * 3 + [0.5 - STEP]),  # .5 on average
        ([0.0] * 8, STEP / 2, [STEP / 2] * 3 + [0.0] * 5),
        ([1.0] * 8, 1 - STEP / 2, [1 - STEP / 2] * 3 + [1.0] * 5),
    ],
)
def test_the_controller_follows_the_sign_and_stays_a_probability(signs, p, expected):
    np.testing.assert_allclose(_adapted(signs, p), expected, rtol=1e-6, atol=1e-9)


def test_the_probability_is_in_the_state_and_alike_on_every_number_of_devices():
    gan, ends = ada.wrap(TOY), []
    for devices in (1, 4):
        state, step = first_state(gan), virtual(gan, 0, devices)
        for number in range(4):
            state, metrics = step(state, float_batch(seed=number), KEY)
        ends.append(on_host((state, metrics)))
    (state, metrics), other = ends
    chex.assert_trees_all_close(other, (state, metrics), **CLOSE)
    assert metrics["discriminator/augment_p"] == state.memory["augment"]["p"]
    assert state.memory["augment"]["batches"] == 0


# The wrapper


def _context(train, count=6, **memory):
    return Context(jnp.int32(0), _keys(count), memory, train)


def test_only_training_sees_augmented_pictures_and_the_labels_are_left_alone():
    seen = []

    def score(variables, image, label, context):
        seen.append((image, label))
        return None, {}

    gan = diffaug.wrap(TOY._replace(score=score))
    images, label = _images(), np.eye(6)
    gan.score({}, images, label, _context(train=False))
    gan.score({}, images, label, _context(train=True))
    assert seen[0][0] is images and all(x[1] is label for x in seen)
    assert np.abs(seen[1][0] - images).max() > 0.1


def test_a_slope_is_that_at_the_picture_before_augmentation():
    # Of a linear critic after an affine map T it is T's transposed of the critic's slope.
    weights = _images(1)[0]

    def score(variables, image, label, context):
        return Scores((image * weights).sum((1, 2, 3))), {}

    gan = ada.scheduled(TOY._replace(score=score), lambda step: 0.9)
    images = _images()

    @jax.jit
    def judged(image, label=None):
        return gan.score({}, image, label, _context(train=True))[0].source

    slope = jax.jit(jax.grad(lambda x: judged(x).sum()))(images)
    view = a_view(image=images, score=judged)
    np.testing.assert_allclose(
        penalties.r1(view), 0.5 * np.square(slope).sum((1, 2, 3)).mean(), rtol=1e-5
    )
    zero, half = judged(0 * images), judged(images / 2)
    np.testing.assert_allclose(half - zero, (slope * images).sum((1, 2, 3)) / 2, **CLOSE)
    assert np.abs(slope - weights).max() > 0.1


def test_no_model_is_augmented_twice():
    with pytest.raises(UsageError, match="augments its pictures already"):
        ada.wrap(diffaug.wrap(TOY))
    with pytest.raises(UsageError, match=r"config={.augment.: 0}\)"):
        diffaug.wrap(small_model("r3gan", noise_images(8)))
    assert AUGMENTATIONS["none"](TOY) is TOY


def test_volumes_are_refused():
    with pytest.raises(UsageError, match="only images can be augmented"):
        diffaug.wrap(TOY).score({}, np.zeros((6, 2, 2, 2, 1)), None, _context(train=True))


@pytest.mark.parametrize(
    ("name", "augmentation"),
    [
        # Of ADA, r3gan's iteration is one: it augments by itself.
        pair if pair == ("gan", "diffaug") else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in itertools.product(MODELS, ("diffaug", "ada"))
    ],
)
def test_every_model_plays_a_finite_iteration(name, augmentation):
    data = noise_images(8, size=16, classes=3)
    config = small_config(name)
    if hasattr(config, "augment"):
        config = dataclasses.replace(config, augment=0.0)
    gan = AUGMENTATIONS[augmentation](grown(MODELS[name].make(data.spec, config, Plan(8, 4))))
    # As if it were late: everything is done to every picture.
    if augmentation == "ada":
        late = {**gan.memory["augment"], "p": jnp.ones(())}
        gan = gan._replace(memory={**gan.memory, "augment": late})
    state = jax.jit(lambda key: init_state(gan, key))(KEY)
    batch = {"image": data.images, "label": data.labels, "index": np.arange(8, dtype=np.int32)}
    for number in range(len(gan.updates)):
        before = state
        state, metrics = virtual(gan, number)(state, batch, KEY)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, before)
        chex.assert_tree_all_finite((state, metrics))
        assert metrics["skipped"] == 0
