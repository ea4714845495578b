"""The device's loop is the host's, in blocks of any length, wherever the pictures lie."""

import signal
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import DISCRIMINATOR, GENERATOR, SEED, TOY, noise_images, on_host

from jaxgan import files, penalties
from jaxgan.core import Fake, Stage, Update
from jaxgan.training import blocks as device_loop
from jaxgan.training.blocks import blocks
from jaxgan.training.loop import NonFiniteError, init, train
from jaxgan.training.record import Schedule
from jaxgan.training.signals import Stopped

DATA = noise_images(10, size=2, channels=1)
BATCH = 8
SCHEDULE = Schedule(log_every=1, sample_every=100, checkpoint_every=100, num_samples=4)


def _count(view):
    return view.on_real.source.mean(), {"calls": view.memory["calls"] + 1}


# All that a schedule can be: repeats, a lazy update, a fresh lazy one, and one that may stay put.
RICH = TOY._replace(
    updates=(
        DISCRIMINATOR._replace(repeat=2),
        Update("discriminator", {"r1": (0.1, penalties.r1), "count": (0.0, _count)}, every=3),
        GENERATOR._replace(fresh=True, every=2, when=lambda memory: memory["calls"] < 3),
    ),
    optimizers={"generator": optax.sgd(0.01), "discriminator": optax.sgd(0.02)},
    memory={"calls": jnp.zeros((), jnp.int32)},
    ema=lambda step: 0.7,
)


def _train(steps=10, gan=RICH, workdir=None, schedule=SCHEDULE, data=DATA, **changes):
    settings = {"batch_size": BATCH, "seed": SEED, "flip": True, "progress": False} | changes
    return on_host(train(gan, data, steps=steps, workdir=workdir, schedule=schedule, **settings))


def _blocks(cuts, steps=10, data=DATA, gan=RICH, **settings):
    """The state after so many steps in blocks that end at the cuts, and each block's metrics."""
    cuts, metrics = sorted({*cuts, steps}), []
    settings = {"batch_size": BATCH, "seed": SEED, "flip": True, "start": 0} | settings
    told = blocks(
        gan,
        init(gan, SEED),
        data,
        pause=lambda step: next((cut for cut in cuts if cut > step), steps),
        **settings,
    )
    for step, state, found in told:  # noqa: B007
        metrics.append((step, on_host(found)))
    return on_host(state), metrics


@pytest.fixture(scope="module")
def whole():
    return _blocks([], length=10)


