"""Classifiers as feature networks: made, stored in one file, read again.

The file is a .npz of the weights and of "about", which is JSON: what `About` says and the weights'
SHA-256.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn

from jaxgan import files
from jaxgan.errors import UsageError, unknown
from jaxgan.evaluation.networks import torch_file, weights
from jaxgan.evaluation.networks.convnets import ResNet18, SmallConvNet
from jaxgan.evaluation.networks.network import Network, Reading, reader
from jaxgan.evaluation.networks.weights import Variables

ARCHITECTURES = {"small": SmallConvNet, "resnet18": ResNet18}

_FORMAT = 1
_SMALL = 32  # pixels up to which the small network is enough


@dataclasses.dataclass(frozen=True)
class About:
    """What a classifier is and what it has learned.

    Attributes:
      architecture: one of `ARCHITECTURES`.
      size, channels: of the pictures that it takes, square ones, uint8; they are brought to
        [-1, 1], which is a mean and deviation of 0.5.
      label_names: of its logits.
      label_kind: "class" (softmax) or "tags" (a sigmoid each).
      data: the data set it was trained on; "" if unknown.
      fingerprint: that data set's; "" if unknown.
      accuracy: the share of labels read right in pictures that it has not seen; None if unknown.
    """

    architecture: str
    size: int
    channels: int
    label_names: tuple[str, ...]
    label_kind: str
    data: str = ""
    fingerprint: str = ""
    accuracy: float | None = None


def default_architecture(size: int) -> str:
    """The architecture for pictures of so many pixels on a side."""
    return "small" if size <= _SMALL else "resnet18"


def module(about: About) -> nn.Module:
    """Returns (images [B, size, size, channels] in [-1, 1], train) -> (features, logits).

    Raises:
      UsageError: if there is no such architecture.
    """
    if about.architecture not in ARCHITECTURES:
        raise unknown("architecture", about.architecture, ARCHITECTURES)
    return ARCHITECTURES[about.architecture](len(about.label_names))


def network(about: About, variables: Variables) -> Network:
    """Returns the classifier as a feature network: the features are those of the last layer but
    one, the logits have the labels' names."""
    classifier, shape = module(about), (about.size, about.size, about.channels)

    @reader
    def read(variables, images):
        if images.shape[1:] != shape:
            raise UsageError(
                f"the classifier reads pictures {_show(shape)} and these are "
                f"{_show(images.shape[1:])}; use one that was trained on such pictures "
                "(jaxgan classify --image_size)"
            )
        return Reading(*classifier.apply(variables, images, train=False))

    arrays = weights.flatten(variables)
    return Network(
        "classifier",
        weights.digest(arrays),
        "none",
        weights.unflatten(arrays),
        read,
        about.label_names,
        about.label_kind,
        about.channels,
    )


def save(path: str | Path, about: About, variables: Variables) -> str:
    """Writes a classifier to a .npz, all or nothing; returns the SHA-256 of its weights."""
    arrays: dict[str, Any] = {**weights.flatten(variables)}
    path = Path(path).expanduser()
    sha256 = weights.digest(arrays)
    header = {"format": _FORMAT, **dataclasses.asdict(about), "sha256": sha256}
    with files.whole(path, "wb") as file:
        np.savez(file, **({"about": np.array(json.dumps(header))} | arrays))
    return sha256


def load(path: str | Path) -> Network:
    """Returns a classifier that `save` wrote.

    Raises:
      UsageError: if the file is missing, damaged or no classifier.
    """
    return network(*read_file(path))


def read_file(path: str | Path) -> tuple[About, Variables]:
    """Returns what a file holds; raises what `load` raises."""
    path = Path(path).expanduser()
    header, arrays = _read(path)
    if header.pop("format") != _FORMAT:
        raise UsageError(f"{path} was written by another version of jaxgan; train it again")
    sha256 = header.pop("sha256")
    about = _about(header, path)
    found = weights.digest(arrays)
    if found != sha256:
        raise UsageError(
            f"{path} is damaged: its weights have the SHA-256 {found} and were saved with "
            f"{sha256}; train or download it again"
        )
    weights.check(arrays, _shapes(about), path)
    return about, weights.unflatten(arrays)


def load_torch_resnet18(
    path: str | Path, label_names: Sequence[str], *, size: int = 64, label_kind: str = "tags"
) -> tuple[About, Variables]:
    """Returns a ResNet18 that PyTorch trained on RGB pictures of mean and deviation 0.5.

    So is the evaluator of the i-CLEVR exercise, `classifier_weight.pth`: the entry "model", whose
    last layer is the first of a `Sequential`, with 24 tags and 64 pixels.

    Raises:
      UsageError: if the file is missing, damaged, another network's or has not as many labels.
    """
    path = Path(path).expanduser()
    state = {
        name.replace("fc.0.", "fc."): array for name, array in torch_file.read_state(path).items()
    }
    about = About("resnet18", size, 3, tuple(label_names), label_kind)
    return about, weights.from_torch(state, _shapes(about), path)


def _shapes(about: About) -> weights.Shapes:
    init = functools.partial(module(about).init, train=False)
    return weights.shapes(init, about.size, about.channels)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        arrays = files.read_npz(path)
        header = files.parse_json(str(arrays.pop("about", "")))
        if not isinstance(header, dict) or not {"format", "sha256"} <= header.keys():
            raise files.DamagedFile("it does not say what it is")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a classifier") from error
    except ValueError as error:  # DamagedFile, or text that is none
        raise UsageError(
            f"{path} is damaged or no classifier of jaxgan ({error}); train one with "
            "jaxgan classify"
        ) from error
    return header, arrays


def _about(header: dict[str, Any], path: Path) -> About:
    kinds = dict(zip(header, map(type, header.values()), strict=True))
    names = header.get("label_names")
    if (
        header.keys() != {field.name for field in dataclasses.fields(About)}
        or any(kinds[name] is not int for name in ("size", "channels"))
        or not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or header["label_kind"] not in ("class", "tags")
        or not 1 <= header["size"] <= 4096
        or header["channels"] not in (1, 3)
    ):
        raise UsageError(
            f"{path} is damaged or no classifier of jaxgan (it does not say what it reads); train "
            "one with jaxgan classify"
        )
    return About(**{**header, "label_names": tuple(names)})


def _show(shape):
    return "x".join(map(str, shape))
