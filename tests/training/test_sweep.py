"""Members of a sweep are the runs that they would be alone."""

import dataclasses
import signal
import threading

import chex
import jax
import numpy as np
import pytest
from helpers import noise_images, on_host

from jaxgan import devices, files
from jaxgan.core import Plan
from jaxgan.errors import UsageError
from jaxgan.models import gan as model
from jaxgan.stages import as_stages, template
from jaxgan.training.checkpoint import Checkpointer
from jaxgan.training.loop import train
from jaxgan.training.record import Schedule
from jaxgan.training.signals import Stopped
from jaxgan.training.sweep import Member, check_field, sweep

DATA = noise_images(40, size=8, channels=1)
BATCH, STEPS = 8, 50
RATES = (2e-4, 5e-4)
CONFIG = model.Config(generator_widths=(8,), discriminator_widths=(8,), latent_size=4)
SCHEDULE = Schedule(log_every=10, sample_every=1000, checkpoint_every=20, num_samples=4)


def make(values):
    return model.make(DATA.spec, dataclasses.replace(CONFIG, **values), Plan(BATCH, STEPS))


def members(folder, seeds=range(8), rates=(2e-4,)):
    return [
        Member(
            f"seed={seed},learning_rate={rate}",
            seed,
            {"learning_rate": rate},
            as_stages(make({"learning_rate": rate}), 8, BATCH),
            folder / f"seed={seed},learning_rate={rate}",
            {"seed": seed, "rate": rate},
        )
        for seed in seeds
        for rate in rates
    ]


def play(runs, steps=STEPS, **changes):
    settings = {"batch_size": BATCH, "schedule": SCHEDULE, "progress": False} | changes
    return sweep(make, runs, DATA, steps=steps, **settings)


def alone(member, steps=STEPS, workdir=None):
    return on_host(
        train(
            member.stages,
            DATA,
            batch_size=BATCH,
            steps=steps,
            seed=member.seed,
            schedule=SCHEDULE,
            workdir=workdir,
            settings=member.settings,
            progress=False,
        )
    )


def saved(member, step):
    with Checkpointer(member.workdir / "checkpoints", read_only=True) as checkpointer:
        return checkpointer.restore(template(member.stages), step).state


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two seeds with two rates, and how they ended."""
    runs = members(tmp_path_factory.mktemp("sweep"), range(2), RATES)
    return runs, play(runs)


def test_each_member_is_its_run_alone(swept):
    runs, results = swept
    assert [(result.step, result.failed) for result in results] == [(STEPS, False)] * 4
    for member, result in list(zip(runs, results, strict=True))[::2]:
        chex.assert_trees_all_close(saved(member, STEPS), alone(member), rtol=0, atol=1e-6)
        lines = files.read_json_lines(member.workdir / "metrics.jsonl")
        assert [line["step"] for line in lines] == [10, 20, 30, 40, 50]
        assert lines[-1]["discriminator/loss"] == pytest.approx(
            result.metrics["discriminator/loss"]
        )
        assert (member.workdir / "samples" / f"step_{STEPS:08d}.png").exists()
    # They are not one and the same.
    rates = [result.metrics["generator/loss"] for result in results]
    assert len(set(rates)) == 4


@pytest.mark.slow
def test_eight_members_are_eight_runs(tmp_path):
    runs = members(tmp_path)
    play(runs)
    for member in runs:
        chex.assert_trees_all_close(saved(member, STEPS), alone(member), rtol=0, atol=1e-6)


def test_a_member_goes_on_alone(swept):
    member = swept[0][2]
    state = alone(member, STEPS + 5, member.workdir)
    chex.assert_trees_all_close(state, alone(member, STEPS + 5), rtol=0, atol=1e-6)


def test_a_sweep_goes_on_to_the_same_bits(swept, tmp_path):
    parts = members(tmp_path, range(2), RATES)
    play(parts, 20)
    play(parts)
    for one, other in zip(swept[0], parts, strict=True):
        chex.assert_trees_all_equal(saved(one, STEPS), saved(other, STEPS))


def test_a_signal_saves_all(tmp_path):
    runs = members(tmp_path, range(2))
    timer = threading.Timer(6, signal.raise_signal, [signal.SIGTERM])
    timer.start()
    with pytest.raises(Stopped):
        play(runs, 10**6, schedule=SCHEDULE._replace(log_every=10**6, checkpoint_every=10**6))
    steps = [max(Checkpointer(m.workdir / "checkpoints", read_only=True).steps()) for m in runs]
    assert steps[0] == steps[1] > 0


def test_one_that_is_not_finite_leaves_the_others_alone(tmp_path):
    runs = members(tmp_path, [0], (2e-4, np.inf))
    results = play(runs, schedule=SCHEDULE._replace(max_skipped=3))
    assert [result.failed for result in results] == [False, True]
    for member in runs[:1]:
        chex.assert_trees_all_close(saved(member, STEPS), alone(member), rtol=0, atol=1e-6)


def test_members_with_no_step_in_common_are_named(tmp_path):
    runs = members(tmp_path, range(2))
    alone(runs[0], 20, runs[0].workdir)
    with pytest.raises(UsageError, match=f"no step in common, {runs[1].name} none at all"):
        play(runs)


def test_more_members_than_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "memory", lambda: 30_000)
    with pytest.raises(UsageError, match=r"8 members need .* GB, .*; [1-7] fit"):
        play(members(tmp_path))
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.parametrize(("name", "swept"), [("learning_rate", True), ("latent_size", False)])
def test_a_field_that_says_a_shape_is_refused(name, swept):
    if swept:
        check_field(make, name, DATA.spec, BATCH)
    else:
        with pytest.raises(UsageError, match=f"{name} cannot be swept"):
            check_field(make, name, DATA.spec, BATCH)


def test_what_grows_is_refused(tmp_path):
    run = members(tmp_path, [0])[0]
    stages = (*run.stages, run.stages[0]._replace(first=5))
    with pytest.raises(UsageError, match="grows"):
        play([run._replace(stages=stages)])


def test_members_are_spread_over_the_devices():
    assert devices.spreading(8).shard_shape((8, 3)) == (8 // jax.local_device_count(), 3)
