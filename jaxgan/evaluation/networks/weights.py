"""Weights of networks: what tells them apart, and how PyTorch's become Flax's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import Array

from jaxgan.errors import UsageError

Variables = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]

# The leaf of a Flax module -> that of PyTorch's, and the axes' order there for each rank.
_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of arrays' names, dtypes, shapes and contents, hexadecimal."""
    checksum = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        array = np.ascontiguousarray(array)
        checksum.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        checksum.update(array.data)
    return checksum.hexdigest()


def flatten(variables: Variables) -> dict[str, np.ndarray]:
    """The leaves of a tree of variables by name ("params/conv1/kernel"), as NumPy arrays."""
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    return {name: np.asarray(array) for name, array in flat.items()}


def unflatten(arrays: Mapping[str, np.ndarray]) -> Variables:
    """The tree of variables whose leaves have these names."""
    return traverse_util.unflatten_dict(dict(arrays), sep="/")


def shapes(init: Callable[[Array, Array], Variables], size: int, channels: int) -> Shapes:
    """The shapes of what a module's `init` makes for pictures of this size, by name."""

    def run():
        return init(jax.random.key(0), jnp.zeros((1, size, size, channels)))

    flat = traverse_util.flatten_dict(jax.eval_shape(run), sep="/")
    return {name: leaf.shape for name, leaf in flat.items()}


def check(arrays: Mapping[str, np.ndarray], wanted: Shapes, source: Path) -> None:
    """Raises UsageError unless the arrays have these names and shapes."""
    for name in sorted(arrays.keys() | wanted.keys()):
        if name not in arrays:
            raise UsageError(f"{source} has no {name}; it holds the weights of another network")
        if name not in wanted:
            raise UsageError(
                f"{source} has {name} and the network has not; it holds those of another network"
            )
        if arrays[name].shape != tuple(wanted[name]):
            raise UsageError(
                f"{source}: {name} has the shape {arrays[name].shape} and the network takes "
                f"{tuple(wanted[name])}; it holds the weights of another network"
            )


def from_torch(
    state: Mapping[str, np.ndarray],
    wanted: Shapes,
    source: Path,
    unused: Sequence[str] = (),
) -> Variables:
    """Returns PyTorch's weights as variables of the module that has the same submodules.

    Args:
      state: PyTorch's names and arrays; convolutions [O, I, h, w], dense layers [O, I].
      wanted: the module's `shapes`.
      source: the file, for errors.
      unused: names that the module has no use for.

    Raises:
      UsageError: if a name is missing or left over, or of another shape.
    """
    names = {name: _torch_name(name) for name in wanted}
    torch_shapes = {
        names[name]: tuple(shape[axis] for axis in _AXES[len(shape)])
        for name, shape in wanted.items()
    }
    state = {
        name: array
        for name, array in state.items()
        if name not in unused and not name.endswith(".num_batches_tracked")
    }
    check(state, torch_shapes, source)
    arrays = {
        name: np.ascontiguousarray(
            state[names[name]].transpose(np.argsort(_AXES[len(shape)])), np.float32
        )
        for name, shape in wanted.items()
    }
    return unflatten(arrays)


def _torch_name(name: str) -> str:
    _, *modules, leaf = name.split("/")
    return ".".join([*modules, _NAMES.get(leaf, leaf)])
