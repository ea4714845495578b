"""PyTorch's numbers for the networks of evaluation and its files, and what they belong to."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]
RESIZED = np.linspace(0, 298, 14).astype(int)
"""The rows and columns that are kept of resized pictures."""


def inception_images() -> np.ndarray:
    """Two images [2, 107, 139, 3] in [-1, 1], for which the last maps are 2x3.

    They are of different contrast, for random weights see little else.
    """
    images = np.random.default_rng(0).uniform(-1, 1, (2, 107, 139, 3)).astype(np.float32)
    images[0] *= 0.1
    return images


def resnet_images() -> np.ndarray:
    """Three pictures [3, 64, 64, 3] uint8, the first one dark."""
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    images[0] //= 8
    return images


def pictures(height: int, width: int, channels: int) -> np.ndarray:
    """Two pictures [2, height, width, channels] uint8."""
    return np.random.default_rng(0).integers(0, 256, (2, height, width, channels), np.uint8)


def _network(name: str, *arguments):
    """A network of `benchmarks/torch_networks.py` with made-up weights, and its shapes."""
    import torch

    tests = Path(__file__).parents[1]
    sys.path[:0] = [str(tests), str(tests.parent / "benchmarks")]
    import torch_files
    import torch_networks

    network = getattr(torch_networks, name)(*arguments).eval()
    about = torch_files.described(network.state_dict())
    weights = torch_files.made_up(torch_files.shapes(**about))
    network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return network, about


def torch_inception() -> Arrays:
    """Inception's weights by name and shape, its features and its logits without their bias."""
    import torch

    network, about = _network("Inception")
    with torch.no_grad():
        features = network(torch.tensor(inception_images()).permute(0, 3, 1, 2))
        logits = features @ network.fc.weight.T
    return {**about, "features": features.numpy(), "logits": logits.numpy()}


def torch_resnet() -> Arrays:
    """ResNet18's weights by name and shape, its features and the logits of 24 tags."""
    import torch

    network, about = _network("ResNet18", 24)
    x = (torch.tensor(resnet_images()).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        features = network.features(x)
        logits = network.fc[0](features)
    return {**about, "features": features.numpy(), "logits": logits.numpy()}


def torch_resize() -> Arrays:
    """Pictures brought to 299x299 as pytorch-fid does; every so many pixels of them."""
    import torch

    resized = {}
    for height, width in ((28, 28), (64, 48), (320, 400)):
        for channels in (1, 3):
            x = torch.tensor(pictures(height, width, channels)).permute(0, 3, 1, 2).float() / 255
            x = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
            x = (2 * x - 1).permute(0, 2, 3, 1).numpy()
            resized[f"{height}x{width}x{channels}"] = x[:, RESIZED][:, :, RESIZED]
    return resized


def torch_file() -> Arrays:
    """Files of torch.save as bytes, in both of its formats, and the arrays in them."""
    import torch

    state = {
        "weight": torch.arange(6, dtype=torch.float64).reshape(2, 3) / 7,
        "running_var": torch.ones(2),
        "num_batches_tracked": torch.tensor(3),
        "view": torch.arange(12).reshape(3, 4)[1:, ::2],
        "flags": torch.tensor([True, False]),
    }
    made = {f"array.{name}": tensor.numpy() for name, tensor in state.items()}
    for entry in ("", "model", "state_dict"):
        saved = {entry: state, "optimizer": {"lr": 0.1}} if entry else state
        for kind in ("older", "newer"):
            file = io.BytesIO()
            torch.save(saved, file, _use_new_zipfile_serialization=kind == "newer")
            made[f"{kind}.{entry}"] = np.frombuffer(file.getvalue(), np.uint8)
    return made


MAKERS: Mapping[str, Callable[[], Arrays]] = {
    maker.__name__: maker for maker in (torch_inception, torch_resnet, torch_resize, torch_file)
}
