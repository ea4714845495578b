"""`metrics.jsonl`: what survives a kill, a resume, and numbers that are not finite."""

import json
import logging
import math

import numpy as np
import pytest

from jaxgan.files import read_json_lines
from jaxgan.training.log import Log


def _write(workdir, first, last, seconds=0.0):
    log = Log(workdir, first)
    for step in range(first + 1, last + 1):
        values = {"generator/loss": step / 2, "seconds": seconds + step - first}
        log.metrics(step, values)
    log.close()


def _steps(workdir):
    return [line["step"] for line in read_json_lines(workdir / "metrics.jsonl")]


def test_every_line_is_a_step(tmp_path):
    _write(tmp_path, 0, 3)
    lines = read_json_lines(tmp_path / "metrics.jsonl")
    assert lines[1] == {"step": 2, "generator/loss": 1.0, "seconds": 2.0}
    assert _steps(tmp_path) == [1, 2, 3]
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_tensorboard_gets_no_number_that_is_none(tmp_path, caplog):
    log = Log(tmp_path, 0)
    log.metrics(1, {"generator/loss": math.nan, "seconds": 1.0})
    log.close()
    assert not caplog.text
    (board,) = (tmp_path / "tensorboard").iterdir()
    assert b"generator/loss" not in board.read_bytes()
    assert read_json_lines(tmp_path / "metrics.jsonl")[0]["generator/loss"] is None


def test_nothing_yet_is_no_error(tmp_path):
    assert read_json_lines(tmp_path / "metrics.jsonl") == []


def test_lines_after_the_resumed_step_are_dropped(tmp_path):
    _write(tmp_path, 0, 5)
    _write(tmp_path, 3, 4)
    assert _steps(tmp_path) == [1, 2, 3, 4]
    assert not list(tmp_path.glob("*.tmp"))


def test_seconds_go_on_from_the_last_kept_line(tmp_path):
    _write(tmp_path, 0, 5)
    _write(tmp_path, 3, 5)
    assert [line["seconds"] for line in read_json_lines(tmp_path / "metrics.jsonl")] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_torn_last_line_is_left_out_and_then_written_again(tmp_path, caplog):
    _write(tmp_path, 0, 3)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-9])
    with caplog.at_level(logging.WARNING):
        assert _steps(tmp_path) == [1, 2]
    assert not caplog.records  # a kill explains it
    _write(tmp_path, 2, 3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_a_damaged_line_in_the_middle_is_named(tmp_path, caplog):
    _write(tmp_path, 0, 3)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = lines[1][:7]
    path.write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING):
        assert _steps(tmp_path) == [1, 3]
    assert "line 2 is damaged" in caplog.text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null(tmp_path, value):
    log = Log(tmp_path, 0)
    log.metrics(1, {"generator/loss": value, "seconds": 1.0})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert '"generator/loss": null' in text
    assert read_json_lines(tmp_path / "metrics.jsonl")[0]["generator/loss"] is None


def test_a_line_is_on_disk_before_the_next_step(tmp_path):
    log = Log(tmp_path, 0)
    log.metrics(1, {"seconds": 1.0})
    assert _steps(tmp_path) == [1]
    log.image(1, "samples", np.zeros((4, 4, 3), np.uint8))
    log.close()
