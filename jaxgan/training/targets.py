"""Devices that are not here, for which a compiler that is here compiles.

A pip package is all that it takes: libtpu for TPUs, JAX's plugin for CUDA. The TPU's compiler also
estimates the cycles of every operation, and so the time of a program: a model of the chip and not a
measurement. It counts the body of a loop once, and no waiting for other chips. CUDA's compiler
estimates no time.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.experimental import topologies

from jaxgan import devices
from jaxgan.errors import UsageError


class Target(NamedTuple):
    """Devices that a program is compiled for."""

    name: str
    devices: Sequence[jax.Device] | None  # None for those of this run
    memory: int  # bytes a device
    clock: float | None = None  # Hz; None where the compiler does not estimate cycles

    def counts(self) -> tuple[int, int]:
        """Returns how many devices there are, and how many of them one process feeds."""
        if self.devices is None:
            return jax.device_count(), jax.local_device_count()
        return len(self.devices), len(self.devices)

    def seconds(self, compiled: jax.stages.Compiled) -> float | None:
        """Returns how long a program takes by the compiler's estimate, if it makes one."""
        if self.clock is None:
            return None
        cycles = re.findall(r'"estimated_cycles":"(\d+)"', compiled.as_text())
        return sum(map(int, cycles)) / self.clock


class _Tpu(NamedTuple):
    memory: int  # bytes a chip
    clock: float  # Hz


class _Gpu(NamedTuple):
    memory: int  # bytes
    bandwidth: int  # bytes a second


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_TPUS = {
    "v5e": _Tpu(16_000_000_000, 1.5e9),
    "v6e": _Tpu(32_000_000_000, 1.75e9),
    "v5p": _Tpu(95_000_000_000, 1.75e9),
}
# As XLA describes them, xla/backends/gpu/target_config/specs.
_GPUS = {
    "h100": _Gpu(84_942_979_072, 3_352_320_000_000),
    "h200": _Gpu(151_397_597_184, 4_800_000_000_000),
}

NAMES = (
    f"tpu-v5e and tpu-v6e with {', '.join(f':{sides}' for sides in _FLAT)}; tpu-v5p with three "
    "sides, such as :1x1x1, :2x2x1, :2x2x2; h100 and h200, several of them as :2 to :8"
)
"""What `find` knows, in words."""


def here() -> Target:
    """Returns the devices of this run."""
    return Target(f"{jax.device_count()} x {jax.devices()[0].device_kind}", None, devices.memory())


def find(name: str) -> Target:
    """Returns what a name means, such as "tpu-v5e:2x2", "tpu-v5p:2x2x1", "h200" or "h200:8".

    Raises:
      UsageError: if there is no such target, or its compiler is not installed.
    """
    tpu = re.fullmatch(r"tpu-(v5e|v6e|v5p):(\d+(?:x\d+)+)", name)
    gpu = re.fullmatch(r"(h100|h200)(?::([2-8]))?", name)
    if gpu:
        return _gpu(name, gpu[1], int(gpu[2] or 1))
    if tpu and (len(tpu[2].split("x")) == 3 if tpu[1] == "v5p" else tpu[2] in _FLAT):
        return _tpu(name, tpu[1], tpu[2])
    raise _unknown(name)


def _unknown(name):
    return UsageError(f"unknown target {name!r:.80}; valid: {NAMES}")


def _tpu(name, kind, sides):
    if importlib.util.find_spec("libtpu") is None:
        raise UsageError(
            f"--target={name} needs the TPU's compiler, libtpu, which is not installed; "
            "pip install 'jaxgan[tpu]'"
        )
    # It looks for no TPU, is silent, and several processes may compile.
    about = {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_MIN_LOG_LEVEL": "3",
        "TPU_STDERR_LOG_LEVEL": "3",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
    }
    for variable, value in about.items():
        os.environ.setdefault(variable, value)
    # One chip is no host's usual share.
    alone = {"chips_per_host_bounds": (1, 1, 1)} if set(sides) == {"1", "x"} else {}
    try:
        found = topologies.get_topology_desc(
            platform="tpu", topology_name=f"{kind}:{sides}", **alone
        )
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        raise _unknown(name) from None
    return Target(name, tuple(found.devices), _TPUS[kind].memory, _TPUS[kind].clock)


def _gpu(name, kind, count):
    if not any(importlib.util.find_spec(f"jax_cuda{major}_plugin") for major in (12, 13)):
        raise UsageError(
            f"--target={name} needs JAX's plugin for CUDA, which is not installed; "
            "pip install 'jaxgan[cuda12]'"
        )
    memory, bandwidth = _GPUS[kind]
    about = _HOPPER.format(name=kind.upper(), memory=memory, bandwidth=bandwidth)
    found = topologies.get_topology_desc(
        kind, platform="cuda", topology=f"1x1x{count}", target_config=about
    )
    return Target(name, tuple(found.devices), memory)


# A GpuTargetConfigProto of XLA.
_HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "NVIDIA {name}"
"""

_COLLECTIVES = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"


def collectives(compiled: jax.stages.Compiled) -> Counter[str]:
    """Returns how often a program exchanges what between devices."""
    return Counter(re.findall(rf" ({_COLLECTIVES})(?:-start)?\(", compiled.as_text()))