def test_the_schedules_agree_to_rounding(whole):
    chex.assert_trees_all_close(whole[0], _train(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [1, 3, 4])
def test_where_it_is_cut_changes_no_bit(length, whole):
    chex.assert_trees_all_equal(_blocks(range(0, 10, length), length=10)[0], whole[0])


@pytest.mark.parametrize("length", [None, 2])
def test_a_block_of_any_room_gives_the_same(length, whole):
    chex.assert_trees_all_equal(_blocks([], length=length)[0], whole[0])


def test_pictures_that_are_sent_are_those_that_lie_there(whole, monkeypatch):
    monkeypatch.setattr(device_loop, "RESIDENT_SHARE", 0.0)
    chex.assert_trees_all_equal(_blocks([3, 4], length=10)[0], whole[0])
    # Room for one iteration at a time.
    monkeypatch.setattr(device_loop, "STREAMED_BYTES", 1)
    state, metrics = _blocks([], length=10)
    assert [step for step, _ in metrics] == [*range(1, 11)]
    chex.assert_trees_all_equal(state, whole[0])


def test_labels_come_along():
    def generate(variables, batch, context):
        fake, stats = TOY.generate(variables, batch, context)
        return Fake(fake.image, batch["label"]), stats

    def score(variables, image, label, context):
        scores, stats = TOY.score(variables, image, label, context)
        return scores._replace(source=scores.source * (1 + label[:, 1])), stats

    data = noise_images(12, size=2, channels=1, classes=3)
    run = {"gan": TOY._replace(generate=generate, score=score), "data": data, "steps": 3}
    (here, _), (sent, _) = _blocks([], **run), _blocks([], resident=False, **run)
    chex.assert_trees_all_equal(sent, here)
    chex.assert_trees_all_close(here, _train(**run), rtol=1e-4, atol=1e-6)


def test_metrics_are_the_last_ones_and_idle_updates_have_none():
    *_, last = _blocks([], length=10)[1]
    for step, found in _blocks([1, 2, 4, 6], length=10)[1]:
        lazy = step in (1, 4, 10)  # the lazy update plays after 0, 3, 6 and 9 steps
        assert ("discriminator/r1" in found) == lazy
        assert "discriminator/adversarial" in found and "skipped" in found
    assert last[1] == found


def test_a_run_says_in_every_line_what_the_hosts_loop_says(tmp_path):
    schedule = SCHEDULE._replace(log_every=3, checkpoint_every=4)
    for name in ("host", "device"):
        _train(workdir=tmp_path / name, schedule=schedule, on_device=name == "device")
    host, device = (
        files.read_json_lines(tmp_path / n / "metrics.jsonl") for n in ("host", "device")
    )
    assert [line["step"] for line in device] == [3, 6, 9, 10]
    for here, there in zip(host, device, strict=True):
        assert here.keys() == there.keys()
        for name in here.keys() - {"seconds", "images_per_second"}:
            np.testing.assert_allclose(there[name], here[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_it_goes_on_inside_of_what_was_a_block(tmp_path):
    unbroken = _train(on_device=True)
    for steps in (4, 7, 10):
        state = _train(steps, workdir=tmp_path, on_device=True)
    chex.assert_trees_all_equal(state, unbroken)


def test_a_signal_ends_the_run_after_its_block(tmp_path):
    never = SCHEDULE._replace(log_every=10**6, sample_every=10**6, checkpoint_every=10**6)
    term = threading.Timer(1.5, signal.raise_signal, [signal.SIGTERM])
    with pytest.raises(Stopped):
        _train(
            10**6, workdir=tmp_path, schedule=never, on_device=True, begins=lambda _: term.start()
        )
    (stopped,) = [line["step"] for line in files.read_json_lines(tmp_path / "metrics.jsonl")]
    assert 0 < stopped < 10**6
    chex.assert_trees_all_equal(
        _train(stopped, workdir=tmp_path), _train(stopped, schedule=never, on_device=True)
    )


def test_a_stage_ends_inside_of_a_block():
    later = RICH._replace(optimizers=dict.fromkeys(RICH.optimizers, optax.sgd(0.001)))
    stages = (Stage(RICH, 2, BATCH, 0), Stage(later, 2, BATCH, 5))
    state = _train(8, gan=stages, on_device=True)
    chex.assert_trees_all_close(state, _train(8, gan=stages), rtol=1e-5, atol=1e-6)


def test_what_is_not_finite_inside_of_a_block_is_undone():
    def term(view):
        return view.on_fake.source.mean() + jnp.where(view.step == 4, jnp.nan, 0.0)

    gan = RICH._replace(updates=(DISCRIMINATOR, Update("generator", {"adversarial": (1.0, term)})))
    state, _ = _blocks([], length=10, gan=gan)
    assert state.skipped["total"] == 1
    chex.assert_tree_all_finite(state.variables)
    chex.assert_trees_all_close(state, _train(gan=gan), rtol=1e-5, atol=1e-6)


def test_a_run_whose_updates_keep_being_undone_ends():
    gan = RICH._replace(
        updates=(Update("discriminator", {"adversarial": (1.0, lambda view: view.step * jnp.nan)}),)
    )
    with pytest.raises(NonFiniteError, match="discriminator/adversarial"):
        _train(100_000, gan=gan, on_device=True)


@pytest.mark.skipif(jax.device_count() != 4, reason="written for the four CPU devices")
def test_four_devices_do_what_one_does(monkeypatch):
    # One device: the pure functions, without pmap over more than the first.
    four = _blocks([], length=10)[0]
    from jaxgan import devices

    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: first)
    monkeypatch.setattr(jax, "local_devices", lambda *_: first)
    monkeypatch.setattr(jax, "local_device_count", lambda *_: 1)
    monkeypatch.setattr(jax, "device_count", lambda *_: 1)
    real = jax.pmap
    monkeypatch.setattr(devices.jax, "pmap", lambda *a, **k: real(*a, devices=first, **k))
    chex.assert_trees_all_close(_blocks([], length=10)[0], four, rtol=1e-4, atol=1e-6)
