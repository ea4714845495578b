"""What is measured of a Gan that translates, on one whose translations are known."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import TOY, first_state, noise_images
from test_evaluate import PIXELS

from jaxgan.core import Fake
from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.frechet import Moments, frechet_distance
from jaxgan.evaluation.evaluator import Evaluator, inputs_from, labels_as_in, read_reference
from jaxgan.evaluation.metrics import METRICS, higher_is_better
from jaxgan.evaluation.networks.network import Reading
from jaxgan.runs import readers
from jaxgan.sampling import pictures
from jaxgan.sampling.draw import Translations, draw
from jaxgan.stages import as_stages

DATA = noise_images(200, size=2, channels=1, classes=2)
KEEP, INVERT = np.eye(2, dtype=np.float32)


def _generate(variables, batch, context):
    """Class 0 keeps a picture, class 1 inverts it."""
    sign = 1 - 2 * batch["label"][:, 1].reshape(-1, 1, 1, 1)
    return Fake(sign * batch["image"], batch["label"]), {}


MIRROR = TOY._replace(
    generate=_generate, targets=lambda label, rng: label, conditional=True, latent=None
)
# Which reads as class 0 what has a bright first pixel.
READER = PIXELS._replace(
    read=lambda variables, images: Reading(
        images.reshape(len(images), -1).astype(jnp.float32),
        jnp.stack([images[:, 0, 0, 0], 255 - images[:, 0, 0, 0]], -1).astype(jnp.float32),
    ),
    label_names=DATA.spec.label_names,
    label_kind="class",
)


def _evaluator(labels, shown, metrics):
    return Evaluator(
        as_stages(MIRROR, 2, 8),
        READER,
        DATA,
        read_reference(READER, DATA),
        metrics,
        len(DATA),
        np.resize(labels, (len(DATA), 2)),
        inputs=inputs_from(DATA, len(DATA))._replace(labels=np.resize(shown, (len(DATA), 2))),
    )


def _measured(labels, shown, metrics):
    found = _evaluator(labels, shown, metrics)(first_state()).entry.metrics
    return {name: measured.value for name, measured in found.items()}


def test_distances_to_the_translation_and_to_the_way_back():
    twice = 2 * np.abs(DATA.images / 127.5 - 1).mean()  # x and -x are so far apart
    for asked, shown, there, back in (
        (KEEP, KEEP, 0, 0),
        (INVERT, INVERT, twice, 0),
        (INVERT, KEEP, twice, twice),
        (KEEP, INVERT, 0, twice),
    ):
        found = _measured(asked, shown, ["changes"])
        assert found.keys() == {"translation_distance", "reconstruction_distance"}
        np.testing.assert_allclose(
            [found["translation_distance"], found["reconstruction_distance"]],
            [there, back],
            rtol=0.01,
        )
    assert not higher_is_better("reconstruction_distance")


def test_pictures_of_a_label_are_compared_with_the_real_ones_that_show_it():
    found = _measured([KEEP, INVERT], KEEP, ["frechet_by_label", "accuracy"])
    evaluator = _evaluator([KEEP, INVERT], KEEP, ["frechet_by_label"])
    assert [*found] == ["class 0_pixels_frechet", "class 1_pixels_frechet", "accuracy"]
    images = evaluator.inputs.images
    inverted, real = (
        Moments.of(x.reshape(100, 4).astype(np.float32))
        for x in (255 - images[1::2], DATA.images[1::2])
    )
    expected = frechet_distance(real, inverted)
    np.testing.assert_allclose(found["class 1_pixels_frechet"], expected, rtol=1e-5)
    # What is bright is read as class 0, and as class 1 when it is inverted.
    np.testing.assert_allclose(found["accuracy"], (images[:, 0, 0, 0] > 127).mean())


def test_what_cannot_be_measured_is_said():
    few = dataclasses.replace(_evaluator(KEEP, KEEP, ["frechet_by_label"]), num=8)
    few = dataclasses.replace(few, labels=few.labels[:4])
    assert "no label has so many; take more" in few.obstacles()["frechet_by_label"]
    noise = Evaluator(as_stages(TOY, 2, 8), READER, DATA, few.reference, ["changes"], 8)
    assert "this model makes them of noise" in noise.obstacles()["changes"]
    assert set(METRICS) > {"changes", "frechet_by_label"}


def test_pictures_are_asked_for_other_labels_than_their_own():
    inputs, labels = inputs_from(DATA, 200, seed=1), labels_as_in(DATA, 200, seed=1)
    assert 0.3 < (inputs.labels == labels).mean() < 0.7
    assert len(np.unique(inputs.images.reshape(200, -1), axis=0)) == 200


def test_the_usual_metrics_are_more_for_one_that_translates():
    said = []
    made = readers.evaluator(as_stages(MIRROR, 2, 8), DATA, 20, features="random", say=said.append)
    assert made.metrics[-2:] == ("changes", "frechet_by_label")
    assert any("none are held out" in line for line in said)


def test_pictures_and_gans_must_go_together():
    images = DATA.images[:2]
    with pytest.raises(UsageError, match="translates pictures: give some"):
        draw(MIRROR, {}, 2, label=DATA.labels[:2])
    with pytest.raises(UsageError, match="makes pictures of noise"):
        draw(TOY, {}, 2, image=images)


def test_a_sheet_has_a_row_for_each_picture_and_a_column_for_each_label():
    images = DATA.images[:3]
    asked = Translations.of(images, np.stack([INVERT, KEEP]), ("keep", "invert"))
    assert asked.captions == ("invert", "keep")
    made = asked.drawn(lambda num, **chosen: draw(MIRROR, {}, num, **chosen))
    np.testing.assert_array_equal(made[:, 0], images)
    np.testing.assert_array_equal(made[:, 1], 255 - images)
    np.testing.assert_array_equal(made[:, 2], images)
    sheet = asked.sheet(lambda num, **chosen: draw(MIRROR, {}, num, **chosen))
    cells = 3 * 66 - 2
    assert sheet.shape[1:] == (cells, 1) and sheet.shape[0] > cells
    first = sheet[-cells : 64 - cells, :64]
    np.testing.assert_array_equal(first, pictures.enlarged(images[0]))
    top = sheet[:-cells]
    assert not top[:, :64].any() and top[:, 66:130].any() and top[:, 132:].any()
