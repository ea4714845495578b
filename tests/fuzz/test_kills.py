"""Scripts that are killed at any time: what is there is whole, and doing it again ends the same."""

import os
import shutil
import signal
import time

import numpy as np
import pytest
from commands import TINY, assert_same_bits, checkpoint, finish, run, start
from fuzz.mutations import cases

from jaxgan import files
from jaxgan.evaluation import history
from jaxgan.evaluation.networks import classifier

TRAIN = (*TINY, "--num_examples=100", "--steps=30", "--checkpoint_every=5", "--keep=100")
MEASURE = ("--metrics=prdc", "--features=random", "--num_images=100", "--num_reference=100")
CLASSIFY = ("--dataset=glyphs", "--num_examples=100", "--image_size=8", "--epochs=2")


def _train(folder):
    return "train", (*TRAIN, f"--workdir={folder}/run")


def _sample(folder):
    return "sample", (f"--workdir={folder}/run", f"--out={folder}/x.npz", "--num=8")


def _evaluate(folder):
    return "evaluate", (f"--workdir={folder}/run", *MEASURE)


def _classify(folder):
    return "train_classifier", (*CLASSIFY, f"--out={folder}/c.npz")


SCRIPTS = (_train, _sample, _evaluate, _classify)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A folder in which every script was run, and how many seconds each takes by itself."""
    folder, seconds = tmp_path_factory.mktemp("unbroken"), []
    for script in SCRIPTS:
        before = time.monotonic()
        name, given = script(folder)
        done = finish(start(name, *given))
        assert done.status == 0, done.err
        seconds.append(time.monotonic() - before)
    return folder, seconds


@pytest.mark.skipif(not cases(0, 1000), reason="takes hours; JAXGAN_FUZZ=0:10 tries ten")
def test_kills(unbroken, tmp_path):
    whole, seconds = unbroken
    for case in cases(few=0, full=1_000):
        rng, number = np.random.default_rng(case), case % len(SCRIPTS)
        folder = tmp_path / str(case)
        folder.mkdir()
        if SCRIPTS[number] is not _train:
            shutil.copytree(whole / "run", folder / "run")
        name, given = SCRIPTS[number](folder)
        process = start(name, *given)
        time.sleep(float(rng.uniform(0.2, 1.1)) * seconds[number])
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        finish(process)
        _is_whole(folder)
        again = run(name, *given)
        assert again.status == 0, again.err
        _is_whole(folder)
        assert_same_bits(checkpoint(folder / "run"), checkpoint(whole / "run")) if number < 3 else 0
        if SCRIPTS[number] is _sample:
            ours, theirs = (files.read_npz(place / "x.npz") for place in (folder, whole))
            np.testing.assert_array_equal(ours["images"], theirs["images"])
        shutil.rmtree(folder)


def _is_whole(folder):
    """What is there under its name can be read."""
    for path in folder.rglob("*.npz"):
        classifier.load(path) if path.name == "c.npz" else files.read_npz(path)
    for path in folder.rglob("report.html"):
        assert path.read_text().rstrip().endswith("</html>")
    if (folder / "run" / "config.json").exists():
        files.read_json_lines(folder / "run" / "metrics.jsonl")
        history.read(folder / "run")
