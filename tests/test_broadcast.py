"""Two processes that share no disk save and restore one run."""

import socket
import subprocess
import sys

import pytest

TWO_PROCESSES = """
import sys
import jax, jax.numpy as jnp, numpy as np

directory, port, process = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process, shutdown_timeout_seconds=5)

from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxgan.devices import Process0Error
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
