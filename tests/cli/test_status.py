"""`jaxgan status`: how far runs are, from their folders alone."""

import json
import os
import subprocess
import sys

import pytest
from commands import TINY, run

from jaxgan.runs.status import duration, status_of
from jaxgan.training import workdir as workdirs
from jaxgan.training.checkpoint import Checkpointer


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    made = run("train", *TINY, "--steps=3", f"--workdir={folder}")
    assert made.status == 0, made.err
    return folder


def test_one_run_is_a_page(workdir):
    told = run("status", str(workdir))
    assert told.status == 0, told.err
    lines = told.out.splitlines()
    assert lines[0] == f"{workdir}: gan on shapes, complete"
    assert lines[1] == "step 3 of 3 (100%)"
    assert "images/s, losses D " in lines[2]
    assert lines[3].startswith("watch: Not judged: 3 logged steps")
    assert lines[-1] == f"samples: {workdir}/samples/step_00000003.png"


def test_several_runs_are_a_table(workdir, tmp_path):
    for name, steps in (("a", 3), ("b", 30)):
        folder = tmp_path / name
        folder.mkdir()
        workdirs.write(folder, workdirs.read(workdir) | {"steps": steps})
        (folder / "metrics.jsonl").write_text(
            "".join(
                json.dumps({"step": step, "seconds": 2.0 * step, "generator/loss": None}) + "\n"
                for step in (1, 2, 3)
            )
        )
        (folder / "checkpoints" / "3").mkdir(parents=True)
    head, one, other = run("status", str(tmp_path)).out.splitlines()
    assert head.split()[:3] == ["run", "state", "step"]
    assert one.split()[1:5] == ["complete", "3", "of", "3"]
    assert other.split()[1:7] == ["stopped", "3", "of", "30", "54", "s"]
    assert "G not finite" in other


def test_a_run_is_running_while_its_process_lives(tmp_path, workdir):
    settings = (workdir / "config.json").read_text()
    (tmp_path / "config.json").write_text(settings)
    assert status_of(tmp_path).state == "stopped"
    with Checkpointer(tmp_path / "checkpoints"):
        assert status_of(tmp_path).state == "running"
    assert status_of(tmp_path).state == "stopped"
    # A process that lives and holds no lock has only got the number of one that did.
    (tmp_path / "checkpoints" / ".lock").write_text(str(os.getpid()))
    assert status_of(tmp_path).state == "stopped"


def test_what_is_no_run_is_said(tmp_path):
    refused = run("status", str(tmp_path))
    assert refused.status == 1
    assert refused.err == f"error: there is no run in {tmp_path}; name the --workdir of one\n"


def test_no_device_is_asked_for(workdir):
    code = (
        f"import sys; sys.argv = ['jaxgan', 'status', {str(workdir)!r}]\n"
        "from jaxgan.cli import main; main()"
    )
    nowhere = {**os.environ, "JAX_PLATFORMS": "nowhere"}  # where starting a backend fails
    done = subprocess.run([sys.executable, "-c", code], env=nowhere, capture_output=True, text=True)
    assert "complete" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (90, "90 s"), (600, "10 min"), (7200, "2 h"), (3e5, "3.5 days")],
)
def test_times_have_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text
