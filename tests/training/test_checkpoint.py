"""Checkpoints come back bit for bit, or an error says why not; nothing is lost in between."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, wait
from pathlib import Path

import chex
import flax.struct
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan.training import checkpoint, checkpoint_format, integrity
from jaxgan.training.checkpoint import Checkpointer, CheckpointError


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt: optax.OptState


def make_state(step=0, width=8, dtype=jnp.float32):
    kernel = jax.random.normal(jax.random.key(step), (5, width), dtype)
    params = {"generator": {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(width)}}}}
    return State(jnp.int32(step), params, optax.adam(1e-3).init(params))


def save_steps(directory, *steps):
    with Checkpointer(directory, keep=10) as checkpointer:
        for step in steps:
            checkpointer.save(step, make_state(step))


def names(directory):
    return sorted(path.name for path in Path(directory).iterdir() if not path.name.startswith("."))


def contents(directory):
    return {p: p.read_bytes() for p in sorted(Path(directory).rglob("*")) if p.is_file()}


def test_a_step_under_another_name_is_not_restored_as_that(tmp_path, caplog):
    save_steps(tmp_path, 1, 2)
    shutil.copytree(tmp_path / "1", tmp_path / "7")
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore(make_state()).step == 2
        assert "7 is damaged: it is step 1 under another name" in caplog.text
        assert names(tmp_path) == ["1", "2", "7.corrupt"]


def test_a_step_that_does_not_say_its_number_is_restored(tmp_path):
    save_steps(tmp_path, 3)
    manifest = integrity.read_json(tmp_path / "3" / "manifest.json")
    assert manifest.pop("step") == 3
    integrity.write_json(tmp_path / "3" / "manifest.json", manifest)
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore(make_state()).step == 3


# What a step holds.


def test_restores_every_kind_of_leaf_in_the_structure_of_the_template(tmp_path):
    state = {
        "state": make_state(3),
        "half": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3),
        "flags": [jnp.array(True), jnp.arange(3, dtype=jnp.uint8)],
        "empty": jnp.zeros((0, 3), jnp.float16),
        "a key with spaces.and dots": jnp.float32(jnp.nan),
        "nothing": None,
        "no leaves": {},
    }
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(3, state)
        step, restored = checkpointer.restore(jax.eval_shape(lambda: state))
    assert step == 3
    chex.assert_trees_all_equal_structs(state, restored)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, restored)
    chex.assert_trees_all_equal(state, restored)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(restored))


def test_a_state_of_empty_arrays_alone(tmp_path):
    state = {"a": jnp.zeros((0, 3), jnp.bfloat16), "b": [np.zeros(0, np.int8)]}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state)
        step, restored = checkpointer.restore(state)
    assert step == 1
    chex.assert_trees_all_equal_shapes_and_dtypes(state, restored)


@pytest.mark.parametrize("state", [{}, {"nothing": None}])
def test_a_state_without_any_array(tmp_path, state):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state)
        assert checkpointer.restore(state) == (1, state)


def test_raw_restore_names_the_fields_of_tuples_and_dataclasses(tmp_path):
    save_steps(tmp_path, 3)
    with Checkpointer(tmp_path, read_only=True) as checkpointer:
        step, state = checkpointer.restore_raw()
    expected = make_state(3)
    assert (step, state["step"]) == (3, 3)
    np.testing.assert_array_equal(
        state["params"]["generator"]["params"]["Dense_0"]["kernel"],
        expected.params["generator"]["params"]["Dense_0"]["kernel"],
    )
    assert state["opt"]["0"].keys() == {"count", "mu", "nu"}


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_number_of_devices_does_not_matter(tmp_path, devices):
    mesh = jax.sharding.Mesh(jax.devices()[:devices], "data")
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = jax.device_put(make_state(1), everywhere)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state)
        chex.assert_trees_all_equal(make_state(1), checkpointer.restore(state).state)


def test_the_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    everywhere = jax.sharding.NamedSharding(
        jax.sharding.Mesh(jax.devices(), "data"), jax.sharding.PartitionSpec()
    )
    overwrite = jax.jit(lambda x: x * 0 - 7, donate_argnums=0)
    state = jax.device_put(jnp.ones((500, 500)), everywhere)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"w": state})
        jax.block_until_ready(overwrite(state))
        assert state.is_deleted()  # nothing that save kept stood in the way of the donation
        np.testing.assert_array_equal(checkpointer.restore_raw().state["w"], 1)


def test_host_arrays_may_be_overwritten_as_soon_as_save_returns(tmp_path):
    weights = np.ones((500, 500), np.float32)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"w": weights})
        weights[:] = -7
        np.testing.assert_array_equal(checkpointer.restore_raw().state["w"], 1)


@pytest.mark.parametrize(
    "state, error, message",
    [
        ({"a": {"b": "text"}}, TypeError, "a/b is 'text'"),
        ({"a": {"b": 1.0}, "a/b": 2.0}, ValueError, "two leaves of the tree are called 'a/b'"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path, state, error, message):
    with Checkpointer(tmp_path) as checkpointer:
        with pytest.raises(error, match=message):
            checkpointer.save(1, state)
        assert checkpointer.steps() == []


def test_a_typed_key_is_refused_with_the_remedy(tmp_path):
    with (
        Checkpointer(tmp_path) as checkpointer,
        pytest.raises(TypeError, match=r"rng is a typed random key; keep jax.random.key_data"),
    ):
        checkpointer.save(1, {"rng": jax.random.key(0)})


# Which steps are kept.


@hypothesis.given(
    steps=st.sets(st.integers(0, 50)), keep=st.integers(1, 5), every=st.none() | st.integers(1, 9)
)
def test_the_newest_and_the_divisible_steps_are_kept(steps, keep, every):
    gone = set(checkpoint.expired(steps, keep, every))
    kept = steps - gone
    assert gone <= steps
    assert set(sorted(steps)[-keep:]) <= kept
    assert {s for s in steps if every and s % every == 0} <= kept
    assert all(s % every for s in gone if every)
    if every is None:
        assert len(kept) == min(keep, len(steps))


def test_old_steps_are_deleted(tmp_path):
    with Checkpointer(tmp_path, keep=2, keep_every=4) as checkpointer:
        for step in range(1, 8):
            checkpointer.save(step, {"w": np.float32(step)})
    assert names(tmp_path) == ["4", "6", "7"]


@pytest.mark.parametrize("settings", [{"keep": 0}, {"keep_every": 0}])
def test_keeping_nothing_is_refused(tmp_path, settings):
    with pytest.raises(ValueError, match="is 0;"):
        Checkpointer(tmp_path, **settings)


def test_saving_the_same_state_twice_is_fine(tmp_path):
    save_steps(tmp_path, 1, 2)
    before = contents(tmp_path / "2")
    save_steps(tmp_path, 2)
    assert contents(tmp_path / "2") == before


@pytest.mark.parametrize("step, other", [(2, " with another state"), (1, "")])
def test_saving_the_past_is_an_error(tmp_path, step, other):
    save_steps(tmp_path, 1, 2)
    before = contents(tmp_path)
    with Checkpointer(tmp_path) as checkpointer:
        with pytest.raises(CheckpointError, match=f"has step 2 already{other};"):
            checkpointer.save(step, make_state(9))
        checkpointer.save(3, make_state(3))
    assert {path: before[path] for path in before if path.name != ".lock"}.items() <= contents(
        tmp_path
    ).items()


# Reading, and what may be in the way.


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    def state(weight, moment=0.0):
        return {"variables": {"params": np.float32(weight)}, "opt": np.float32(moment)}

    with Checkpointer(tmp_path, keep=1) as checkpointer:
        checkpointer.save(1, state(1, moment=np.inf))
        with pytest.raises(CheckpointError, match="step 2 .* variables/params is not finite"):
            checkpointer.save(2, state(np.nan))
    assert names(tmp_path) == ["1"]


def test_no_checkpoint_at_all(tmp_path):
    with Checkpointer(tmp_path / "new") as checkpointer:
        assert checkpointer.restore(make_state()) is None
    with Checkpointer(tmp_path / "absent", read_only=True) as checkpointer:
        assert checkpointer.steps() == []
        assert checkpointer.restore_raw() is None
    assert not (tmp_path / "absent").exists()


def test_a_step_can_be_asked_for(tmp_path):
    save_steps(tmp_path, 1, 2)
    with Checkpointer(tmp_path, read_only=True) as checkpointer:
        assert checkpointer.restore(make_state(), 1).state.step == 1
        with pytest.raises(CheckpointError, match=r"has no step 7, but \[1, 2\]"):
            checkpointer.restore(make_state(), 7)


def truncate(step):
    for path in (step / "arrays").rglob("d/*"):
        os.truncate(path, path.stat().st_size // 2)


def exchange_the_arrays(step):  # they read well, and are wrong
    shutil.rmtree(step / "arrays")
    shutil.copytree(step.with_name("1") / "arrays", step / "arrays")


def change_the_manifest(step):
    manifest = step / "manifest.json"
    text = manifest.read_text()
    assert '"int32"' in text
    manifest.write_text(text.replace('"int32"', '"int64"'))


def write_garbage(step):
    (step / "manifest.json").write_text("{garbage")


def write_bytes_that_are_no_text(step):
    (step / "manifest.json").write_bytes(b"\xff\xfe{}")


def write_another_kind_of_json(step):
    (step / "manifest.json").write_text("[1]")


def remove_the_manifest(step):
    (step / "manifest.json").unlink()


def remove_a_file(step):
    next((step / "arrays").rglob("d/*")).unlink()


def remove_the_arrays(step):
    shutil.rmtree(step / "arrays")


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


def replace_by_a_file(step):
    shutil.rmtree(step)
    step.touch()


DAMAGE = [
    truncate,
    exchange_the_arrays,
    change_the_manifest,
    write_garbage,
    write_bytes_that_are_no_text,
    write_another_kind_of_json,
    remove_the_manifest,
    remove_a_file,
    remove_the_arrays,
    empty,
    replace_by_a_file,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_sets_the_step_aside_and_goes_back(tmp_path, caplog, damage):
    save_steps(tmp_path, 1, 2)
    damage(tmp_path / "2")
    with Checkpointer(tmp_path) as checkpointer:
        with caplog.at_level("WARNING", "absl"):
            step, state = checkpointer.restore(make_state())
        assert step == 1
        chex.assert_trees_all_equal(state, make_state(1))
        assert f"{tmp_path}/2 is damaged" in caplog.text
        assert "going back to step 1" in caplog.text
        assert names(tmp_path) == ["1", "2.corrupt"]
        checkpointer.save(2, make_state(2))
        chex.assert_trees_all_equal(checkpointer.restore(make_state()).state, make_state(2))


def test_arrays_that_were_written_wrong_are_damage_too(tmp_path, monkeypatch):
    save_steps(tmp_path, 1)
    with monkeypatch.context() as unnoticed:
        unnoticed.setattr(integrity, "file_checksums", lambda directory: {})
        save_steps(tmp_path, 2)
    exchange_the_arrays(tmp_path / "2")
    with Checkpointer(tmp_path, read_only=True) as checkpointer:
        assert checkpointer.restore(make_state()).step == 1


def test_damage_twice_at_one_step_keeps_both(tmp_path):
    for _ in range(2):
        save_steps(tmp_path, 1, 2)
        truncate(tmp_path / "2")
        with Checkpointer(tmp_path) as checkpointer:
            assert checkpointer.restore_raw().step == 1
    assert names(tmp_path) == ["1", "2.corrupt", "2.corrupt-2"]


def test_a_reader_goes_back_and_changes_nothing(tmp_path):
    save_steps(tmp_path, 1, 2)
    truncate(tmp_path / "2")
    before = contents(tmp_path)
    with Checkpointer(tmp_path, read_only=True) as checkpointer:
        assert checkpointer.restore(make_state()).step == 1
    assert contents(tmp_path) == before


def test_all_damaged_is_one_error_and_the_files_stay(tmp_path):
    save_steps(tmp_path, 1, 2)
    truncate(tmp_path / "1")
    write_garbage(tmp_path / "2")
    with Checkpointer(tmp_path) as checkpointer:
        before = contents(tmp_path)
        with pytest.raises(CheckpointError, match="step 2: .*; step 1: .*the files are kept"):
            checkpointer.restore(make_state())
        assert contents(tmp_path) == before


def test_a_damaged_step_that_was_asked_for_is_an_error(tmp_path):
    save_steps(tmp_path, 1, 2)
    truncate(tmp_path / "2")
    with Checkpointer(tmp_path) as checkpointer, pytest.raises(CheckpointError, match="step 2: "):
        checkpointer.restore(make_state(), 2)
    assert names(tmp_path) == ["1", "2"]


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    directory = tmp_path_factory.mktemp("two_steps")
    save_steps(directory, 1, 2)
    return directory


@hypothesis.given(data=st.data())
def test_a_flipped_bit_is_never_a_wrong_number(two_steps, tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("flipped")
    shutil.copytree(two_steps, directory, dirs_exist_ok=True)
    files = sorted(path for path in (directory / "2").rglob("*") if path.is_file())
    victim = data.draw(st.sampled_from(range(len(files))))
    content = bytearray(files[victim].read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    files[victim].write_bytes(content)
    with Checkpointer(directory, read_only=True) as checkpointer:
        step, state = checkpointer.restore(make_state())
    chex.assert_trees_all_equal(state, make_state(step))


def test_other_errors_are_not_taken_for_damage(tmp_path, monkeypatch):
    save_steps(tmp_path, 1, 2)

    def forbid(path):
        raise PermissionError(path)

    monkeypatch.setattr(checkpoint_format, "read_step", forbid)
    with Checkpointer(tmp_path) as checkpointer, pytest.raises(PermissionError):
        checkpointer.restore(make_state())
    assert names(tmp_path) == ["1", "2"]


def test_a_step_deleted_while_it_is_read_is_no_damage(tmp_path, monkeypatch, caplog):
    save_steps(tmp_path, 1, 2)
    read_step = checkpoint_format.read_step

    def delete_then_read(path):
        if path.name == "2":
            shutil.rmtree(path)
        return read_step(path)

    monkeypatch.setattr(checkpoint_format, "read_step", delete_then_read)
    with Checkpointer(tmp_path, read_only=True) as checkpointer:
        assert checkpointer.restore(make_state()).step == 1
    assert "damaged" not in caplog.text


def without_bias():
    state = make_state(1)
    dense = {"kernel": jnp.ones((5, 8))}
    return state.replace(params={"generator": {"params": {"Dense_0": dense}}})


def with_another_layer():
    state = make_state(1)
    dense = state.params["generator"]["params"]["Dense_0"]
    return state.replace(params={"generator": {"params": {"Dense_0": dense, "Dense_1": dense}}})


@pytest.mark.parametrize(
    "template, message",
    [
        (
            lambda: make_state(width=16),
            r"params/generator/params/Dense_0/bias is \(8,\) in the checkpoint and \(16,\) in this "
            r"model \(and 5 more leaves differ\): use the settings of the run, or another "
            r"workdir",
        ),
        (
            lambda: make_state(dtype=jnp.bfloat16),
            "Dense_0/kernel is float32 in the checkpoint and bfloat16 in this model",
        ),
        (without_bias, "Dense_0/bias is in the checkpoint and not in this model"),
        (with_another_layer, "Dense_1/bias is in this model and not in the checkpoint"),
    ],
)
def test_another_model_is_an_error_and_not_damage(tmp_path, caplog, template, message):
    save_steps(tmp_path, 1, 2)
    with Checkpointer(tmp_path) as checkpointer, pytest.raises(CheckpointError, match=message):
        checkpointer.restore(template())
    assert names(tmp_path) == ["1", "2"]
    assert "damaged" not in caplog.text


def test_a_newer_schema_asks_for_an_update(tmp_path, monkeypatch):
    save_steps(tmp_path, 1)
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint_format, "SCHEMA", checkpoint_format.SCHEMA + 1)
        save_steps(tmp_path, 2)
    with Checkpointer(tmp_path) as checkpointer:
        with pytest.raises(CheckpointError, match="schema 2 and .* up to 1: update jaxgan"):
            checkpointer.restore(make_state())
        with pytest.raises(CheckpointError, match="update jaxgan"):
            checkpointer.restore_raw()
    assert names(tmp_path) == ["1", "2"]


# Who may write, and what happens when writing fails.


def test_a_second_run_is_refused_with_the_pid(tmp_path):
    with Checkpointer(tmp_path):
        with pytest.raises(CheckpointError, match=rf"in use by another run \(pid {os.getpid()}\)"):
            Checkpointer(tmp_path)
        Checkpointer(tmp_path, read_only=True).close()
    Checkpointer(tmp_path).close()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_directory_that_cannot_be_written_is_an_error_at_the_start(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=f"{tmp_path / place} cannot be written"):
        Checkpointer(tmp_path / place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_an_error_at_the_start(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        Checkpointer(tmp_path)


def test_read_only_and_closed_checkpointers_refuse_to_save(tmp_path):
    with (
        Checkpointer(tmp_path, read_only=True) as reader,
        pytest.raises(CheckpointError, match="opened read-only"),
    ):
        reader.save(1, make_state())
    checkpointer = Checkpointer(tmp_path)
    checkpointer.close()
    checkpointer.close()
    with pytest.raises(CheckpointError, match="is closed"):
        checkpointer.save(1, make_state())


def test_a_save_in_flight_survives_an_exception(tmp_path):
    with pytest.raises(ZeroDivisionError), Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"w": np.random.default_rng(0).normal(size=(1000, 1000))})
        _ = 1 / 0
    assert names(tmp_path) == ["1"]


def test_closing_again_after_an_interrupt_waits_for_the_rest(tmp_path, monkeypatch):
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, make_state(1))
    with monkeypatch.context() as interrupted:

        def interrupt(future):
            raise KeyboardInterrupt

        interrupted.setattr(Future, "result", interrupt)
        with pytest.raises(KeyboardInterrupt):
            checkpointer.close()
    with pytest.raises(CheckpointError, match="in use"):
        Checkpointer(tmp_path)
    checkpointer.close()
    assert names(tmp_path) == ["1"]
    Checkpointer(tmp_path).close()


@contextlib.contextmanager
def disk_with_room_for(size):
    """No file may grow over `size` bytes: to a writer that is a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("then", ["save", "wait", "close", "restore"])
