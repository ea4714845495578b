"""A run that was interrupted, in whichever way, ends as if it had not been."""

import logging
import os
import signal
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    DISCRIMINATOR,
    GENERATOR,
    SEED,
    TOY,
    first_state,
    noise_images,
    on_host,
    small_model,
    toy_dataset,
)

from jaxgan import files, penalties
from jaxgan.core import Update
from jaxgan.data import Dataset
from jaxgan.errors import UsageError
from jaxgan.sampling import pictures
from jaxgan.training import curves
from jaxgan.training.checkpoint import Checkpointer
from jaxgan.training.finetune import start_from
from jaxgan.training.loop import NonFiniteError, train
from jaxgan.training.record import Record, Schedule
from jaxgan.training.signals import GracefulStop, Stopped

DATA = toy_dataset(10)
BATCH = 8
SCHEDULE = Schedule(log_every=1, sample_every=100, checkpoint_every=100, num_samples=4)


def _count(view):
    return view.on_real.source.mean(), {"calls": view.memory["calls"] + 1}


# Everything that a step may depend on: two critic steps, a lazy term, a batch of the generator's
# own, moments, an average, a memory. A step takes three batches, and eight do not divide ten.
RICH = TOY._replace(
    updates=(
        DISCRIMINATOR._replace(repeat=2),
        Update("discriminator", {"r1": (0.1, penalties.r1), "count": (0.0, _count)}, every=3),
        GENERATOR._replace(fresh=True),
    ),
    optimizers={"generator": optax.adam(0.01, 0.5), "discriminator": optax.adam(0.02, 0.5)},
    memory={"calls": jnp.zeros((), jnp.int32)},
    ema=lambda step: 0.7,
)


def _train(workdir, steps, gan=RICH, dataset=DATA, schedule=SCHEDULE, **changes):
    return on_host(
        train(
            gan,
            dataset,
            batch_size=BATCH,
            steps=steps,
            seed=SEED,
            workdir=workdir,
            schedule=schedule,
            progress=False,
            **changes,
        )
    )


