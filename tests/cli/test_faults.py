"""What goes wrong, as somebody at the command line meets it: a clear line, and nothing lost."""

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from commands import TINY, assert_same_bits, checkpoint, finish, load, run, start, tree
from PIL import Image

from jaxgan import data, devices, files
from jaxgan.errors import UsageError
from jaxgan.sampling import pictures
from jaxgan.training import workdir as workdirs
from jaxgan.training.checkpoint import Checkpointer
from jaxgan.training.log import Log

STEPS = 24
RUN = (*TINY, f"--steps={STEPS}", "--checkpoint_every=3")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The workdir of a training that nothing happened to."""
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    made = run("train", *RUN, f"--workdir={workdir}")
    assert made.status == 0, made.err
    return workdir


@pytest.fixture
def workdir(unbroken, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(unbroken, tmp_path / "run"))


def _refused(*arguments, script="train"):
    """Runs a command that must fail at once, and returns the line that it says."""
    result = run(script, *arguments)
    assert result.status == 1, result
    assert not result.out
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) == 1, result.err
    return result.err


def _same_end(workdir, unbroken):
    assert_same_bits(checkpoint(workdir), checkpoint(unbroken))
    steps = [line["step"] for line in files.read_json_lines(workdir / "metrics.jsonl")]
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS


# Bad input: nothing begins.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model=wgan_pg"], ["'wgan_pg'", "did you mean 'wgan_gp'", "acgan, cgan, dcgan"]),
        (["--dataset=shpaes"], ["'shpaes'", "did you mean 'shapes'", "mnist"]),
        (["--set=laten_size=3"], ["'laten_size'", "did you mean 'latent_size'", "beta1"]),
        (["--set=latent_size=big"], ["'latent_size=big'", "must be an integer", "latent_size=100"]),
        (["--set=latent_size=0"], ["'latent_size=0'", "at least 1"]),
        (["--set=latent_size"], ["'latent_size'", "field=value"]),
        (["--batch_size=6"], ["batch of 6", "4 devices", "--batch_size=4 or 8"]),
        (["--batch_size=44"], ["40 pictures", "batch of 44"]),
        (["--image_size=4"], ["image_size", "8 to 1024", "4"]),
        (["--holdout=1"], ["holdout", "less than 1", "1.0"]),
        (["--epochs=nan"], ["--epochs=nan"]),
        (["--epochs=0.1"], ["--epochs=0.1 of 40 pictures", "less than one step"]),
        (["--dataset=folder"], ["'folder' needs --data_dir"]),
        (["--dataset=folder", "--data_dir=/nowhere"], ["/nowhere does not exist"]),
        (["--init_from=/nowhere"], ["/nowhere is not a workdir", "config.json"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("-") else "",
)
def test_a_start_that_fails_says_why_and_leaves_nothing(arguments, words, tmp_path):
    line = _refused(*TINY, "--steps=3", f"--workdir={tmp_path}/run", *arguments)
    for word in words:
        assert word in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_a_size_that_the_model_cannot_make_names_those_that_it_can(more, tmp_path):
    flags = ["--model=dcgan", "--image_size=15", "--num_examples=40", "--batch_size=8", *more]
    line = _refused(*flags, f"--workdir={tmp_path}/run")
    assert "15 px" in line
    assert "--image_size=14 or 16" in line
    assert not list(tmp_path.iterdir())


def test_an_empty_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    line = _refused(
        *TINY, "--dataset=folder", f"--data_dir={tmp_path}/pictures", f"--workdir={tmp_path}/run"
    )
    assert f"{tmp_path}/pictures holds no pictures" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag",
    [
        "--batch_size=0",
        "--steps=-1",
        "--steps=many",
        "--epochs=-1",
        "--keep=0",
        "--keep_every=0",
        "--log_every=0",
        "--num_samples=0",
        "--num_examples=0",
        "--seed=-1",
        "--seed=4294967296",
        "--batchsize=8",
        "--flagfile=/nowhere.cfg",
    ],
)
def test_a_flag_that_makes_no_sense_is_named(flag):
    with pytest.raises((flags.Error, UsageError)) as refusal:
        load("train", flag)
    name, _, value = flag.lstrip("-").partition("=")
    assert name in str(refusal.value)
    assert value in str(refusal.value) or "did you mean: batch_size" in str(refusal.value).lower()


def test_what_is_not_a_flag_is_refused(tmp_path):
    # Parsed by absl before the script sees it: "anime_dcgan.cfg" without --flagfile.
    script = load("train", *TINY, f"--workdir={tmp_path}/run")
    with pytest.raises(SystemExit) as end:
        script.main(["train", "anime_dcgan.cfg"])
    assert end.value.code == 1
    assert not list(tmp_path.iterdir())


def test_bad_flags_in_a_process_of_their_own():
    refused = finish(start("train", "--batchsize=8"))
    assert refused.status == 1
    assert "Unknown command line flag 'batchsize'. Did you mean: batch_size" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nothing"])
def test_a_workdir_that_cannot_be_written(place, tmp_path):
    (tmp_path / "file").write_text("mine")
    line = _refused(*TINY, "--steps=3", f"--workdir={tmp_path / place}")
    assert str(tmp_path / place) in line
    assert "another --workdir" in line
    assert tree(tmp_path) == {"file": b"mine"}


def test_a_folder_of_something_else_stays_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    line = _refused(*TINY, "--steps=3", f"--workdir={tmp_path}")
    assert f"{tmp_path} exists and is not a workdir" in line
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    # An empty one may be used, and stays when a start fails.
    (tmp_path / "empty").mkdir()
    _refused(*TINY, "--init_from=/nowhere", f"--workdir={tmp_path}/empty")
    assert not list((tmp_path / "empty").iterdir())


def test_weights_that_do_not_fit_at_all_begin_no_run(unbroken, tmp_path):
    other = ["--model=dcgan", "--image_size=8", "--num_examples=40", "--batch_size=8"]
    other += ["--set=width=4", f"--init_from={unbroken}", f"--workdir={tmp_path}/run"]
    line = _refused(*other)
    assert f"--init_from={unbroken}: nothing of it fits" in line
    assert "model was gan and is now dcgan" in line
    assert not list(tmp_path.iterdir())


# A workdir that holds another run.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--seed=1"], ["seed was 0 and is now 1"]),
        (["--batch_size=4"], ["batch_size was 8 and is now 4"]),
        (["--set=latent_size=5"], ["config.latent_size was 4 and is now 5"]),
        (["--set=learning_rate=1"], ["config.learning_rate was 0.0002 and is now 1.0"]),
        (["--num_examples=39"], ["data.examples was 40 and is now 39", "data.fingerprint was"]),
        (["--image_size=16"], ["data.spec.size was 8 and is now 16"]),
        (["--flip"], ["data.flip was false and is now true"]),
        (["--init_from=/nowhere"], ["init_from was null and is now /nowhere"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("-") else "",
)
def test_other_settings_are_refused_with_both_values(changes, words, workdir):
    before = tree(workdir)
    line = _refused(*RUN, "--steps=99", f"--workdir={workdir}", *changes)
    for word in (str(workdir), "another --workdir", *words):
        assert word in line
    assert tree(workdir) == before


def test_another_model_is_named_without_a_list_of_its_settings(workdir):
    flags = ["--model=dcgan", "--image_size=8", "--num_examples=40", "--batch_size=8"]
    line = _refused(*flags, f"--workdir={workdir}")
    assert "model was gan and is now dcgan" in line
    assert "config." not in line


def test_changed_pictures_are_noticed(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(9):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    common = [flag for flag in TINY if not flag.startswith("--num_examples")]
    common += ["--dataset=folder", f"--data_dir={tmp_path}/pictures", f"--workdir={tmp_path}/run"]
    assert run("train", *common, "--steps=1").status == 0
    Image.new("RGB", (8, 8), "white").save(tmp_path / "pictures" / "3.png")
    line = _refused(*common, "--steps=2")
    assert "the pictures changed: 1 gone, 1 new" in line
    assert f"--init_from={tmp_path}/run --workdir=NEW" in line
    (tmp_path / "run" / "pictures.npy").unlink()  # as a run of jaxgan 0.1
    (tmp_path / "pictures" / "3.png").unlink()
    assert "there were 9 and there are 8" in _refused(*common, "--steps=2")


def test_a_second_run_is_refused_and_the_first_knows_nothing_of_it(workdir):
    before = tree(workdir)
    with Checkpointer(workdir / "checkpoints"):
        line = _refused(*RUN, "--steps=99", f"--workdir={workdir}")
        assert f"in use by another run (pid {os.getpid()})" in line
        assert run("sample", f"--workdir={workdir}", f"--out={workdir}.png").status == 0
    assert tree(workdir) == before


def test_a_damaged_config_is_named(workdir):
    (workdir / "config.json").write_text('{"model": "gan", ')
    for script in ("train", "sample"):
        arguments = TINY if script == "train" else ()
        line = _refused(*arguments, f"--workdir={workdir}", script=script)
        assert f"{workdir}/config.json is damaged" in line


# Interruptions.


def _until(condition, process):
    while not condition():
        assert process.poll() is None, finish(process)
        time.sleep(0.005)


def _lines(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _saved(workdir):
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        return checkpointer.steps()


def _interrupt(number, step, workdir, *, command=RUN, devices=4):
    """Sends a signal to a run in a process of its own when a step has been logged."""
    endless = ("--steps=1000000", "--keep=1000")
    process = start("train", *command, *endless, f"--workdir={workdir}", devices=devices)
    _until(lambda: _lines(workdir) >= step, process)
    process.send_signal(number)
    return finish(process)


def _go_on(workdir):
    """Finishes a run in this process."""
    for step in _saved(workdir):
        if step >= STEPS:  # it was quicker than the signal: back to where there is more to do
            shutil.rmtree(workdir / "checkpoints" / str(step))
    resumed = run("train", *RUN, f"--workdir={workdir}")
    assert resumed.status == 0, resumed.err


@pytest.mark.slow
def test_kill_9_loses_nothing(unbroken, tmp_path):
    assert _interrupt(signal.SIGKILL, 5, tmp_path / "run").status == -signal.SIGKILL
    _go_on(tmp_path / "run")
    _same_end(tmp_path / "run", unbroken)


def test_kill_9_while_a_stage_fades_in_loses_nothing(tmp_path):
    command = (
        "--model=progan",
        "--dataset=shapes",
        "--num_examples=40",
        "--image_size=8",
        "--batch_size=8",
        "--flip",
        "--set=width=4",
        "--set=group=2",
        "--set=latent_size=4",
        "--set=start_size=4",
        "--set=stable_images=16",
        "--set=fade_images=400",  # steps 3 to 52
        "--num_samples=4",
        "--log_every=1",
        "--checkpoint_every=3",
        "--steps=30",
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run("train", *command, f"--workdir={whole}").status == 0
    killed = _interrupt(signal.SIGKILL, 8, parts, command=command)
    assert killed.status == -signal.SIGKILL
    for step in _saved(parts):
        if step >= 30:
            shutil.rmtree(parts / "checkpoints" / str(step))
    assert 2 < _saved(parts)[-1] < 30  # in the midst of fading
    assert run("train", *command, f"--workdir={parts}").status == 0
    assert_same_bits(checkpoint(parts), checkpoint(whole))


@pytest.mark.slow
def test_kill_9_again_and_again_loses_nothing(unbroken, tmp_path):
    for step in (1, 4, 10, 16):
        assert _interrupt(signal.SIGKILL, step, tmp_path / "run").status == -signal.SIGKILL
    _go_on(tmp_path / "run")
    _same_end(tmp_path / "run", unbroken)


@pytest.mark.parametrize("leftovers", [[], ["checkpoints"], ["checkpoints", ".config.json.1a"]])
def test_a_kill_before_the_first_step_is_no_obstacle(leftovers, unbroken, tmp_path):
    workdir = tmp_path / "run"
    if leftovers:
        (workdir / "checkpoints").mkdir(parents=True)
        (workdir / "checkpoints" / ".lock").write_text("1")
    if ".config.json.1a" in leftovers:
        (workdir / ".config.json.1a").write_text("{")
    assert run("train", *TINY, "--steps=1", f"--workdir={workdir}").status == 0
    assert json.loads((workdir / "config.json").read_text())["model"] == "gan"


@pytest.mark.slow
def test_sigterm_saves_and_another_number_of_devices_goes_on(unbroken, tmp_path):
    workdir = tmp_path / "run"
    stopped = _interrupt(signal.SIGTERM, 2, workdir, devices=1)
    assert stopped.status == 143, stopped.err
    assert "Traceback" not in stopped.err
    assert files.read_json_lines(workdir / "metrics.jsonl")[-1]["step"] == _saved(workdir)[-1]
    _go_on(workdir)

    # The same data and latents; sums over four parts are rounded otherwise, and Adam divides by
    # the gradient's size, so that the least weights differ by more.
    lines, expected = (
        files.read_json_lines(path / "metrics.jsonl") for path in (workdir, unbroken)
    )
    assert [line["images"] for line in lines] == [line["images"] for line in expected]
    for name in ("discriminator/loss", "generator/loss", "discriminator/real_probability"):
        ours, theirs = ([line[name] for line in which] for which in (lines, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    for name, array in checkpoint(unbroken).items():
        if name.startswith(("variables", "ema")):
            np.testing.assert_allclose(checkpoint(workdir)[name], array, atol=1e-4, err_msg=name)


def _signals_at(monkeypatch, method, *numbers):
    """Sends signals to this process when step 5 is logged, or when the last save begins."""
    original = getattr(*method)

    def sending(self, step, *rest):
        result = original(self, step, *rest)
        if step == 5:
            for number in numbers:
                signal.raise_signal(number)
        return result

    monkeypatch.setattr(*method, sending)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_one_signal_saves(number, status, unbroken, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        _signals_at(patched, (Log, "metrics"), number)
        stopped = run("train", *RUN, f"--workdir={tmp_path}/run")
    assert stopped.status == status
    # It was asked for when step 5 was logged, and so step 6 is the last.
    assert _saved(tmp_path / "run")[-1] == 6
    assert run("train", *RUN, f"--workdir={tmp_path}/run").status == 0
    _same_end(tmp_path / "run", unbroken)


@pytest.mark.parametrize(
    "sign_of_life", ["checkpoints", pytest.param("config.json", marks=pytest.mark.slow)]
)
def test_ctrl_c_before_the_first_step_is_one_line(sign_of_life, tmp_path):
    process = start("train", *RUN, f"--workdir={tmp_path}", compiled="")
    _until(lambda: (tmp_path / sign_of_life).exists(), process)
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    assert (stopped.status, stopped.err.splitlines()[-1]) == (130, "interrupted")
    assert "Traceback" not in stopped.err


def test_a_second_signal_leaves_at_once(tmp_path, monkeypatch):
    _signals_at(monkeypatch, (Log, "metrics"), signal.SIGINT, signal.SIGINT)
    stopped = run("train", *RUN, f"--workdir={tmp_path}/run")
    assert stopped.status == 130
    assert _saved(tmp_path / "run")[-1] == 3


def test_signals_during_the_last_save_wait_for_it(tmp_path, monkeypatch):
    _signals_at(monkeypatch, (Checkpointer, "save"), signal.SIGINT, signal.SIGTERM, signal.SIGINT)
    made = run("train", *TINY, "--steps=5", f"--workdir={tmp_path}/run")
    assert made.status == 0, made.err
    assert _saved(tmp_path / "run") == [5]


# Things that break while a run goes on.


class _Breaking:
    """Pictures that can be read once through, one by one, and whose third batch cannot."""

    def __init__(self, images):
        self._images, self._asked = images, 0

    def __len__(self):
        return len(self._images)

    def __iter__(self):
        return iter(self._images)

    def __getitem__(self, chosen):
        self._asked += 1
        if self._asked > 2:
            raise OSError(errno.EIO, "the disk is gone")
        return self._images[chosen]


def test_a_loader_that_dies_ends_the_run_and_the_save_in_flight_is_kept(tmp_path, monkeypatch):
    load_real = data.load

    def load_breaking(*arguments, **settings):
        dataset = load_real(*arguments, **settings)
        return dataclasses.replace(dataset, images=_Breaking(dataset.images))

    monkeypatch.setattr(data, "load", load_breaking)
    with pytest.raises(OSError, match="the disk is gone"):
        run("train", *TINY, "--checkpoint_every=1", f"--workdir={tmp_path}/run")
    assert _saved(tmp_path / "run") == [1, 2]
    monkeypatch.undo()
    assert run("train", *TINY, "--steps=3", f"--workdir={tmp_path}/run").status == 0


def _nan_at(monkeypatch, *calls, part=slice(None)):
    """Makes the pictures of some batches not a number, on some devices."""
    original, count = devices.shard, 0

    def shard(batch):
        nonlocal count
        count += 1
        image = batch["image"].astype(np.float32) / 127.5 - 1
        if count in calls:
            image.reshape(jax.local_device_count(), -1)[part] = np.nan
        return original({**batch, "image": image})

    monkeypatch.setattr(devices, "shard", shard)


@pytest.mark.parametrize("part", [slice(None), slice(2, 3)], ids=["all devices", "one device"])
def test_a_bad_batch_is_passed_over_and_counted(part, tmp_path, monkeypatch):
    # Batch by batch, the discriminator is undone and the generator moves.
    _nan_at(monkeypatch, 2, part=part)
    made = run("train", *TINY, "--steps=3", "--checkpoint_every=1", f"--workdir={tmp_path}/run")
    assert made.status == 0, made.err
    first, bad, last = (checkpoint(tmp_path / "run", step) for step in (1, 2, 3))
    for name, array in bad.items():
        assert np.isfinite(array).all(), name
        if name.startswith(("variables/discriminator", "opt/discriminator")):
            np.testing.assert_array_equal(array, first[name], err_msg=name)
    moved = "variables/generator/params/Dense_1/kernel"
    assert np.any(bad[moved] != first[moved])
    assert np.any(last[moved] != bad[moved])
    lines = files.read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["skipped"] for line in lines] == [0, 1, 1]
    assert lines[1]["discriminator/loss"] is None  # that is, not a number
    assert "1 updates skipped" in made.err


def test_losses_that_stay_not_finite_end_the_run(tmp_path):
    common = (*TINY, "--set=learning_rate=1e30", "--checkpoint_every=2", "--steps=50")
    line = run("train", *common, f"--workdir={tmp_path}/run").err.splitlines()[-1]
    assert line.startswith("error: stopped at step 1")
    assert "10 updates in a row" in line
    assert "--set learning_rate=" in line
    assert "discriminator/adversarial" in line
    for name, array in checkpoint(tmp_path / "run").items():
        assert np.isfinite(array).all(), name


def test_a_disk_without_room_for_a_save_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    refused = run("train", *TINY, "--steps=2", f"--workdir={tmp_path}/run")
    assert refused.status == 1
    *bars, line = refused.err.splitlines()
    assert re.search(r"error: step 2 could not be saved in .*: the disk is full: 0 of \d+ MB", line)
    assert "Traceback" not in refused.err
    assert _saved(tmp_path / "run") == []


def test_a_full_disk_costs_metrics_and_pictures_but_not_the_run(tmp_path, monkeypatch, caplog):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pictures, "save_image", full)
    monkeypatch.setattr("tensorboardX.SummaryWriter.add_scalar", full)
    made = run("train", *TINY, "--steps=2", f"--workdir={tmp_path}/run")
    assert made.status == 0, made.err
    assert "metrics of step 1 are lost: [Errno 28]" in caplog.text
    assert "samples of step 2 are lost: [Errno 28]" in caplog.text
    assert _saved(tmp_path / "run") == [2]


# Files that were damaged in between.


def test_a_torn_line_of_metrics_is_written_anew(workdir, unbroken):
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    metrics = workdir / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[: STEPS - 1]) + lines[STEPS - 1][:40])
    assert run("train", *RUN, f"--workdir={workdir}").status == 0
    _same_end(workdir, unbroken)
    assert [line["step"] for line in files.read_json_lines(metrics)] == list(range(1, STEPS + 1))


def _damage(folder):
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def test_a_damaged_checkpoint_is_set_aside_and_made_again(workdir, unbroken, caplog):
    _damage(workdir / "checkpoints" / str(STEPS))
    assert run("train", *RUN, f"--workdir={workdir}").status == 0
    assert f"going back to step {STEPS - 3}" in caplog.text
    assert (workdir / "checkpoints" / f"{STEPS}.corrupt").is_dir()
    _same_end(workdir, unbroken)


def test_sampling_from_damaged_checkpoints(workdir, tmp_path, caplog):
    out = f"--out={tmp_path}/x.npz"
    before = run("sample", f"--workdir={workdir}", out, f"--step={STEPS - 3}")
    expected = np.load(tmp_path / "x.npz")["images"]
    _damage(workdir / "checkpoints" / str(STEPS))
    fallen_back = run("sample", f"--workdir={workdir}", out)
    assert before.status == fallen_back.status == 0
    assert f"going back to step {STEPS - 3}" in caplog.text
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["images"], expected)

    line = _refused(f"--workdir={workdir}", out, f"--step={STEPS}", script="sample")
    assert f"step {STEPS}" in line
    for step in _saved(workdir)[:-1]:
        _damage(workdir / "checkpoints" / str(step))
    files = tree(workdir)
    line = _refused(f"--workdir={workdir}", out, script="sample")
    assert f"no checkpoint in {workdir}/checkpoints can be read" in line
    assert tree(workdir) == files


def test_sampling_from_what_is_no_run_or_has_nothing_to_show(workdir, tmp_path):
    out = f"--out={tmp_path}/x.png"

    def line(place, *more):
        return _refused(f"--workdir={place}", out, *more, script="sample")

    assert f"{tmp_path} is not a workdir" in line(tmp_path)
    assert "has no step 7, but [" in line(workdir, "--step=7")
    assert "at least 2 pictures" in line(workdir, "--interpolate=1")
    for bad in ("x.gif", "", "/proc/nothing/x.png", f"{workdir}/config.json/x.png"):
        assert f"--out={bad}" in _refused(f"--workdir={workdir}", f"--out={bad}", script="sample")

    config = workdirs.read(workdir)
    strange = {**config, "config": {**config["config"], "generator_widths": [9]}}
    (workdir / "config.json").write_text(json.dumps(strange))
    assert "variables/generator/params/Dense_0" in line(workdir)  # a leaf that does not fit
    strange = {**config, "config": {**config["config"], "depth": 3}}
    (workdir / "config.json").write_text(json.dumps(strange))
    assert "gan has no depth in this version of jaxgan" in line(workdir)
    (workdir / "config.json").write_text('{"architectures": ["GPT2"]}')
    assert "not of a training" in line(workdir)
    (workdir / "config.json").write_text(json.dumps(config))
    shutil.rmtree(workdir / "checkpoints")
    assert f"{workdir} has no checkpoint yet" in line(workdir)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.slow
def test_damaged_compiled_programs_are_compiled_again(unbroken, tmp_path):
    compiled = tmp_path / "compiled"
    for name in ("first", "second"):
        workdir = tmp_path / name
        made = finish(start("train", *RUN, f"--workdir={workdir}", compiled=str(compiled)))
        assert made.status == 0, made.err
        _same_end(workdir, unbroken)
        entries = list(compiled.glob("*-cache"))
        assert entries
        if name == "second":
            assert made.err.count("is damaged and written anew") == 1
            assert all(len(entry.read_bytes()) > 100 for entry in entries)
        for entry in entries:
            entry.write_bytes(entry.read_bytes()[:100])
    assert "Traceback" not in made.err


def test_a_compile_cache_that_cannot_be_written_is_said_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    made = run("train", *RUN, f"--workdir={tmp_path}/run", f"--compilation_cache={tmp_path}/file/x")
    assert made.status == 0
    assert caplog.text.count("compiled programs cannot be kept in") == 1


@pytest.mark.slow
def test_an_old_run_on_files_goes_on_as_it_began(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(9):
        file = tmp_path / "pictures" / f"{number}.png"
        Image.new("L", (8, 8), number).save(file)
    table = tmp_path / "pictures" / "tags.csv"
    table.write_text("".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(9)))
    common = [flag for flag in TINY if not flag.startswith(("--num_examples", "--model"))]
    common += ["--dataset=folder", f"--data_dir={tmp_path}/pictures", "--tags=tags.csv"]
    common += ["--model=cgan", f"--workdir={tmp_path}/run"]
    # What a run of jaxgan 0.1 had: three channels, tags, and no field that says so.
    assert run("train", *common, "--channels=3", "--label_kind=tags", "--steps=1").status == 0
    path = tmp_path / "run" / "config.json"
    settings = workdirs.read(path.parent)
    for name in ("label_kind", "unlabeled", "channels", "reading", "max_pixels"):
        del settings["data"][name]
    path.write_text(json.dumps(settings))
    made = run("train", *common, "--steps=2")
    assert made.status == 0, made.err
    assert json.loads(path.read_text())["data"]["reading"] == 1
    assert run("train", *common, "--steps=3").status == 0
    line = _refused(*common, "--steps=4", "--label_kind=class")
    assert "label_kind was tags and is now class" in line
    fresh = run("train", *common, "--steps=1", f"--workdir={tmp_path}/new")
    assert "9 pictures, 8x8 gray, 2 classes" in fresh.out