def test_a_full_disk_is_an_error_at_the_next_call(tmp_path, then):
    large = {"w": np.random.default_rng(0).normal(size=(200, 200))}
    with contextlib.ExitStack() as stack:
        checkpointer = stack.enter_context(Checkpointer(tmp_path))
        checkpointer.save(1, make_state(1))
        checkpointer.wait()
        with disk_with_room_for(50_000):
            checkpointer.save(2, large)
            wait([checkpointer._pending[1]])
        call = {
            "save": lambda: checkpointer.save(3, large),
            "wait": checkpointer.wait,
            "close": checkpointer.close,
            "restore": lambda: checkpointer.restore(make_state()),
        }[then]
        with pytest.raises(CheckpointError, match="step 2 could not be saved .* disk has room"):
            call()
        assert names(tmp_path) == ["1"]  # and what was half written takes no room
    with Checkpointer(tmp_path) as checkpointer:
        chex.assert_trees_all_equal(checkpointer.restore(make_state()).state, make_state(1))
        checkpointer.save(3, large)
    assert names(tmp_path) == ["1", "3"]


SAVE_FOR_EVER = """
import itertools, sys
import numpy as np
from jaxgan.training.checkpoint import Checkpointer

with Checkpointer(sys.argv[1], keep=2) as checkpointer:
    last = checkpointer.restore_raw()
    for step in itertools.count(last.step + 1 if last else 1):
        state = {"a": np.full((300, 300), step), "b": {"c": np.arange(5) * step}}
        checkpointer.save(step, state)
        print(step, flush=True)
"""


