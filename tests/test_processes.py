"""Several processes as one run: what they tell each other, and how."""

import ast
import socket
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from conftest import ROOT

from jaxgan import processes


def test_what_is_told_comes_as_it_was():
    value = {"step": 3, "rate": 2e-4, "names": ["a", None, True], "nothing": float("inf")}
    arrays = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2],
        "b": np.ones(3, ml_dtypes.bfloat16),
        "step": np.array(7),
        "on": np.array([True, False]),
        "none": np.zeros((0, 4), np.uint8),
    }
    found, same = processes.unpacked(processes.packed(value, arrays))
    assert found == value
    for name, array in arrays.items():
        assert same[name].dtype == array.dtype
        np.testing.assert_array_equal(same[name], array)
        same[name][...] = 0  # it may be written


def test_what_is_no_json_is_not_told():
    with pytest.raises(TypeError, match="only what JSON can hold"):
        processes.packed({"where": ROOT}, {})
    with pytest.raises(ValueError):
        processes.unpacked(processes.packed(1, {})[:-1])


UNPICKLERS = {"pickle", "_pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib"}


def test_nothing_unpickles_but_the_reader_of_torch_files():
    """It has an unpickler of its own, which imports and calls nothing."""
    found = set()
    for folder in ("jaxgan", "experiments", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or "", *(alias.name for alias in node.names)]
                elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                    names = ["pickle"] * (getattr(node.value, "value", True) is not False)
                elif isinstance(node, ast.Attribute) and ast.unparse(node) in UNSAFE:
                    names = ["pickle"]
                if any(name.split(".")[0] in UNPICKLERS for name in names):
                    found.add(str(path.relative_to(ROOT)))
    assert found == {"jaxgan/evaluation/networks/torch_file.py"}


UNSAFE = {"torch.load", "jnp.load", "pd.read_pickle"}


TWO_PROCESSES = """
import sys
import jax, jax.numpy as jnp, numpy as np

directory, port, process = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process, shutdown_timeout_seconds=5)

from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxgan.processes import Process0Error
from jaxgan.training.checkpoint import Checkpointer, CheckpointError

everywhere = NamedSharding(Mesh(jax.devices(), "data"), PartitionSpec())
state = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3, jnp.bfloat16)}
state = jax.device_put(state, everywhere)

with Checkpointer(f"{directory}/{process}") as checkpointer:
    assert checkpointer.restore(state) is None
    checkpointer.save(1, state)
    step, restored = checkpointer.restore(state)
    assert step == 1
    for name, leaf in state.items():
        assert restored[name].dtype == leaf.dtype
        np.testing.assert_array_equal(restored[name], np.asarray(leaf))
    try:
        checkpointer.restore(state, step=9)
    except RuntimeError as error:
        assert type(error) is (CheckpointError if process == 0 else Process0Error)
        print(error)
"""


@pytest.mark.slow
def test_every_process_gets_what_process_0_reads_and_the_error_that_it_meets(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", TWO_PROCESSES, str(tmp_path), port, str(process)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert all(f"{tmp_path}/0 has no step 9, but [1]" in output for output in outputs)
    assert not (tmp_path / "1").exists()
