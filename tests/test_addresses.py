"""Workdirs and data at addresses: memory:// and, where moto is installed, an S3 on the loopback."""

import json
import os
import time

import numpy as np
import pytest
from commands import TINY, assert_same_bits, checkpoint, run
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

import jaxgan
from jaxgan import addresses, data, remote
from jaxgan.remote import AddressError, Remote
from jaxgan.training.checkpoint import Checkpointer, CheckpointError

RUN = "memory://bucket/runs/mine"
STEPS = (*TINY, "--num_examples=120", "--checkpoint_every=2")


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Sets the folder of the mirrors: another name is another machine."""

    def use(name):
        monkeypatch.setattr(addresses, "_root", lambda: tmp_path / name / "addresses")

    use("first")
    MemoryFileSystem.store.clear()
    yield use
    MemoryFileSystem.store.clear()


def names(address=RUN):
    return set(Remote.of(address).listing())


def save(steps, **changes):
    """Saves steps of a state, after `config.json`, as a training does."""
    folder = addresses.to_write(RUN)
    with Checkpointer(folder / "checkpoints", **changes) as checkpointer:
        (folder / "config.json").write_text("{}")
        addresses.Mirror(folder, sent=False).put_up()
        for step in steps:
            checkpointer.save(step, {"w": np.full(3, step, np.float32)})
            checkpointer.wait()
    return folder


def steps_of(folder):
    with Checkpointer(folder / "checkpoints", read_only=True) as checkpointer:
        return checkpointer.steps()


def whole_run(address, machine, tmp_path, **environment):
    """Trains at an address on two machines, one after the other, and looks at it from a third."""
    assert run("train", *STEPS, "--steps=4", f"--workdir={tmp_path}/disk").status == 0
    started = run("train", *STEPS, "--steps=2", f"--workdir={address}")
    assert started.status == 0, started.err
    assert f"{address}: new run" in started.out

    machine("second")
    resumed = run("train", *STEPS, "--steps=4", f"--workdir={address}")
    assert resumed.status == 0, resumed.err
    assert f"{address}: goes on from step 2" in resumed.out
    assert f"--workdir={address} --out=grid.png" in resumed.out

    machine("third")
    mine = jaxgan.open_run(address)
    assert mine.step == 4
    assert_same_bits(checkpoint(mine.workdir), checkpoint(tmp_path / "disk"))
    disk = jaxgan.open_run(tmp_path / "disk")
    np.testing.assert_array_equal(mine.sample(4), disk.sample(4))
    np.testing.assert_array_equal(mine.history()["step"], [1, 2, 3, 4])
    assert (mine.workdir / "samples" / "step_00000004.png").exists()
    assert (mine.workdir / "curves.png").exists()
    status = run("status", address.rpartition("/")[0])
    assert f"{address}: gan on shapes, complete" in status.out, status.err
    drawn = run("sample", f"--workdir={address}", "--num=4", f"--out={tmp_path}/grid.png")
    assert drawn.status == 0, drawn.err


def test_a_run_goes_on_on_another_machine_and_is_looked_at_from_a_third(machine, tmp_path):
    whole_run(RUN, machine, tmp_path)
    other = run("train", *STEPS, "--steps=6", "--batch_size=4", f"--workdir={RUN}")
    assert other.err.startswith(f"error: {RUN} holds a run with other settings"), other.err


@pytest.mark.slow
def test_a_run_is_measured_and_another_begins_with_its_weights(machine, tmp_path, caplog):
    assert run("train", *STEPS, "--steps=2", f"--workdir={RUN}").status == 0
    machine("second")
    evaluated = run("evaluate", f"--workdir={RUN}", "--num_images=120", "--metrics=prdc")
    assert f"{RUN}/report.html" in evaluated.out, evaluated.err
    assert {"evaluation.jsonl", "report.html"} <= names()
    tuned = run("train", *STEPS, "--steps=1", f"--init_from={RUN}", f"--workdir={tmp_path}/tuned")
    assert f"--init_from={RUN}: weights of step 2" in caplog.text, tuned.err


def test_python_trains_and_measures_at_an_address(machine):
    shapes = jaxgan.load_data("shapes", image_size=8, num_examples=120)
    small = {"generator_widths": (8,), "discriminator_widths": (8,), "latent_size": 4}
    asked = dict(workdir=RUN, config=small, batch_size=8, num_samples=4, progress=False)
    assert jaxgan.train("gan", shapes, steps=1, **asked).step == 1
    machine("second")
    mine = jaxgan.train("gan", shapes, steps=2, **asked)
    np.testing.assert_array_equal(mine.history()["step"], [1, 2])
    mine.evaluate(120, metrics=["prdc"], progress=False)
    machine("third")
    assert jaxgan.open_run(RUN, checkpoint="best").step == 2


@pytest.mark.slow
def test_the_members_of_a_sweep_are_runs_at_the_address(machine, tmp_path):
    swept = run("train", *STEPS, "--steps=2", "--sweep=seed=0,1", f"--workdir={RUN}")
    assert swept.status == 0, swept.err
    assert "sweep.png" in names()
    machine("second")
    assert jaxgan.open_run(f"{RUN}/seed=1").step == 2
    assert "seed=1" in run("status", RUN).out


def test_old_steps_go_at_the_address_too():
    save([1, 2, 3], keep=2)
    found = {name.split("/")[1] for name in names() if name.startswith("checkpoints/")}
    assert found == {"2", "3"}


def test_what_a_kill_leaves_between_two_files_is_no_step(machine, monkeypatch):
    save([1])
    put, there = MemoryFileSystem.put_file, dict(MemoryFileSystem.store)
    count = 1
    while True:
        machine(f"killed after {count}")
        MemoryFileSystem.store.clear()
        MemoryFileSystem.store.update(there)
        left = count

        def killed(self, local, name, *rest, **settings):
            nonlocal left
            if "/checkpoints/2/" in name:
                if not left:
                    raise OSError("killed")
                left -= 1
            return put(self, local, name, *rest, **settings)

        monkeypatch.setattr(MemoryFileSystem, "put_file", killed)
        try:
            save([2])
        except CheckpointError:
            assert any(name.startswith("checkpoints/2/") for name in names())
            monkeypatch.setattr(MemoryFileSystem, "put_file", put)
            machine(f"another, after {count}")
            assert steps_of(addresses.to_read(RUN)) == [1]
            assert steps_of(addresses.to_write(RUN)) == [1]
            assert not any(name.startswith("checkpoints/2/") for name in names())
            count += 1
        else:
            break
    assert count > 3  # arrays are several files


def test_a_step_that_could_not_be_put_up_goes_up_when_the_run_goes_on(monkeypatch, machine):
    save([1])
    put = MemoryFileSystem.put_file

    def broken(self, local, name, **settings):
        if "/checkpoints/" in name:
            raise PermissionError("read-only")
        return put(self, local, name, **settings)

    monkeypatch.setattr(MemoryFileSystem, "put_file", broken)
    with pytest.raises(CheckpointError, match="could not be put up: .*read-only.*same command"):
        save([2])
    monkeypatch.setattr(MemoryFileSystem, "put_file", put)
    assert steps_of(addresses.to_write(RUN)) == [1, 2]
    machine("second")
    assert steps_of(addresses.to_read(RUN)) == [1, 2]


def test_a_mirror_of_an_earlier_run_is_forgotten(machine):
    save([1, 5])
    machine("second")
    MemoryFileSystem.store.clear()
    save([2])
    machine("first")
    assert steps_of(addresses.to_write(RUN)) == [2]


def test_damage_at_the_address_is_found_by_the_checksums(machine):
    save([1, 2])
    name = next(n for n in MemoryFileSystem.store if "/checkpoints/2/arrays/" in n and "/d/" in n)
    content = MemoryFileSystem.store[name]
    broken = bytearray(content.getvalue())
    broken[len(broken) // 2] ^= 1
    content.seek(0)
    content.write(broken)
    machine("second")
    with Checkpointer(addresses.to_read(RUN) / "checkpoints", read_only=True) as checkpointer:
        assert checkpointer.restore_raw().step == 1


def test_only_the_step_that_is_read_is_fetched(machine):
    save([1, 2])
    machine("second")
    checkpoints = addresses.to_read(RUN) / "checkpoints"
    assert not [*checkpoints.glob("*/arrays")]
    with Checkpointer(checkpoints, read_only=True) as checkpointer:
        assert checkpointer.restore_raw().step == 2
        assert [path.parent.name for path in checkpoints.glob("*/arrays")] == ["2"]
        addresses.drop_step(addresses.mirror(RUN) / "checkpoints" / "1")
        with pytest.raises(CheckpointError, match="no step 1, but"):
            checkpointer.restore_raw(1)
    fetched = addresses.to_read(RUN) / "checkpoints"
    assert [path.name for path in fetched.iterdir()] == ["2"]
    assert (fetched / "2" / "arrays").exists()


def test_a_kill_while_a_step_is_deleted_leaves_no_step(machine, monkeypatch):
    folder, remove = save([1, 2]), Remote.remove

    def killed(self, name):
        if not name.endswith("manifest.json"):
            raise AddressError("killed")
        remove(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "remove", killed)
        addresses.drop_step(folder / "checkpoints" / "1")
    machine("second")
    assert steps_of(addresses.to_read(RUN)) == [2]
    addresses.to_write(RUN)
    assert not any(name.startswith("checkpoints/1/") for name in names())


def test_a_kill_before_the_settings_are_there_leaves_no_run(machine, monkeypatch):
    put = MemoryFileSystem.put_file

    def killed(self, local, name, **settings):
        if name.endswith("config.json"):
            raise OSError("killed")
        put(self, local, name, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", killed)
        with pytest.raises(AddressError, match="killed"):
            save([])
    assert names() == {"run_id"}
    machine("second")
    assert steps_of(save([1])) == [1]


def test_something_else_at_the_address_is_left_alone():
    MemoryFileSystem().pipe_file("/bucket/runs/mine/thesis.tex", b"mine")
    refused = run("train", *STEPS, "--steps=1", f"--workdir={RUN}")
    assert refused.status == 1
    assert refused.err.startswith(f"error: {RUN} is not a workdir"), refused.err
    assert names() == {"thesis.tex"}


def test_a_second_training_on_this_machine_is_refused():
    folder = save([1])
    with (
        Checkpointer(folder / "checkpoints"),
        pytest.raises(CheckpointError, match="in use by another run"),
    ):
        Checkpointer(addresses.to_write(RUN) / "checkpoints")


def pictures(folder, count=6):
    folder.mkdir()
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def test_pictures_are_copied_once_and_again_where_they_changed(tmp_path, monkeypatch):
    folder, system = pictures(tmp_path / "pictures"), MemoryFileSystem()
    system.put(str(folder), "/bucket/pictures", recursive=True)
    asked = dict(data_dir="memory://bucket/pictures", image_size=8, cache_dir=tmp_path / "cache")
    found = data.load("folder", **asked)
    disk = data.load("folder", **asked | {"data_dir": folder})
    np.testing.assert_array_equal(found.images, disk.images)
    assert found.fingerprint == disk.fingerprint
    assert found.request.address == "memory://bucket/pictures"

    got = []
    get = MemoryFileSystem.get_file
    monkeypatch.setattr(
        MemoryFileSystem,
        "get_file",
        lambda self, name, *a, **k: got.append(name) or get(self, name, *a, **k),
    )
    data.load("folder", **asked)
    assert not got
    system.pipe_file("/bucket/pictures/3.png", (folder / "4.png").read_bytes())
    system.rm_file("/bucket/pictures/5.png")
    changed = data.load("folder", **asked)
    assert [os.path.basename(name) for name in got] == ["3.png"]
    assert len(changed) == 5


def test_a_zip_is_copied_and_a_run_remembers_the_address(tmp_path):
    import shutil

    archive = shutil.make_archive(str(tmp_path / "faces"), "zip", pictures(tmp_path / "pictures"))
    MemoryFileSystem().put_file(archive, "/bucket/faces.zip")
    flags = [flag for flag in STEPS if not flag.startswith("--num_examples")]
    where = ["--dataset=folder", "--data_dir=memory://bucket/faces.zip", "--batch_size=4"]
    done = run("train", *flags, *where, "--steps=1", f"--workdir={RUN}")
    assert done.status == 0, done.err
    settings = json.loads((addresses.to_read(RUN) / "config.json").read_text())
    assert settings["data"]["data_dir"] == "memory://bucket/faces.zip"


def test_bad_addresses_are_one_line(monkeypatch, tmp_path):
    def error(address):
        result = run("train", *STEPS, "--steps=1", f"--workdir={address}")
        assert result.status == 1
        assert result.err.count("\n") == 1, result.err
        return result.err

    assert "no protocol 'memorie' (did you mean 'memory'?)" in error("memorie://bucket/run")
    with pytest.raises(AddressError, match="there is nothing at memory://bucket/none"):
        data.load("folder", data_dir="memory://bucket/none", cache_dir=tmp_path)
    with pytest.raises(jaxgan.errors.UsageError, match="memory://bucket/none is not a workdir"):
        jaxgan.open_run("memory://bucket/none")

    def absent(*unused, **settings):
        raise ImportError("Install gcsfs to access Google Storage")

    with monkeypatch.context() as patch:
        patch.setattr("fsspec.core.url_to_fs", absent)
        assert "pip install 'jaxgan[gcs]'" in error("gs://bucket/run")
    with monkeypatch.context() as patch:
        patch.setattr(remote, "PATIENCE", 0.1)
        patch.setattr(MemoryFileSystem, "find", lambda *unused, **settings: time.sleep(3))
        assert f"{RUN} does not answer" in error(RUN)


def test_a_fault_of_the_library_keeps_its_traceback(monkeypatch):
    def fault(*unused, **settings):
        raise KeyError("of the library")

    monkeypatch.setattr(MemoryFileSystem, "find", fault)
    with pytest.raises(KeyError):
        addresses.to_write(RUN)


def test_paths_are_themselves(tmp_path):
    assert addresses.to_write(tmp_path) == addresses.to_read(tmp_path) == tmp_path
    assert addresses.to_write(f"file://{tmp_path}") == tmp_path
    assert not addresses.is_address("runs/a:b") and not addresses.is_address(r"C:\runs")
    assert addresses.shown(addresses.mirror(RUN) / "curves.png") == f"{RUN}/curves.png"


@pytest.fixture
def s3(monkeypatch):
    """An empty bucket of an S3 on the loopback."""
    for package in ("s3fs", "moto", "flask"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)
    yield
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_s3(s3, machine, tmp_path):
    whole_run("s3://bucket/runs/mine", machine, tmp_path)
    gone = run("train", *STEPS, "--steps=1", "--workdir=s3://absent/run")
    assert gone.err.startswith("error: s3://absent/run"), gone.err
    assert gone.err.count("\n") == 1, gone.err


def test_s3_without_credentials_is_one_line(s3, monkeypatch):
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    refused = run("train", *STEPS, "--steps=1", "--workdir=s3://bucket/run")
    assert refused.status == 1
    assert "aws configure" in refused.err and refused.err.count("\n") == 1, refused.err