def _metrics(workdir):
    """What was logged, the times apart."""
    times = ("seconds", "images_per_second")
    return [
        {name: value for name, value in line.items() if name not in times}
        for line in files.read_json_lines(workdir / "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run of four steps, and where it is."""
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    return _train(workdir, 4), workdir


def test_four_steps_are_one_two_and_one(tmp_path, unbroken):
    workdir, (expected, whole) = tmp_path / "run", unbroken
    for steps in (1, 3):
        assert _train(workdir, steps).step == steps
    chex.assert_trees_all_equal(_train(workdir, 4), expected)
    assert _metrics(workdir) == _metrics(whole)
    assert [line["images"] for line in _metrics(workdir)] == [24, 48, 72, 96]
    name = "samples/step_00000004.png"
    assert (workdir / name).read_bytes() == (whole / name).read_bytes()


def test_a_signal_leaves_one_marked_line_and_the_rest_as_it_would_be(tmp_path, monkeypatch):
    schedule = SCHEDULE._replace(log_every=3, sample_every=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = _train(whole, 6, schedule=schedule)
    write = Record.write

    def sending(self, step, *arguments, **settings):
        if step == 4:
            signal.raise_signal(signal.SIGTERM)
        return write(self, step, *arguments, **settings)

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(Record, "write", sending)
        _train(parts, 6, schedule=schedule)
    assert [line["step"] for line in _metrics(parts)] == [3, 5]
    chex.assert_trees_all_equal(_train(parts, 6, schedule=schedule), expected)
    marked = [line for line in _metrics(parts) if "stopped" in line]
    assert [(line["step"], line["stopped"]) for line in marked] == [(5, signal.SIGTERM)]
    # The line of step 6 has the lazy term of step 4, too.
    assert [line for line in _metrics(parts) if line not in marked] == _metrics(whole)
    grids = [
        {p.name: p.read_bytes() for p in (run / "samples").iterdir()} for run in (whole, parts)
    ]
    assert grids[0] == grids[1]


@pytest.mark.parametrize(
    ("lost", "steps"), [("curves", 4), pytest.param("save_image", 6, marks=pytest.mark.slow)]
)
def test_what_a_kill_left_out_after_the_save_is_drawn_later(lost, steps, tmp_path, monkeypatch):
    schedule = SCHEDULE._replace(checkpoint_every=2, sample_every=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    _train(whole, steps, schedule=schedule)
    save, module = Record.save, curves if lost == "curves" else pictures
    draws = getattr(module, lost)

    def killed(*arguments):
        if (parts / "checkpoints" / "4").exists():
            raise KeyboardInterrupt
        draws(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, lost, killed)
        patched.setattr(Record, "save", lambda self, *given: (save(self, *given), self.finish()))
        _train(parts, steps, schedule=schedule)
    assert not (parts / "samples" / "step_00000004.png").exists()
    _train(parts, steps, schedule=schedule)
    for path in [*(whole / "samples").iterdir()]:
        assert (parts / "samples" / path.name).read_bytes() == path.read_bytes()
    assert (parts / "curves.png").exists()
    # Then there is nothing to do.
    before = contents(parts)
    _train(parts, steps, schedule=schedule)
    assert contents(parts) == before


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_line_has_the_lazy_terms_that_ran_since_the_one_before(tmp_path, unbroken):
    _train(tmp_path / "run", 4, schedule=SCHEDULE._replace(log_every=2))
    names = [
        {"discriminator/r1", "discriminator/count"} & line.keys() for line in _metrics(unbroken[1])
    ]
    assert [bool(both) for both in names] == [True, False, False, True]
    by_step = {line["step"]: line for line in _metrics(unbroken[1])}
    expected = [by_step[1] | by_step[2], by_step[3] | by_step[4]]
    assert _metrics(tmp_path / "run") == expected


def test_the_state_of_a_run_is_not_that_of_another(unbroken):
    other = train(RICH, DATA, batch_size=BATCH, steps=4, seed=SEED + 1, progress=False)
    weights = [state.variables["generator"]["params"]["w"] for state in (unbroken[0], other)]
    assert not np.array_equal(*weights)
    assert unbroken[0].memory["calls"] == 2


def test_without_a_workdir_the_result_is_the_same(unbroken):
    chex.assert_trees_all_equal(_train(None, 4), unbroken[0])


def test_a_finished_run_is_left_alone(unbroken):
    expected, workdir = unbroken
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
    chex.assert_trees_all_equal(_train(workdir, 4), expected)
    chex.assert_trees_all_equal(_train(workdir, 3), expected)
    after = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
    changed = {path.name for path in before if after.get(path) != before[path]}
    assert after.keys() == before.keys() and changed <= {".lock"}


@pytest.mark.slow
def test_a_dcgan_on_flipped_pictures_resumes_exactly(tmp_path):
    data = noise_images(20, size=16, channels=3)
    gan = small_model("dcgan", data, BATCH)._replace(ema=lambda step: 0.9)
    whole = _train(tmp_path / "whole", 4, gan, data, flip=True)
    _train(tmp_path / "parts", 2, gan, data, flip=True)
    chex.assert_trees_all_equal(_train(tmp_path / "parts", 4, gan, data, flip=True), whole)
    assert not np.array_equal(
        whole.ema["params"]["ConvTranspose_1"]["kernel"],
        whole.variables["generator"]["params"]["ConvTranspose_1"]["kernel"],
    )


# Signals


class _Signaling:
    """Pictures that send this process SIGTERM when batch number `at` is gathered."""

    def __init__(self, images, at):
        self._images, self._left, self.dtype = images, at, images.dtype

    def __len__(self):
        return len(self._images)

    def __getitem__(self, chosen):
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return self._images[chosen]


def test_sigterm_saves_and_the_run_goes_on(tmp_path, unbroken):
    # No sooner than the loop runs: three batches are gathered ahead of it.
    images = _Signaling(DATA.images, at=5)
    dataset = Dataset(DATA.spec, images, None, DATA.fingerprint)
    with pytest.raises(Stopped) as stopped:
        _train(tmp_path / "run", 1000, dataset=dataset)
    assert stopped.value.code == 128 + signal.SIGTERM
    with Checkpointer(tmp_path / "run" / "checkpoints", read_only=True) as checkpointer:
        (step,) = checkpointer.steps()
    assert 1 <= step <= 4
    chex.assert_trees_all_equal(_train(tmp_path / "run", 4), unbroken[0])
    assert _metrics(tmp_path / "run") == _metrics(unbroken[1])


def test_one_signal_asks_and_a_second_leaves():
    before = signal.getsignal(signal.SIGINT)
    with GracefulStop() as stop:
        assert signal.getsignal(signal.SIGINT) is before  # until there is a step to save
        stop.hear_interrupts()
        assert stop.requested is None
        signal.raise_signal(signal.SIGINT)
        assert stop.requested == signal.SIGINT
        with pytest.raises(Stopped) as stopped:
            signal.raise_signal(signal.SIGTERM)
        assert stopped.value.code == 143
        assert stop.requested == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_signals_are_ignored_while_the_last_save_is_finished():
    with GracefulStop() as stop:
        stop.hear_interrupts()
        signal.raise_signal(signal.SIGTERM)
        stop.saving = True
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.requested == signal.SIGTERM


def test_the_last_save_is_finished_whatever_comes(tmp_path, monkeypatch):
    save = Record.save

    def interrupted(self, step, state):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        save(self, step, state)

    monkeypatch.setattr(Record, "save", interrupted)
    state = _train(tmp_path / "run", 2, TOY)
    with Checkpointer(tmp_path / "run" / "checkpoints", read_only=True) as checkpointer:
        chex.assert_trees_all_equal(checkpointer.restore(state, 2).state, state)


def test_outside_the_main_thread_nothing_changes():
    before, inside = signal.getsignal(signal.SIGTERM), []

    def run():
        with GracefulStop() as stop:
            inside.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [(None, before)]


# What is not finite


def _floats(poisoned):
    """The toy's pictures as floats; those with the given numbers hold a NaN."""
    images = DATA.images / np.float32(255)
    images[list(poisoned), 0, 0, 0] = np.nan
    return Dataset(DATA.spec, images, None, "floats")


def test_too_many_bad_updates_in_a_row_end_the_run_and_keep_the_checkpoint(tmp_path):
    workdir = tmp_path / "run"
    good, bad = _floats([]), _floats(range(10))
    saved = _train(workdir, 2, TOY, good)
    schedule = SCHEDULE._replace(max_skipped=3)
    with pytest.raises(
        NonFiniteError, match="3 updates in a row .*checkpoint of step 2 stays"
    ) as error:
        _train(workdir, 1000, TOY, bad, schedule)
    assert "of discriminator/adversarial not being" in str(error.value)
    with pytest.raises(NonFiniteError, match="No checkpoint was saved; try .*learning_rate"):
        _train(None, 1000, TOY, bad, schedule)
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        assert checkpointer.steps() == [2]
        chex.assert_trees_all_equal(checkpointer.restore(saved).state, saved)
    lines = files.read_json_lines(workdir / "metrics.jsonl")
    assert [line["skipped_in_row"] for line in lines if line["step"] > 2] == [1, 2, 3]
    assert [line["discriminator/loss"] for line in lines if line["step"] > 2] == [None] * 3
    chex.assert_trees_all_equal(_train(workdir, 4, TOY, good), _train(None, 4, TOY, good))


def test_a_few_bad_batches_are_passed_over(tmp_path):
    # One picture of ten is bad, and a batch has eight of them.
    state = _train(tmp_path / "run", 10, TOY, _floats([3]), SCHEDULE._replace(max_skipped=9))
    skipped = [
        line["skipped"] for line in files.read_json_lines(tmp_path / "run" / "metrics.jsonl")
    ]
    assert 0 < skipped[-1] < 10 and skipped == sorted(skipped)
    assert state.skipped["total"] == skipped[-1]
    chex.assert_tree_all_finite(state)


# Fine-tuning


@pytest.fixture(scope="module")
def donor(tmp_path_factory):
    """A workdir with weights to take."""
    workdir = tmp_path_factory.mktemp("donor") / "run"
    return _train(workdir, 2, settings={"model": "toy"}), workdir


def test_a_run_may_start_from_anothers_weights(donor, tmp_path):
    given, workdir = donor
    state = start_from(workdir, first_state(RICH))
    chex.assert_trees_all_equal((state.variables, state.ema), (given.variables, given.ema))
    fresh = first_state(RICH)
    chex.assert_trees_all_equal(
        (state.opt, state.step, state.memory), (fresh.opt, fresh.step, fresh.memory)
    )
    tuned = _train(tmp_path / "run", 1, start=lambda state: start_from(workdir, state))
    assert tuned.step == 1
    # Only a new run starts there; one that goes on does not ask.
    again = _train(tmp_path / "run", 2, start=lambda state: pytest.fail("asked again"))
    assert again.step == 2


def test_what_does_not_fit_is_named_and_starts_anew(donor, caplog):
    given, workdir = donor
    state = first_state(RICH)
    discriminator = state.variables["discriminator"]
    changed = {**discriminator, "params": {"u": jnp.ones(5), "w": jnp.ones(2)}}
    state = state.replace(variables={**state.variables, "discriminator": changed})
    with caplog.at_level(logging.WARNING):
        tuned = start_from(workdir, state)
    assert "variables/discriminator/params/u ((4,) there, (5,) here)" in caplog.text
    assert "variables/discriminator/params/w (absent there, (2,) here)" in caplog.text
    assert "variables/generator" not in caplog.text
    chex.assert_trees_all_equal(tuned.variables["discriminator"]["params"], changed["params"])
    chex.assert_trees_all_equal(tuned.variables["generator"], given.variables["generator"])


def test_weights_of_which_nothing_fits_are_an_error(donor):
    _, workdir = donor
    state = first_state(RICH)
    larger = jax.tree.map(lambda x: jnp.zeros((7, *x.shape)), (state.variables, state.ema))
    state = state.replace(variables=larger[0], ema=larger[1])
    with pytest.raises(
        UsageError, match=r"nothing of it fits this model: .* there, \(7, .* here\)"
    ):
        start_from(workdir, state)


def test_a_place_without_weights_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="is not a workdir"):
        start_from(tmp_path, first_state())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="no checkpoint yet"):
        start_from(tmp_path, first_state())
