"""Training that sees the labels of a few pictures: which, in which order, in every loop."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import DISCRIMINATOR, GENERATOR, SEED, TOY, noise_images, on_host, virtual

from jaxgan.core import seen
from jaxgan.data import DataError, batches, with_few_labels
from jaxgan.data.few_labels import labeled_examples
from jaxgan.errors import UsageError
from jaxgan.runs import readers
from jaxgan.runs.train import Options, prepare
from jaxgan.training import workdir as workdirs
from jaxgan.training.blocks import blocks
from jaxgan.training.loop import init, train
from jaxgan.training.record import Schedule

ALL = noise_images(30, size=2, channels=1, classes=3)
FEW = with_few_labels(ALL, 6)
BATCH, STEPS = 8, 4
SCHEDULE = Schedule(log_every=100, sample_every=100, checkpoint_every=100, num_samples=4)


def _agrees(view):
    """How far the scores of labeled pictures are from whether they are of the first class."""
    return jnp.square(view.score(view.batch["labeled"]).source - view.batch["label"][:, 0]).mean()


GAN = TOY._replace(
    updates=(
        DISCRIMINATOR._replace(objective={**DISCRIMINATOR.objective, "label": (1.0, _agrees)}),
        GENERATOR._replace(fresh=True),
    ),
    optimizers=dict.fromkeys(TOY.optimizers, optax.sgd(0.05)),
)


def _numbers(pictures):
    """Which of the data set's pictures they are."""
    same = (ALL.images[None] == np.asarray(pictures)[:, None]).all((2, 3, 4))
    assert (same.sum(1) == 1).all()
    return same.argmax(1)


@pytest.mark.parametrize("seed", [0, 1, -1])
def test_as_many_of_each_class_are_chosen_by_the_seed_alone(seed):
    chosen = labeled_examples(FEW, seed)
    np.testing.assert_array_equal(ALL.labels[chosen].sum(0), [2, 2, 2])
    assert len(set(chosen)) == 6
    np.testing.assert_array_equal(chosen, labeled_examples(with_few_labels(ALL, 6), seed))
    assert set(chosen) != set(labeled_examples(FEW, 7))


def test_a_batch_holds_the_chosen_labels_and_no_other():
    chosen, told = set(labeled_examples(FEW, SEED)), []
    with (
        batches(FEW, seed=SEED, batch_size=BATCH) as few,
        batches(ALL, seed=SEED, batch_size=BATCH) as usual,
    ):
        for _ in range(3):
            batch, before = next(few), next(usual)
            np.testing.assert_array_equal(batch["image"], before["image"])
            numbers = _numbers(batch["labeled"])
            np.testing.assert_array_equal(batch["label"], ALL.labels[numbers])
            told += numbers.tolist()
    assert set(told) == chosen
    # Each pass over the six has an order of its own.
    passes = [tuple(told[n : n + 6]) for n in range(0, 24, 6)]
    assert all(set(one) == chosen for one in passes) and len(set(passes)) > 1


def test_labeled_pictures_are_seen_as_the_others_are():
    with batches(FEW, seed=SEED, batch_size=BATCH, flip=True) as drawn:
        batch = next(drawn)
    found, mirrored = seen(batch), batch["mirrored"]
    assert mirrored.any() and not mirrored.all()
    for name in ("image", "labeled"):
        expected = (batch[name].astype(np.float32) - 127.5) / 127.5
        expected[mirrored] = expected[mirrored, :, ::-1]
        np.testing.assert_allclose(found[name], expected, atol=1e-6)


def _train(steps=STEPS, **changes):
    settings = {"batch_size": BATCH, "seed": SEED, "schedule": SCHEDULE, "progress": False}
    return on_host(train(GAN, FEW, steps=steps, flip=True, **settings | changes))


@pytest.fixture(scope="module")
def whole():
    return _train()


@pytest.mark.parametrize("resident", [True, False])
def test_the_devices_loop_is_the_hosts(resident, whole):
    told = blocks(
        GAN,
        init(GAN, SEED),
        FEW,
        batch_size=BATCH,
        seed=SEED,
        flip=True,
        start=0,
        pause=lambda step: STEPS,
        length=3,
        resident=resident,
    )
    *_, (_, state, _) = told
    chex.assert_trees_all_close(on_host(state), whole, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_is_the_unbroken_one(tmp_path, whole):
    _train(1, workdir=tmp_path / "run")
    chex.assert_trees_all_equal(_train(workdir=tmp_path / "run"), whole)


def test_many_devices_are_one():
    with batches(FEW, seed=SEED, batch_size=BATCH) as drawn:
        batch = next(drawn)
    state = jax.tree.map(jnp.asarray, on_host(init(GAN, SEED)))
    one, four = (virtual(GAN, devices=n)(state, batch, jax.random.key(0)) for n in (1, 4))
    chex.assert_trees_all_close(one, four, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (7, "labeled=7 cannot be divided among the 3 classes.*try .*labeled=6"),
        (1, "labeled=1 cannot be divided.*try .*labeled=3"),
        (33, "labeled=33 asks for 11 pictures of each class and 10 show.*try .*labeled=30"),
    ],
)
def test_a_number_that_does_not_go_names_one_that_does(count, message):
    with pytest.raises(DataError, match=message):
        with_few_labels(ALL, count)


def test_labels_are_needed():
    with pytest.raises(DataError, match="labeled needs labels and data set 'noise' has none"):
        with_few_labels(noise_images(8), 2)


# As a run


def _prepared(labeled, workdir, model="improved_mlp"):
    pictures = noise_images(30, size=8, channels=1, classes=3)
    options = Options(batch_size=8, steps=1, labeled=labeled)
    return prepare(model, pictures, options, workdir=workdir)


def test_a_run_keeps_to_its_number(tmp_path):
    prepared = _prepared(6, tmp_path / "run")
    assert prepared.dataset.labeled == 6 == prepared.settings["labeled"]
    (tmp_path / "run").mkdir()
    workdirs.write(tmp_path / "run", prepared.settings)
    workdirs.check(tmp_path / "run", prepared.settings)
    for other in (9, None):
        with pytest.raises(UsageError, match="labeled was 6 and is now (9|null)"):
            workdirs.check(tmp_path / "run", _prepared(other, tmp_path / "run").settings)


def test_a_run_from_before_there_was_a_number_goes_on(tmp_path):
    now = _prepared(None, tmp_path / "run").settings
    (tmp_path / "run").mkdir()
    workdirs.write(tmp_path / "run", {n: x for n, x in now.items() if n != "labeled"})
    workdirs.check(tmp_path / "run", now)


def test_models_without_use_for_it_name_those_that_have():
    with pytest.raises(UsageError, match="dcgan does not learn .*improved.* or .*improved_mlp"):
        _prepared(6, "nowhere", model="dcgan")


def test_errors_are_counted_where_few_labels_were_shown():
    assert "errors" in readers.metric_names(None, FEW)
    assert "errors" not in readers.metric_names(None, ALL)
    assert readers.metric_names(["kid"], FEW) == ("kid",)
