"""The pictures that the library draws."""

import json

import numpy as np
import pytest

from jaxgan.data import load
from jaxgan.data.sources import glyphs, shapes
from jaxgan.data.sources.render import Scene, Solid, render

SETS = {"shapes": (shapes, (64, 64, 3), 24), "glyphs": (glyphs, (28, 28, 1), 10)}


@pytest.mark.parametrize("name", SETS)
def test_a_picture_is_a_function_of_the_seed_and_its_number(name):
    module, shape, num_labels = SETS[name]
    image, label = module.draw(3, 5, shape[0])
    assert image.shape == shape and image.dtype == np.uint8
    assert label.shape == (num_labels,) and label.dtype == np.float32
    again, same = module.draw(3, 5, shape[0])
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(label, same)
    for other in [(3, 6), (4, 5)]:
        assert (module.draw(*other, shape[0])[0] != image).any()


@pytest.mark.parametrize("name", SETS)
def test_loaded_sets(name, tmp_path):
    module, shape, num_labels = SETS[name]

    def load_it(**settings):
        return load(name, cache_dir=tmp_path, **settings)

    dataset = load_it(num_examples=120, seed=1)
    assert dataset.images.shape == (120, *shape) and dataset.labels.shape == (120, num_labels)
    assert dataset.spec.synthetic and len(dataset.spec.label_names) == num_labels
    for i in (0, 99, 119):
        image, label = module.draw(1, i, shape[0])
        np.testing.assert_array_equal(dataset.images[i], image)
        np.testing.assert_array_equal(dataset.labels[i], label)
    more = load_it(num_examples=130, seed=1)
    np.testing.assert_array_equal(more.images[:120], dataset.images)
    held = load_it(num_examples=20, seed=1, split="holdout")
    train = {image.tobytes() for image in more.images}
    assert not train & {image.tobytes() for image in held.images}
    other = load_it(num_examples=120, seed=2)
    prints = [one.fingerprint for one in (dataset, more, held, other)]
    assert len(set(prints)) == 4
    assert load_it(num_examples=120, seed=1).fingerprint == prints[0]
    assert load_it(num_examples=2, image_size=32).images.shape[1:3] == (32, 32)


def test_the_tags_are_those_of_i_clevr():
    colors = ["gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"]
    kinds = ["cube", "sphere", "cylinder"]
    assert [f"{color} {kind}" for kind in kinds for color in colors] == list(shapes.TAGS)


def test_the_tags_are_in_the_order_of_the_real_file(real_data):
    numbers = json.loads((real_data / "iclevr" / "objects.json").read_text())
    assert [numbers[tag] for tag in shapes.TAGS] == list(range(24))


def test_scenes_have_one_to_three_solids():
    labels = np.stack([shapes.draw(0, i, 16)[1] for i in range(300)])
    assert set(labels.sum(1)) == {1, 2, 3} and (labels.sum(0) > 0).all()


HUES = {"red": (1, 0, 0), "blue": (0, 0, 1), "green": (0, 1, 0), "yellow": (1, 1, 0)}


@pytest.mark.parametrize("color", HUES)
def test_a_tagged_color_is_seen_and_no_other(color):
    """A picture with one solid has saturated pixels, and they are of its color."""
    tags = {i for i, tag in enumerate(shapes.TAGS) if tag.startswith(color)}
    seen = 0
    for i in range(300):
        image, label = shapes.draw(0, i, 32)
        if label.sum() == 1 and label.argmax() in tags:
            pixels = image.reshape(-1, 3).astype(float)
            vivid = pixels[np.ptp(pixels, axis=1) > 40]
            assert len(vivid) > 10
            middle = (vivid.max(1, keepdims=True) + vivid.min(1, keepdims=True)) / 2
            matches = ((vivid > middle) == np.array(HUES[color], bool)).all(1)
            assert matches.mean() > 0.9
            seen += 1
    assert seen >= 5


def scene(*solids):
    eye, target, light = np.array([0, -8, 5.0]), np.zeros(3), np.array([-0.5, -0.4, 0.77])
    return Scene(eye, target, 0.55, light, solids)


def solid(kind, x=0.0, y=0.0, size=0.8, color=(1, 0, 0), gloss=0.0):
    return Solid(kind, x, y, size, 0.4, np.array(color, float), gloss)


def redness(image):
    return image[0] - image[1]


@pytest.mark.parametrize("kind", ["cube", "sphere", "cylinder"])
def test_a_solid_is_drawn_where_it_stands_and_darkens_the_ground(kind):
    empty, full = render(scene(), 48), render(scene(solid(kind, x=-1.0)), 48)
    rows, columns = np.nonzero(redness(full) > 0.1)
    assert len(rows) > 60 and columns.max() < 26 and columns.min() > 2
    shadow = redness(full) < 0.05
    assert (full <= empty + 1e-5)[:, shadow].all()
    assert (full < 0.8 * empty)[:, shadow].any()
    assert np.isfinite(full).all()


def test_the_near_solid_covers_the_far_one_in_any_order():
    near, far = solid("cube", y=-1.0), solid("cube", y=0.6, color=(0, 0, 1))
    one, other = render(scene(near, far), 48), render(scene(far, near), 48)
    np.testing.assert_allclose(one, other, atol=1e-6)
    alone = render(scene(near), 48)
    covered = redness(alone) > 0.2
    np.testing.assert_allclose(redness(one)[covered], redness(alone)[covered], atol=0.1)


def test_more_samples_change_only_the_edges():
    few, many = render(scene(solid("sphere")), 48, 3), render(scene(solid("sphere")), 48, 8)
    assert np.abs(few - many).mean() < 0.003


def test_a_sphere_is_seen_whole():
    """Its area in pixels is that of its outline, a circle to within the perspective."""
    ball = solid("sphere", gloss=1.0)
    area = (redness(render(scene(ball), 96, 4)) > 0.05).sum()
    focal, distance = 48 / np.tan(0.275), np.linalg.norm([0, -8, 5.0 - 0.8])
    assert abs(area / (np.pi * (focal * 0.8 / distance) ** 2) - 1) < 0.08


def test_digits_differ_more_between_classes_than_within():
    images, labels = zip(*(glyphs.draw(0, i, 28) for i in range(1500)), strict=True)
    images = np.stack(images).reshape(1500, -1).astype(np.float32) / 255
    classes = np.stack(labels).argmax(1)
    train, test = slice(0, 1200), slice(1200, 1500)
    # Without the term that is the same for all candidates.
    distances = (images[train] ** 2).sum(1) - 2 * images[test] @ images[train].T
    nearest = classes[train][distances.argmin(1)]
    assert (nearest == classes[test]).mean() > 0.85


def test_digits_are_white_on_black_and_inside():
    images = np.stack([glyphs.draw(1, i, 28)[0] for i in range(300)])
    assert (images.max((1, 2, 3)) > 200).all()
    share = images.mean((1, 2, 3)) / 255
    assert share.min() > 0.03 and share.max() < 0.35
    edges = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]])
    assert edges.mean() < 4
