"""Imports point one way, and importing jaxgan is quick and touches no device."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxgan"


def _name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def _imported(nodes) -> set[str]:
    """The modules that are imported: `from jaxgan import log` imports `jaxgan.training.log`."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = inner & MODULES.keys()
            names |= modules if modules == inner else modules | {node.module}
            if node.module == "flax":
                names |= inner
    return names


def _outside_functions(tree):
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)


ANYWHERE = {name: _imported(ast.walk(tree)) for name, tree in MODULES.items()}
AT_THE_TOP = {name: _imported(_outside_functions(tree)) for name, tree in MODULES.items()}


def _within(name: str, packages) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _offenders(imports, modules, forbidden):
    return [
        f"{name} imports {other}"
        for name in modules
        for other in sorted(imports[name])
        if _within(other, forbidden)
    ]


def test_there_is_something_to_look_at():
    assert {"jaxgan", "jaxgan.core", "jaxgan.models.dcgan", "jaxgan.data.spec"} <= MODULES.keys()
    assert "jaxgan.core" in ANYWHERE["jaxgan.losses"]
    assert "flax.linen" in ANYWHERE["jaxgan.models.dcgan"]
    assert "matplotlib.figure" in ANYWHERE["jaxgan.training.curves"]
    assert "matplotlib.figure" not in AT_THE_TOP["jaxgan.training.curves"]


# What each may import of jaxgan, beside itself.
GAME = ["core", "step", "stages", "losses", "penalties", "optim", "precision", "devices", "errors"]
RUNS = [
    *GAME,
    "processes",
    "addresses",
    "files",
    "bars",
    "models",
    "augment",
    "data",
    "sampling",
    "training",
    "evaluation",
]
ALLOWED = {
    "errors": [],
    "files": ["errors"],
    "bars": [],
    "remote": ["files", "errors"],
    "addresses": ["files", "errors", "remote"],
    "core": [],
    "step": ["core"],
    "stages": ["core"],
    "losses": ["core"],
    "penalties": ["core"],
    "optim": ["core"],
    "precision": ["core", "errors"],
    "devices": ["core", "errors"],
    "processes": ["errors"],
    "layers": ["core", "errors"],
    "augment": ["core", "layers", "errors"],
    "data": ["errors", "files", "bars", "addresses"],
    "models": ["core", "losses", "penalties", "optim", "layers", "augment", "data", "errors"],
    "sampling": [*GAME, "files", "layers", "data"],
    "training": [*GAME, "processes", "addresses", "remote", "files", "bars", "data", "sampling"],
    "evaluation": [*GAME, "files", "bars", "layers", "data", "sampling", "training.curves"],
    "runs": RUNS,
    "cli": [*RUNS, "runs"],
}


def test_every_room_is_in_the_list():
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms == ALLOWED.keys()


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package):
    allowed = [f"jaxgan.{name}" for name in (package, *ALLOWED[package])]
    wrong = [
        f"{name} imports {other}"
        for name in MODULES
        if _within(name, [f"jaxgan.{package}"])
        for other in sorted(ANYWHERE[name])
        if other.startswith("jaxgan.") and not _within(other, allowed)
    ]
    assert not wrong


def test_only_networks_know_linen():
    homes = ["jaxgan.layers", "jaxgan.models", "jaxgan.evaluation.networks"]
    others = [name for name in MODULES if not _within(name, homes)]
    assert not _offenders(ANYWHERE, others, ["flax.linen", "flax.nnx"])


def test_data_is_free_of_jax():
    data = [name for name in MODULES if _within(name, ["jaxgan.data"])]
    assert not _offenders(ANYWHERE, data, ["jax", "flax", "optax", "orbax", "chex"])


def test_nothing_needs_tensorflow():
    assert not _offenders(ANYWHERE, MODULES, ["tensorflow", "clu", "flax.metrics"])


def test_tensorflow_datasets_is_known_to_data_alone():
    others = [name for name in MODULES if not _within(name, ["jaxgan.data"])]
    assert not _offenders(ANYWHERE, others, ["tensorflow_datasets", "array_record", "etils"])


def test_slow_libraries_are_imported_where_they_are_used():
    slow = ["tensorflow_datasets", "datasets", "matplotlib", "tensorboardX", "torch"]
    assert not _offenders(AT_THE_TOP, MODULES, slow)


SCRIPT = """
import importlib
import sys

for name in sys.argv[1:]:
    importlib.import_module(name)

slow = {"matplotlib", "tensorflow", "tensorflow_datasets", "tensorboardX", "torch"}
assert not slow & {*sys.modules}, f"imported: {slow & {*sys.modules}}"

import jax

try:
    jax.devices()
except RuntimeError:
    sys.exit(0)
sys.exit("the platform was to be one that cannot be started")
"""


def test_importing_everything_starts_no_backend():
    # A process of its own, in which starting a backend is an error, as warnings are.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, *MODULES],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "no_such_platform"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_data_is_imported_without_jax():
    data = [name for name in MODULES if _within(name, ["jaxgan.data"])]
    script = "import importlib, sys; [importlib.import_module(n) for n in sys.argv[1:]]; "
    script += "assert 'jax' not in sys.modules, 'jax was imported'"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *data],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
