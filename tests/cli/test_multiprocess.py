"""Several processes, as on several machines, train what one trains."""

import contextlib
import shutil
import signal
import socket
import time

import numpy as np
import pytest
from commands import EXPERIMENTS, TINY, Result, assert_same_bits, checkpoint, finish, run, start

from jaxgan import files

RUN = (*TINY, "--steps=4", "--checkpoint_every=2")


def _both(*arguments, script="train", second=(), during=None, **environment) -> list[Result]:
    """Runs a training in two processes of one device each; `second` are flags of process 1.

    `during` is given the processes while they run.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                start(
                    script,
                    *arguments,
                    f"--coordinator=127.0.0.1:{port}",
                    "--num_processes=2",
                    f"--process_id={number}",
                    *(second if number else ()),
                    devices=1,
                    **environment,
                )
            )
            for number in range(2)
        ]
        if during is not None:
            during(processes)
        return [finish(process) for process in processes]


def test_two_processes_end_as_one_and_go_on_to_the_same_bits(tmp_path):
    two, parts, one = (tmp_path / name for name in ("two", "parts", "one"))
    # Nothing is prepared yet, so that both draw the pictures at once.
    first, second = _both(*RUN, f"--workdir={two}", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert first.status == second.status == 0, first.err + second.err
    assert f"samples: {two}/samples/step_00000004.png" in first.out
    assert "samples" not in second.out
    assert "step" not in second.err  # one bar is enough
    assert (two / "samples" / "step_00000004.png").exists()

    # Four devices of one process: the same data and latents, sums rounded otherwise.
    assert run("train", *RUN, f"--workdir={one}").status == 0
    lines, expected = (files.read_json_lines(path / "metrics.jsonl") for path in (two, one))
    assert [line["images"] for line in lines] == [line["images"] for line in expected]
    for name in ("discriminator/loss", "generator/loss"):
        ours, theirs = ([line[name] for line in which] for which in (lines, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for name, array in checkpoint(one).items():
        np.testing.assert_allclose(checkpoint(two)[name], array, atol=1e-6, err_msg=name)

    shutil.copytree(two, parts)
    shutil.rmtree(parts / "checkpoints" / "4")
    # As without a shared disk: only process 0 looks at the workdir, or writes there.
    elsewhere = tmp_path / "elsewhere"
    resumed = _both(*RUN, f"--workdir={parts}", second=[f"--workdir={elsewhere}"])
    assert [process.status for process in resumed] == [0, 0], resumed
    assert "50% 2/4" in resumed[0].err
    assert_same_bits(checkpoint(parts), checkpoint(two))
    assert not elsewhere.exists()


@pytest.mark.slow
def test_an_error_at_the_start_is_one_line_in_every_process(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    for process in _both(*RUN, f"--workdir={tmp_path}"):
        assert process.status == 1, process.err
        assert f"{tmp_path} exists and is not a workdir" in process.err
        assert "Traceback" not in process.err
    for process in _both(*RUN, "--batch_size=7", f"--workdir={tmp_path}/run"):
        assert process.status == 1, process.err
        assert "a batch of 7 cannot be divided among 2 devices" in process.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


FAILING_LOADER = """
import itertools, runpy, sys
import jaxgan.training.loop

batches = jaxgan.training.loop.batches

def failing(*arguments, **settings):
    yield from itertools.islice(batches(*arguments, **settings), 3)
    raise OSError("the disk is gone")

if "--process_id={process}" in sys.argv:
    jaxgan.training.loop.batches = failing
sys.path.insert(0, {experiments!r})
runpy.run_path({experiments!r} + "/train.py", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_a_process_that_fails_takes_the_other_with_it(process, tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING_LOADER.format(process=process, experiments=str(EXPERIMENTS)))
    results = _both(*RUN, "--steps=1000000", f"--workdir={tmp_path}/run", script=script)
    assert [result.status for result in results] == [1, 1]
    assert "OSError: the disk is gone" in results[process].err
    other = results[1 - process].err
    assert f"error: process {process} has ended: OSError: the disk is gone; the same comm" in other
    assert "Traceback" not in other


def _until_logged(workdir, steps, processes):
    path = workdir / "metrics.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < steps:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed_takes_the_other_with_it(victim, tmp_path):
    def kills(processes):
        _until_logged(tmp_path / "run", 3, processes)
        processes[victim].kill()

    flags = (*RUN, "--steps=1000000", f"--workdir={tmp_path}/run")
    other = _both(*flags, during=kills)[1 - victim]
    assert other.status in (1, -signal.SIGABRT)  # JAX aborts where its coordinator is gone
    assert f"error: process {victim} has ended: it was killed, or its machine is gone" in other.err
    assert victim == 0 or other.status == 1
    assert victim == 0 or "Traceback" not in other.err


@pytest.mark.slow
def test_processes_with_other_flags_end_before_the_first_step(tmp_path):
    rate = "--set=learning_rate=0.1"
    for process in _both(*RUN, f"--workdir={tmp_path}/run", second=[rate]):
        assert process.status == 1, process.err
        assert "config.learning_rate is 0.0002 on process 0 and 0.1 on process 1" in process.err
        assert "Traceback" not in process.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_signal_to_one_process_saves_once_and_ends_all_at_one_step(tmp_path):
    workdir, unbroken = tmp_path / "run", tmp_path / "unbroken"
    for number, victim, statuses in (
        (signal.SIGTERM, 1, [143, 143]),
        (signal.SIGINT, 0, [130, 143]),
        (signal.SIGHUP, 1, [143, 129]),
    ):

        def sends(processes, number=number, victim=victim):
            lines = len(files.read_json_lines(workdir / "metrics.jsonl"))
            _until_logged(workdir, lines + 3, processes)
            processes[victim].send_signal(number)

        flags = (*RUN, "--steps=1000000", "--checkpoint_every=1000000", "--keep=9")
        ended = _both(*flags, f"--workdir={workdir}", during=sends)
        assert [process.status for process in ended] == statuses, ended
        assert "Traceback" not in ended[0].err + ended[1].err
    saved = sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*"))
    assert len(saved) == 3
    steps = [line["step"] for line in files.read_json_lines(workdir / "metrics.jsonl")]
    assert steps == list(range(1, saved[-1] + 1))
    whole = _both(*RUN, f"--steps={saved[-1]}", f"--workdir={unbroken}")
    assert [process.status for process in whole] == [0, 0]
    assert_same_bits(checkpoint(workdir), checkpoint(unbroken))
