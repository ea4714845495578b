"""Inception against the same network in PyTorch, with made-up weights in a file of its kind."""

import hashlib
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from jaxgan.data import DataError
from jaxgan.errors import UsageError
from jaxgan.metrics import inception

SHAPES = {
    "Conv2d_1a_3x3": (149, 149, 32),
    "Conv2d_2b_3x3": (147, 147, 64),
    "Conv2d_4a_3x3": (71, 71, 192),
    "Mixed_5b": (35, 35, 256),
    "Mixed_5d": (35, 35, 288),
    "Mixed_6a": (17, 17, 768),
    "Mixed_6e": (17, 17, 768),
    "Mixed_7a": (8, 8, 1280),
    "Mixed_7c": (8, 8, 2048),
}


def test_the_layers_have_the_papers_shapes():
    def run():
        network, images = inception.InceptionV3(), jnp.zeros((2, 299, 299, 3))
        variables = network.init(jax.random.key(0), images)
        return network.apply(variables, images, capture_intermediates=True)

    (features, logits), seen = jax.eval_shape(run)
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)
    for name, shape in SHAPES.items():
        assert seen["intermediates"][name]["__call__"][0].shape == (2, *shape), name


@pytest.fixture(scope="module")
def peer():
    """PyTorch's network."""
    pytest.importorskip("torch", reason="the weights are made up by PyTorch")
    with mock.patch.object(sys, "path", [str(ROOT / "benchmarks"), *sys.path]):
        import torch_networks

    return torch_networks.make_up(torch_networks.Inception())


@pytest.fixture(scope="module")
def path(peer, tmp_path_factory):
    """Its weights in a file."""
    import torch

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(peer.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def network(path):
    return inception.load(path)


def test_the_network_computes_what_pytorchs_does(peer, network):
    import torch

    # Of different contrast, for random weights see little else; the last maps are 2x3.
    images = np.random.default_rng(0).uniform(-1, 1, (2, 107, 139, 3)).astype(np.float32)
    images[0] *= 0.1
    features, logits = jax.jit(inception.InceptionV3().apply)(network.variables, images)
    with torch.no_grad():
        wanted = peer(torch.tensor(images).permute(0, 3, 1, 2))
        wanted_logits = wanted @ peer.fc.weight.T
    assert wanted.std(0).mean() > 1e-3  # it does look at the images
    np.testing.assert_allclose(features, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, wanted_logits, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("size", [(28, 28), (64, 48), (320, 400)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_to_size_as_in_pytorch(size, channels):
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).integers(0, 256, (2, *size, channels), np.uint8)
    x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    x = torch.nn.functional.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
    wanted = (2 * x - 1).expand(2, 3, 299, 299).permute(0, 2, 3, 1)
    np.testing.assert_allclose(inception.resized(images), wanted, atol=3e-6)


def test_reading_begins_with_uint8_pictures(network):
    images = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.uint8)
    seen = jax.eval_shape(network.read, network.variables, images)
    assert seen.features.shape == (2, 2048) and seen.logits.shape == (2, 1008)
    with pytest.raises(TypeError, match="not int32"):
        jax.eval_shape(network.read, network.variables, images.update(dtype=jnp.int32))
    with pytest.raises(UsageError, match="these have 4 channels"):
        jax.eval_shape(network.read, network.variables, images.update(shape=(2, 28, 28, 4)))


def test_only_the_known_file_is_called_inception(network, path, monkeypatch):
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert network.digest == found and network.name == f"inception-unverified-{found[:8]}"
    assert inception.SHA256.startswith("6726825d") and len(inception.SHA256) == 64
    monkeypatch.setattr(inception, "SHA256", found)
    assert inception.load(path).name == "inception"


def test_the_weights_of_another_network_are_named(peer, tmp_path):
    import torch

    state = peer.state_dict()
    refused = {
        r"fc.weight has the shape \(1000, 2048\) and the network takes \(1008, 2048\)": {
            "fc.weight": torch.zeros(1000, 2048)
        },
        "has AuxLogits.fc.weight and the network has not": {"AuxLogits.fc.weight": torch.zeros(2)},
    }
    for words, change in refused.items():
        torch.save(state | change, tmp_path / "x.pth")
        with pytest.raises(UsageError, match=words):
            inception.load(tmp_path / "x.pth")
    del state["Mixed_7c.branch_pool.bn.bias"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UsageError, match="has no Mixed_7c.branch_pool.bn.bias"):
        inception.load(tmp_path / "x.pth")


def test_a_download_that_is_there_is_not_fetched_again(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DataError, match=f"cannot be reached.* put it at {tmp_path}/pt_inception"):
        inception.download(tmp_path)
    (tmp_path / inception.FILE).write_bytes(b"there")
    assert inception.download(tmp_path) == tmp_path / inception.FILE
