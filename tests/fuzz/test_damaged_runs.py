"""No file of a run, however damaged, ends in a traceback, nor changes settings in silence."""

import json
import shutil

import numpy as np
import pytest
from commands import TINY, run
from fuzz.mutations import cases, mutated

from jaxgan import files
from jaxgan.errors import UsageError
from jaxgan.evaluation import history
from jaxgan.runs.run import open_run
from jaxgan.runs.settings import chosen_step
from jaxgan.runs.status import page, status_of, table
from jaxgan.training import curves
from jaxgan.training import workdir as workdirs
from jaxgan.training.checkpoint import CheckpointError
from jaxgan.training.log import Log

EVALUATED = ("--metrics=prdc", "--features=random", "--num_images=100", "--num_reference=100")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run that was evaluated twice."""
    workdir = tmp_path_factory.mktemp("runs") / "good"
    for script, given in (
        ("train", (*TINY, "--num_examples=100", "--steps=4", "--checkpoint_every=2")),
        ("evaluate", (*EVALUATED, "--checkpoint=all")),
    ):
        done = run(script, f"--workdir={workdir}", *given)
        assert done.status == 0, done.err
    assert len(history.read(workdir)) == 2
    return workdir


def _damage(rng, path):
    data = path.read_bytes()
    if rng.random() < 0.7:  # one bad byte, the usual case
        at = int(rng.integers(len(data)))
        path.write_bytes(data[:at] + bytes([rng.integers(256)]) + data[at + 1 :])
    else:
        path.write_bytes(mutated(rng, data))


def test_run_files(good, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(good, workdir)
    settings = workdirs.read(good)
    names = ("config.json", "metrics.jsonl", "evaluation.jsonl")
    for case in cases(few=60, full=2_000):
        rng = np.random.default_rng(case)
        name = names[case % 3]
        if name == "config.json" and rng.random() < 0.5:  # of a run without a checksum
            (workdir / name).write_text(json.dumps(settings, indent=2))
            whole = False
        else:
            whole = name == "config.json"
        _damage(rng, workdir / name)
        for look in LOOKS:
            try:
                look(workdir, rng)
                if whole:  # it may be the name of the checksum that changed
                    found = workdirs.read(workdir)
                    assert {name: found[name] for name in settings} == settings
            except (UsageError, CheckpointError) as reason:
                assert "\n" not in str(reason)
        for each in names:
            shutil.copy(good / each, workdir / each)


def _status(workdir, rng):
    status = status_of(workdir)
    assert page(status) and table([status])


def _open(workdir, rng):
    opened = open_run(workdir)
    assert isinstance(opened.history(), dict) and opened.spec


def _best(workdir, rng):
    chosen_step(workdir, "best", [2, 4])
    history.read(workdir)


def _go_on(workdir, rng):
    workdirs.check(workdir, workdirs.read(workdir))
    Log(workdir, 4, loggers=()).close()
    if rng.random() < 0.05:  # which takes long
        curves.curves(workdir / "metrics.jsonl", workdir / "curves.png")
    files.read_json_lines(workdir / "metrics.jsonl")


LOOKS = (_status, _open, _best, _go_on)
