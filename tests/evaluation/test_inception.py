"""Inception beside the same network in PyTorch, with made-up weights in a file of its kind."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_files
from conftest import STORED
from stored.evaluation import RESIZED, inception_images, pictures

from jaxgan.core import normalize
from jaxgan.data import DataError
from jaxgan.errors import UsageError
from jaxgan.evaluation.networks import inception

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
def stored():
    """PyTorch's numbers for made-up weights."""
    with np.load(STORED / "torch_inception.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def state(stored):
    """The weights as PyTorch names them."""
    return torch_files.made_up(torch_files.shapes(stored["names"], stored["sides"]))


@pytest.fixture(scope="module")
def path(state, tmp_path_factory):
    """The weights in a file."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch_files.save(path, state)
    return path


@pytest.fixture(scope="module")
def network(path):
    return inception.load(path)


def test_the_network_computes_what_pytorchs_does(stored, network):
    run = jax.jit(inception.InceptionV3().apply)
    features, logits = run(network.variables, inception_images())
    assert stored["features"].std(0).mean() > 1e-3  # it does look at the images
    np.testing.assert_allclose(features, stored["features"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, stored["logits"], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("size", [(28, 28), (64, 48), (320, 400)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_to_size_as_in_pytorch(size, channels):
    resized = inception.resized(normalize(pictures(*size, channels)))[:, RESIZED][:, :, RESIZED]
    with np.load(STORED / "torch_resize.npz") as stored:
        wanted = stored["x".join(map(str, [*size, channels]))]
    np.testing.assert_allclose(resized, np.broadcast_to(wanted, resized.shape), atol=3e-6)


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


def test_the_weights_of_another_network_are_named(state, tmp_path):
    refused = {
        r"fc.weight has the shape \(1000, 2048\) and the network takes \(1008, 2048\)": {
            "fc.weight": np.zeros((1000, 2048), np.float32)
        },
        "has AuxLogits.fc.weight and the network has not": {
            "AuxLogits.fc.weight": np.zeros(2, np.float32)
        },
    }
    for words, change in refused.items():
        torch_files.save(tmp_path / "x.pth", state | change)
        with pytest.raises(UsageError, match=words):
            inception.load(tmp_path / "x.pth")
    less = {name: x for name, x in state.items() if name != "Mixed_7c.branch_pool.bn.bias"}
    torch_files.save(tmp_path / "x.pth", less)
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
