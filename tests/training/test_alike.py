"""All processes of a run are asked the same, and all copies of its state stay the same bits."""

import jax
import numpy as np
import pytest
from commands import TINY, run

from jaxgan import devices, processes
from jaxgan.errors import UsageError
from jaxgan.training import record
from jaxgan.training import workdir as workdirs
from jaxgan.training.checkpoint import CheckpointError
from jaxgan.training.replicas import check_replicas

SETTINGS = {
    "config": {"learning_rate": 2e-4},
    "steps": 9,
    "data": {"fingerprint": "ab", "data_dir": "/a"},
    "versions": {"jax": "0.10.2", "python": "3.11.7"},
    "command": "train --process_id=0",
}


@pytest.fixture
def second(monkeypatch):
    """Makes this process the first of two; takes what the second one would tell."""

    def tells(change):
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(processes, "gather", lambda ours: [ours, change(ours)])

    return tells


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"config": {"learning_rate": 0.1}}, "config.learning_rate is 0.0002 on process 0 and 0.1"),
        ({"steps": 10}, "steps is 9 on process 0 and 10 on process 1"),
        ({"data": {"fingerprint": "cd", "data_dir": "/a"}}, "data.fingerprint is ab .* and cd"),
        ({"versions": {"jax": "0.11", "python": "3.12"}}, "versions.jax is 0.10.2 .* and 0.11"),
    ],
)
def test_processes_that_are_asked_otherwise_do_not_begin(theirs, words, second):
    second(lambda ours: {**ours, **theirs})
    with pytest.raises(UsageError, match=words):
        workdirs.check_alike(SETTINGS)


def test_each_process_may_have_its_own_command_and_folder_of_pictures(second):
    second(lambda ours: {**ours, "command": "x", "data": {"fingerprint": "ab", "data_dir": "/b"}})
    workdirs.check_alike(SETTINGS)


def _drifted():
    """A tree on four devices, of which the third holds another number."""
    tree = devices.replicate({"step": np.int32(1), "w": np.array([1.0, np.nan], np.float32)})
    parts = [shard.data for shard in tree["w"].addressable_shards]
    parts[2] = jax.device_put(np.array([1.0, 2.0], np.float32), parts[2].sharding)
    w = tree["w"]
    return {**tree, "w": jax.make_array_from_single_device_arrays(w.shape, w.sharding, parts)}


def test_devices_that_drift_apart_are_noticed():
    check_replicas(1, devices.replicate({"w": np.array([np.nan, -0.0, 0.0])}))
    with pytest.raises(CheckpointError, match="step 3 is not saved.* w of device 2 is not that of"):
        check_replicas(3, _drifted())


def test_processes_that_drift_apart_are_noticed(second):
    state = devices.replicate({"w": np.ones(3), "b": np.zeros(2)})
    second(lambda ours: ours)
    check_replicas(3, state)
    second(lambda ours: [None, {**ours[1], "b": "0"}])
    with pytest.raises(CheckpointError, match="b of process 1 is not that of process 0"):
        check_replicas(3, state)
    second(lambda ours: ["w of device 1 is not that of device 0", ours[1]])
    with pytest.raises(CheckpointError, match="w of device 1 is not that of device 0 of process 1"):
        check_replicas(3, state)


def test_a_run_that_drifts_apart_saves_nothing_of_it(tmp_path, monkeypatch):
    saved = record.check_replicas
    drift = lambda step, state: saved(step, state if step < 2 else _drifted())  # noqa: E731
    monkeypatch.setattr(record, "check_replicas", drift)
    made = run("train", *TINY, "--steps=3", "--checkpoint_every=1", f"--workdir={tmp_path}/run")
    assert made.status == 1
    assert "error: step 2 is not saved: copies of the state" in made.err
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")] == ["1"]
