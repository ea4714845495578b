"""Four CPU devices for every test, and what the tests share."""

import os
from pathlib import Path

# Before JAX is imported; JAX_PLATFORMS=cuda in the environment runs the tests on a GPU instead.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# Most of a test's time is compilation, and each of these halves it; `make test-all` goes without.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import hypothesis
import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "tests" / "stored"  # numbers from elsewhere

jax.config.update("jax_num_cpu_devices", 4)
# What took long to compile is kept for the next time.
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# Few examples, the same ones every time; the first may compile, so there is no deadline.
hypothesis.settings.register_profile(
    "jaxgan",
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("jaxgan")


@pytest.fixture(autouse=True, scope="module")
def _drop_programs():
    """Every compiled program holds memory maps, of which Linux grants a process 65,530 by default;
    a whole session's worth ends in a crash. One module makes up to 22,000."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 25_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets beside the repository; tests that want it skip without."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs real data in {folder}")
    return folder