def saving_for_ever(directory, **streams):
    return subprocess.Popen(
        [sys.executable, "-c", SAVE_FOR_EVER, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        **streams,
    )


def kill_while_saving(directory, saves, delay):
    """Starts a run that saves all the time, and kills it some seconds after so many saves."""
    with saving_for_ever(directory) as child:
        for _ in range(saves):
            assert child.stdout.readline().strip().isdecimal()
        time.sleep(delay)
        with pytest.raises(CheckpointError, match=rf"\(pid {child.pid}\)"):
            Checkpointer(directory)
        child.send_signal(signal.SIGKILL)


def check_every_step(directory):
    with Checkpointer(directory) as checkpointer:
        steps = checkpointer.steps()
        assert steps
        for step in steps:
            restored = checkpointer.restore_raw(step)
            np.testing.assert_array_equal(restored.state["a"], step)
            np.testing.assert_array_equal(restored.state["b"]["c"], np.arange(5) * step)
        assert names(directory) == sorted(map(str, steps))  # nothing half written is left
    return steps[-1]


def test_a_killed_run_leaves_good_steps_and_a_free_lock(tmp_path):
    kill_while_saving(tmp_path, saves=4, delay=0.01)
    assert check_every_step(tmp_path) >= 3


def test_ctrl_c_in_a_save_ends_the_run_and_finishes_the_save(tmp_path):
    with saving_for_ever(tmp_path, stderr=subprocess.PIPE) as child:
        for _ in range(3):
            child.stdout.readline()
        while not (begun := [*tmp_path.glob("*.unfinished")]):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == -signal.SIGINT
        assert child.stderr.read().endswith("KeyboardInterrupt\n")
        returned = child.stdout.read().split()
    # Nothing that was begun is lost or left in part, even before the next run cleans up.
    assert all(name.isdecimal() for name in names(tmp_path))
    assert check_every_step(tmp_path) >= max(map(int, [begun[0].stem, *returned]))


@pytest.mark.slow
def test_many_kills_leave_good_steps(tmp_path):
    delays = np.random.default_rng(0).uniform(0, 0.1, size=10)
    newest = [0]
    for delay in delays:
        kill_while_saving(tmp_path, saves=3, delay=delay)
        newest.append(check_every_step(tmp_path))
    assert np.all(np.diff(newest) >= 2)  # every run went on where the last one had come to
