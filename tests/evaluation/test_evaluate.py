"""Evaluating a generator: reading pictures, the reference's cache, what is written down."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SEED, TOY, first_state, noise_images

from jaxgan import devices
from jaxgan.errors import UsageError
from jaxgan.evaluation import history, picture_findings
from jaxgan.evaluation.after_save import EvaluateSaved
from jaxgan.evaluation.distances.frechet import Moments, frechet_distance
from jaxgan.evaluation.evaluator import (
    Evaluation,
    Evaluator,
    in_batches,
    labels_as_in,
    read_pictures,
    read_reference,
    reference_order,
)
from jaxgan.evaluation.findings import Judge
from jaxgan.evaluation.history import Entry
from jaxgan.evaluation.metrics import (
    METRICS,
    PRDC,
    Comparison,
    about,
    first_number,
    higher_is_better,
)
from jaxgan.evaluation.networks.network import Network, Reading, each_channel
from jaxgan.evaluation.picture_findings import Judgment
from jaxgan.evaluation.protocol import Measured, Protocol, check_comparable
from jaxgan.evaluation.verdicts import Finding
from jaxgan.optim import with_averaged_discriminator
from jaxgan.stages import as_stages
from jaxgan.training.loop import train
from jaxgan.training.record import Schedule

PIXELS = Network(
    "pixels",
    "0" * 64,
    "none",
    {"scale": np.float32(0.5)},
    lambda variables, images: Reading(
        variables["scale"] * images.reshape(len(images), -1).astype(jnp.float32),
        images.mean((1, 2)),
    ),
)
PROTOCOL = Protocol("pixels", "0" * 64, "none", "noise", "f", 8, 8, "none", "averaged", 1.0, 0)


def _read_by_hand(images):
    return 0.5 * images.reshape(len(images), -1).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8, 50])
def test_pictures_are_read_in_order_whatever_the_batch(batch_size):
    images = noise_images(20, 4).images
    seen = read_pictures(PIXELS, in_batches(images, batch_size), 20)
    np.testing.assert_array_equal(seen.features, _read_by_hand(images))
    np.testing.assert_allclose(seen.logits, images.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(seen.moments.mean, _read_by_hand(images).mean(0))
    np.testing.assert_allclose(
        seen.moments.covariance, np.cov(_read_by_hand(images), rowvar=False), atol=1e-8
    )


def test_batches_are_spread_over_the_devices():
    shares = []

    def read(variables, images):
        jax.debug.inspect_array_sharding(images, callback=lambda s: shares.append(s.num_devices))
        return PIXELS.read(variables, images)

    images = noise_images(8, 4).images
    seen = read_pictures(PIXELS._replace(read=read), [images], 8)
    assert shares == [jax.local_device_count()] and shares[0] == 4
    np.testing.assert_array_equal(seen.features, _read_by_hand(images))


def test_spread_leaves_whole_what_cannot_be_divided():
    assert devices.spread(np.zeros(8)).sharding.is_fully_replicated is False
    assert devices.spread(np.zeros(6)).sharding.is_fully_replicated


def test_the_reference_is_a_fixed_draw_and_is_read_once(tmp_path, caplog):
    dataset, reads = noise_images(20, 4, classes=4), []

    def read(variables, images):
        reads.append(1)  # when it is traced
        return PIXELS.read(variables, images)

    network = PIXELS._replace(read=read)
    order = reference_order(dataset, 9)
    assert len({*order}) == 9 and list(order[:5]) == list(reference_order(dataset, 5))
    first = read_reference(network, dataset, 9, cache_dir=tmp_path)
    np.testing.assert_array_equal(first.features, _read_by_hand(dataset.images[order]))
    np.testing.assert_array_equal(first.labels, dataset.labels[order])

    again = read_reference(network, dataset, 9, cache_dir=tmp_path)
    assert len(reads) == 1
    jax.tree.map(np.testing.assert_array_equal, again, first)
    (file,) = tmp_path.iterdir()
    others = dataclasses.replace(dataset, fingerprint="other")
    read_reference(network._replace(digest="1" * 64), dataset, 9, cache_dir=tmp_path)
    read_reference(network, dataset, 8, cache_dir=tmp_path)
    read_reference(network, others, 9, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4

    file.write_bytes(file.read_bytes()[:100])
    mended = read_reference(network, dataset, 9, cache_dir=tmp_path)
    assert "damaged" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, mended, first)


def test_a_reference_that_cannot_be_kept_is_used_all_the_same(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    seen = read_reference(PIXELS, noise_images(12, 4), 9, cache_dir=tmp_path)
    assert len(seen.features) == 9
    assert "No space left" in caplog.text and not list(tmp_path.iterdir())


def test_labels_are_those_of_the_data_each_about_equally_often():
    dataset = noise_images(10, 4, classes=5)
    labels = labels_as_in(dataset, 25, seed=1)
    np.testing.assert_array_equal(np.sort(labels[:10].argmax(1)), np.repeat(range(5), 2))
    assert labels.shape == (25, 5)
    assert (labels_as_in(dataset, 25, seed=2) != labels).any()


def test_a_network_of_one_channel_reads_three():
    images = noise_images(4, 4).images
    three = each_channel(PIXELS._replace(channels=1))
    seen = read_pictures(three, [images], 4)
    assert seen.features.shape == (4, 48) and seen.logits.shape == (4, 3)
    np.testing.assert_array_equal(seen.features[:, 16:32], _read_by_hand(images[..., 1:2]))
    assert three.name == "pixels_each_channel"


def _evaluator(num=200, metrics=("frechet", "prdc"), **changes):
    dataset = noise_images(200, 2, 1)
    reference = read_reference(PIXELS, dataset)
    return Evaluator(as_stages(TOY, 2, 8), PIXELS, dataset, reference, metrics, num, **changes)


def test_an_evaluation_measures_the_average_and_says_by_what():
    state = first_state()
    state = state.replace(step=jnp.asarray(7), ema=jax.tree.map(lambda x: 0 * x, state.ema))
    evaluator = _evaluator(num=150, metrics=("kid", "prdc", "frechet"))
    averaged, raw = evaluator(state), evaluator(state, raw=True)
    assert averaged.entry.step == 7
    assert [*averaged.entry.metrics][-1] == "pixels_frechet"
    assert {"precision", "recall", "density", "coverage"} < averaged.entry.metrics.keys()
    assert (averaged.images == 128).all() and len(averaged.images) == 150
    assert (raw.images != 128).any()
    assert averaged.entry.protocol.weights == "averaged" and raw.entry.protocol.weights == "last"
    assert averaged.entry.protocol[:3] == ("pixels", "0" * 64, "none")
    assert averaged.entry.protocol.num_generated == 150
    assert averaged.entry.protocol.num_reference == 200
    assert "kid" in evaluator.obstacles() and "1000" in evaluator.obstacles()["kid"]
    with pytest.raises(UsageError, match="weights averaged against last"):
        check_comparable(averaged.entry.protocol, raw.entry.protocol)


def test_the_scale_is_what_real_pictures_reach_in_the_samples_place():
    evaluator, held_out = _evaluator(90, ("frechet", "prdc", "kid", "ppl")), noise_images(110, 2, 1)
    scale = Judge(evaluator, held_out).scale
    features = _read_by_hand(evaluator.dataset.images[reference_order(evaluator.dataset)])
    halves = [Moments.of(half) for half in (features[:90], features[90:180])]
    assert scale.floor == {"pixels_frechet": pytest.approx(frechet_distance(*halves))}
    unseen = Moments.of(_read_by_hand(held_out.images[reference_order(held_out, 90)]))
    expected = frechet_distance(evaluator.reference.moments, unseen)
    assert scale.held_out == {"pixels_frechet": pytest.approx(expected)}
    assert scale.columns("ppl") == (None, None) and scale.num_held_out == scale.num_floor == 90
    without = Judge(_evaluator(metrics=("prdc",))).scale
    assert without.floor.keys() == set(PRDC) and not without.held_out


def test_every_number_has_a_meaning():
    numbers = {first_number(name, PIXELS) for name in METRICS} | {"modes_divergence", *PRDC}
    for name in (numbers - {""}) | {"fid", "kid", "cat_accuracy"}:
        assert about(name).meaning.endswith(".") and len(about(name).meaning) > 20
    assert about("of another version").meaning == ""


def test_the_distance_of_the_data_to_themselves_is_small():
    """The same pictures on both sides: 0; noise against what a constant draws: large."""
    evaluator = _evaluator(metrics=("frechet",))
    far = evaluator(first_state()).entry.metrics["pixels_frechet"]
    assert far.low < far.value < far.high
    constant = jax.tree.map(lambda x: 0 * x, first_state().ema)
    farther = evaluator(first_state().replace(ema=constant)).entry.metrics["pixels_frechet"]
    real = evaluator.reference.moments
    # Of a point at 64 = 128 / 2 in each pixel.
    expected = ((real.mean - 64) ** 2).sum() + np.trace(real.covariance)
    np.testing.assert_allclose(farther.value, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "num", "message"),
    [
        ("fid", 200, "fid is the Fréchet distance of Inception's features"),
        ("frechet", 4, "needs at least 5 pictures on either side, one more than features, and"),
        ("kid", 200, "kid needs at least 1000 pictures"),
        ("prdc", 50, "prdc needs at least 100 pictures"),
        ("is", 200, "is needs the probabilities of classes"),
        ("accuracy", 200, "this model takes none"),
        ("modes", 200, "stacked_mnist"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_drawn(name, num, message):
    evaluator = _evaluator(num, (name,))
    assert message in evaluator.obstacles()[name]
    assert not evaluator(first_state()).entry.metrics


def test_accuracy_needs_the_data_s_own_labels():
    evaluator = dataclasses.replace(
        _evaluator(metrics=("accuracy",)),
        dataset=noise_images(20, 2, 1, classes=4),
        labels=np.ones((200, 4), np.float32),
    )
    assert "a classifier of the data's own labels" in evaluator.obstacles()["accuracy"]


def test_fewer_held_out_pictures_than_a_batch_have_scores():
    judge, state = Judge(_evaluator(), noise_images(5, 2, 1)), first_state()
    found = judge(judge.evaluator(state), state, [])
    (recognized,) = [f for f in found.findings if f.name == "discriminator/recognized"]
    assert np.isfinite(recognized.value), recognized.sentence


# What is written down.


def _entry(step, value, protocol=PROTOCOL, name="pixels_frechet"):
    return Entry(step, protocol, {name: Measured(value, value - 1, value + 1)})


def test_entries_come_back_the_last_of_each_step_and_protocol(tmp_path):
    assert history.read(tmp_path) == []
    other = PROTOCOL._replace(weights="last")
    for entry in (_entry(2, 5.0), _entry(1, 7.0), _entry(2, 4.0), _entry(2, 9.0, other)):
        history.append(tmp_path, entry)
    assert history.read(tmp_path) == [_entry(1, 7.0), _entry(2, 4.0), _entry(2, 9.0, other)]


def test_a_torn_line_is_left_behind(tmp_path):
    history.append(tmp_path, _entry(1, 7.0))
    with (tmp_path / history.FILE).open("a") as file:
        file.write('{"step": 2, "met')
    history.append(tmp_path, _entry(3, 6.0))
    assert [entry.step for entry in history.read(tmp_path)] == [1, 3]


def test_numbers_that_are_not_finite_are_never_the_best(tmp_path):
    history.append(tmp_path, _entry(1, float("nan")))
    history.append(tmp_path, _entry(2, 5.0))
    entries = history.read(tmp_path)
    assert history.best(entries, "pixels_frechet").step == 2


def test_the_best_is_the_lowest_distance_and_the_highest_share():
    values = [(1, 3.0), (2, 1.0), (3, 2.0)]
    for name, step in (("pixels_frechet", 2), ("kid", 2), ("accuracy", 1), ("pixels_score", 1)):
        entries = [_entry(*value, name=name) for value in values]
        assert history.best(entries, name).step == step


def test_a_collapsed_generator_s_precision_is_not_the_best():
    def entry(step, *values):
        return Entry(step, PROTOCOL, dict(zip(PRDC, map(Measured, values), strict=True)))

    collapsed, whole = entry(1, 1.0, 0.0, 3.0, 0.05), entry(2, 0.7, 0.6, 0.9, 0.8)
    nothing = Entry(3, PROTOCOL, {"precision": Measured(1.0), "density": Measured(None)})
    for name in (*PRDC, None):
        assert history.best([collapsed, whole, nothing], name) == whole


def test_the_protocol_of_the_training_is_the_one_that_measured_the_most():
    other = PROTOCOL._replace(num_generated=9)
    training = [_entry(step, 1.0) for step in (2, 4, 6)]
    entries = sorted([_entry(1, 0.1, other), *training, _entry(6, 0.2, other)])
    assert history.mostly(entries) == training
    assert history.mostly([]) == []
    assert history.mostly([_entry(1, 0.1, other), _entry(2, 0.1)]) == [_entry(1, 0.1, other)]


def test_numbers_of_other_protocols_are_not_compared():
    other = PROTOCOL._replace(num_generated=9, digest="1" * 64)
    entries = [_entry(1, 1.0), _entry(2, 2.0, other)]
    with pytest.raises(UsageError, match="digest 00000000 against 11111111; num_generated 8"):
        history.best(entries, "pixels_frechet")
    check_comparable(PROTOCOL, PROTOCOL._replace(seed=3))
    with pytest.raises(UsageError, match="has not been measured, but pixels_frechet"):
        history.best(entries, "fid")


# During training.


class Scripted:
    """An evaluator that gives the values of a list."""

    def __init__(self, values):
        self.values, self.steps = dict(values), []

    def protocol(self):
        return PROTOCOL

    def __call__(self, state):
        self.steps.append(int(state.step))
        entry = _entry(self.steps[-1], self.values[self.steps[-1]])
        return Evaluation(entry, None, np.zeros((1, 2, 2, 1), np.uint8))


class Trusting(Judge):
    """A judge who says whether a distance is below 3, and nothing else."""

    scale = None

    def __call__(self, evaluation, state, curves):
        value = evaluation.entry.metrics["pixels_frechet"].value
        verdict = "good" if value < 3 else "watch"
        return Judgment([Finding("near", value, verdict, f"The distance is {value}.")], [])


def _train(workdir, steps, judge=None, every=2, say=print, **changes):
    settings = {"model": "toy", "dataset": "noise"}
    schedule = Schedule(1, 100, 3, keep=1, evaluate_every=every, num_samples=4, **changes)
    return train(
        TOY,
        noise_images(20, 2, 1),
        batch_size=8,
        steps=steps,
        seed=SEED,
        workdir=workdir,
        schedule=schedule,
        after_save=None if judge is None else EvaluateSaved(judge, settings, say),
        progress=False,
    )


def _steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdecimal())


def test_the_best_checkpoint_stays(tmp_path):
    values = {2: 5.0, 4: 1.0, 6: 3.0, 8: 2.0, 9: 4.0, 11: 0.5}
    evaluator = Scripted(values)
    _train(tmp_path, 9, Trusting(evaluator))
    assert evaluator.steps == [2, 4, 6, 8, 9]
    assert _steps(tmp_path) == [4, 9]
    assert [entry.step for entry in history.read(tmp_path)] == [2, 4, 6, 8, 9]
    # A run that goes on remembers it.
    resumed = Scripted({10: 3.0, 11: 2.0})
    _train(tmp_path, 11, Trusting(resumed))
    assert resumed.steps == [10, 11] and _steps(tmp_path) == [4, 11]


def test_findings_are_told_when_they_change_and_the_report_is_renewed(tmp_path):
    told = []

    def say(text):
        told.append(text)
        assert text.splitlines()[-1][7:] in (tmp_path / "report.html").read_text()

    values = {2: 5.0, 4: 4.0, 6: 1.0, 8: 2.0}
    _train(tmp_path, 8, Trusting(Scripted(values)), say=say)
    assert told == [
        f"{tmp_path.name}, evaluated at step 2:\nwatch: The distance is 5.0.",
        f"{tmp_path.name}, evaluated at step 6:\n good: The distance is 1.0.",
    ]


def test_what_real_pictures_reach_is_found_once(monkeypatch):
    judge, state = Judge(_evaluator(), noise_images(5, 2, 1)), first_state()
    first = judge(judge.evaluator(state), state, [])
    monkeypatch.setattr(picture_findings, "read_reference", None)
    again = judge(judge.evaluator(state), state, [])
    assert again.findings == first.findings and len(first.findings) > 5


def test_an_evaluation_that_a_kill_left_out_is_made_later(tmp_path):
    class Killed(Scripted):
        def __call__(self, state):
            if int(state.step) == 4:
                raise KeyboardInterrupt
            return super().__call__(state)

    values = {2: 5.0, 4: 1.0, 6: 3.0}
    for steps, later in ((4, [4]), (6, [4, 6])):
        with pytest.raises(KeyboardInterrupt):
            _train(tmp_path / str(steps), steps, Trusting(Killed(values)))
        again = Scripted(values)
        _train(tmp_path / str(steps), steps, Trusting(again))
        assert again.steps == later
        _train(tmp_path / str(steps), steps, Trusting(again))
        assert again.steps == later  # and no second time
        assert [entry.step for entry in history.read(tmp_path / str(steps))] == [2, *later]


def test_without_a_finite_number_no_checkpoint_is_the_best(tmp_path):
    _train(tmp_path, 4, Trusting(Scripted({2: float("nan"), 4: float("inf")})))
    assert _steps(tmp_path) == [4]


def test_an_evaluation_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "append", full)
    _train(tmp_path, 2, Trusting(Scripted({2: 5.0})))
    assert "the evaluation of step 2 is lost" in caplog.text and _steps(tmp_path) == [2]


def test_evaluating_does_not_change_the_training(tmp_path):
    plain = _train(tmp_path / "plain", 4)
    measured = _train(tmp_path / "measured", 4, Judge(_evaluator(metrics=("frechet",))))
    jax.tree.map(np.testing.assert_array_equal, plain, measured)
    assert len(history.read(tmp_path / "measured")) == 2


def test_modes_are_read_from_three_digits():
    digits = np.random.default_rng(0).integers(0, 10, (300, 3))
    logits = np.eye(10, dtype=np.float32)[digits].reshape(300, 30)
    reader = PIXELS._replace(
        name="classifier_each_channel",
        read=lambda variables, images: Reading(jnp.zeros((len(images), 2)), logits[: len(images)]),
    )
    seen = read_pictures(reader, [np.zeros((300, 2, 2, 3), np.uint8)], 300)
    evaluator = dataclasses.replace(_evaluator(metrics=("modes",)), network=reader)
    assert not evaluator.obstacles()
    measured = METRICS["modes"].measure(Comparison(reader, seen, seen, 0, None, None))
    assert measured["modes"].value == len({*(digits @ [100, 10, 1])})
    assert measured["modes"].low < measured["modes"].value + 20
    assert measured["modes_divergence"].value > 0


def _names_the_brighter(variables, image, label, context):
    """A toy discriminator that names one of two pixels, which one its weights say."""
    scores, stats = TOY.score(variables, image, label, context)
    logits = image.reshape(len(image), 4)[:, :2] * variables["params"]["v"][:2]
    return scores._replace(label_logits=logits), stats


def test_errors_are_those_of_the_last_and_of_the_averaged_weights():
    held_out = noise_images(20, 2, 1, classes=2)  # not whole batches of 8
    gan = with_averaged_discriminator(TOY._replace(score=_names_the_brighter), 8.0, 8)
    state = first_state(gan)
    (name,) = state.memory
    averaged = jax.tree.map(jnp.negative, state.variables["discriminator"])
    state = state.replace(memory={name: averaged})
    evaluator = dataclasses.replace(
        _evaluator(metrics=("errors",), held_out=held_out),
        stages=as_stages(gan, 2, 8),
        dataset=noise_images(200, 2, 1, classes=2),
    )
    assert not evaluator.obstacles()
    found = evaluator(state).entry.metrics
    brighter = held_out.images.reshape(20, 4)[:, :2].argmax(1)
    wrong = (brighter != held_out.labels.argmax(1)).mean()
    assert [*found] == ["averaged_test_error", "last_test_error"]
    np.testing.assert_allclose(found["last_test_error"].value, wrong)
    np.testing.assert_allclose(found["averaged_test_error"].value, 1 - wrong)
    assert 0 < wrong < 0.5 or 0.5 < wrong < 1
    assert not higher_is_better("last_test_error")


def test_errors_need_classes_and_held_out_pictures():
    unnamed = _evaluator(metrics=("errors",))
    assert "names none; train improved_mlp" in unnamed.obstacles()["errors"]
    gan = TOY._replace(score=_names_the_brighter)
    alone = dataclasses.replace(
        unnamed, stages=as_stages(gan, 2, 8), dataset=noise_images(200, 2, 1, classes=2)
    )
    assert "--holdout=0.1" in alone.obstacles()["errors"]


def test_paths_between_latents_have_lengths():
    evaluator = _evaluator(metrics=("ppl",))
    measured = evaluator(first_state()).entry.metrics["pixels_path_length"]
    assert 0 < measured.low < measured.value < measured.high < np.inf
    # A generator that does not look at its latents: every path is a point.
    constant = first_state().replace(ema=jax.tree.map(lambda x: 0 * x, first_state().ema))
    assert evaluator(constant).entry.metrics["pixels_path_length"].value == 0
