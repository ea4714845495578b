"""Compiling for devices that are not here, and what a dry run says of them."""

import dataclasses
import importlib.util
import re

import jax
import numpy as np
import pytest
from commands import TINY, run
from helpers import SEED, TOY, noise_images, small_model, toy_dataset

from jaxgan.errors import UsageError
from jaxgan.stages import as_stages
from jaxgan.training import targets
from jaxgan.training.dry_run import dry_run
from jaxgan.training.targets import Target

WRONG = ["tpu", "tpu-v5e", "tpu-v5e:3x3", "tpu-v6e:2x2x2", "tpu-v5p:2x2", "tpu-v9:1x1", "h300"]
WRONG += ["h200:1", "h200:9", "H200", ""]


def _lines(target, dataset=None, gan=TOY, batch_size=8, on_device=False):
    dataset = dataset or toy_dataset()
    stages = as_stages(gan, dataset.spec.size, batch_size)
    return [*dry_run(stages, dataset, 4, SEED, on_device=on_device, target=target)]


@pytest.mark.parametrize("name", WRONG)
def test_an_unknown_target_names_those_that_there_are(name):
    with pytest.raises(UsageError, match="unknown target .* valid: .*v5e.*:16x16.*v5p.*h200"):
        targets.find(name)


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("tpu-v5e:1x1", r"libtpu.* pip install 'jaxgan\[tpu\]'"),
        ("tpu-v5p:2x2x1", r"libtpu.* pip install 'jaxgan\[tpu\]'"),
        ("h200:8", r"plugin for CUDA.* pip install 'jaxgan\[cuda12\]'"),
    ],
)
def test_a_compiler_that_is_not_installed_comes_with_the_command_that_installs_it(
    name, remedy, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=remedy):
        targets.find(name)


def test_a_target_is_for_dry_runs_and_these_are_of_one_run(tmp_path):
    refused = run("train", *TINY, f"--workdir={tmp_path}/run", "--target=tpu-v5e:1x1")
    assert refused.status == 1 and "add --dry_run" in refused.err
    refused = run("train", *TINY, f"--workdir={tmp_path}/run", "--dry_run", "--sweep=seed=0..1")
    assert refused.status == 1 and "leave out --sweep" in refused.err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_other_devices_counts_what_they_exchange_and_times_nothing():
    if jax.device_count() != 4:
        pytest.skip("written for the four CPU devices of conftest.py")
    two = Target("two", tuple(jax.devices()[:2]), 10**9)
    lines = _lines(two, batch_size=6, on_device=True)
    updates = [line for line in lines if line.startswith("update of the")]
    assert len(updates) == 2
    assert all(re.search(r"GFLOP, \d+ MiB, [1-9]\d* all-reduce$", line) for line in updates)
    assert lines[-1].startswith("a block of steps, with the pictures: ")
    with pytest.raises(UsageError, match="a batch of 7 cannot be divided among 2 devices"):
        _lines(two, batch_size=7)


def test_memory_is_the_targets():
    lines = _lines(Target("toy", tuple(jax.devices()[:1]), 1_000))
    assert re.search(r"needs [\d.e-]+ GB, toy has 1e-06 a device", lines[-1])


def test_cycles_and_collectives_are_read_off_a_program():
    class Compiled:
        def as_text(self):
            return (
                'a = f32[2] fusion(b), backend_config={"estimated_cycles":"300"}\n'
                'c = f32[2] all-reduce-start(a), backend_config={"estimated_cycles":"1200"}\n'
                "d = f32[2] all-reduce-done(c)\n"
                "e = f32[4] all-gather(d)\n"
            )

    assert Target("tpu", (), 0, clock=1.5e9).seconds(Compiled()) == pytest.approx(1e-6)
    assert Target("gpu", (), 0).seconds(Compiled()) is None
    assert targets.collectives(Compiled()) == {"all-reduce": 1, "all-gather": 1}


def test_a_dry_run_here_times_the_schedule_of_the_device():
    lines = _lines(None, on_device=True)
    assert any(line.startswith("a block of steps, with the pictures: ") for line in lines)
    assert any(" s/kimg on " in line and "estimate" not in line for line in lines)


tpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
cuda = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is None, reason="needs JAX's plugin for CUDA 12"
)


@pytest.mark.slow
@tpu
@pytest.mark.parametrize("name", ["tpu-v5e:1x1", "tpu-v6e:2x2", "tpu-v5p:2x2x1"])
def test_a_dry_run_for_tpus(name):
    data = noise_images(40, 8)
    lines = _lines(targets.find(name), data, small_model("gan", data), on_device=True)
    updates = [line for line in lines if line.startswith("update of the")]
    assert len(updates) == 2
    assert all("GB accessed" in line and " ms" in line for line in updates)
    assert all(line.endswith("all-reduce") == (name != "tpu-v5e:1x1") for line in updates)
    assert f"s/kimg on {name}, batch 8, by its compiler's estimate" in "\n".join(lines)


@pytest.mark.slow
@cuda
def test_a_dry_run_for_gpus():
    data = noise_images(40, 8)
    lines = _lines(targets.find("h200"), data, small_model("gan", data))
    updates = [line for line in lines if line.startswith("update of the")]
    assert len(updates) == 2 and all("GFLOP" in line and "MiB" in line for line in updates)
    assert not any("images/s" in line for line in lines)


@pytest.mark.slow
@tpu
def test_what_does_not_fit_a_tpu_is_said():
    count = 2**25
    data = noise_images(8, 8)
    many = np.broadcast_to(data.images[:1], (count, 8, 8, 3))
    data = dataclasses.replace(data, images=many)
    lines = _lines(targets.find("tpu-v5e:1x1"), data, small_model("gan", data), count)
    assert re.match(r"does not fit tpu-v5e:1x1 \(.*HBM|needs .* tpu-v5e:1x1 has 16", lines[-1])
    assert "--gradient_accumulation" in lines[-1]
