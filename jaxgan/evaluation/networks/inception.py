"""Inception v3 as the Fréchet Inception distance (FID) and the Inception Score use it.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015, arXiv:1512.00567,
in the form of TensorFlow's graph of 2015-12-05, whose features FID compares (Heusel et al., 2017,
arXiv:1706.08500). It differs from the paper: average pools leave the padding out of their means,
the last block pools by maximum, and there are 1008 logits, of which the Inception Score leaves out
the bias. Weights, resizing and range are those of pytorch-fid, its port to PyTorch, whose file is
read as it is.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgan.data.download import Remote, fetch
from jaxgan.errors import UsageError
from jaxgan.evaluation.networks import torch_file, weights
from jaxgan.evaluation.networks.network import Network, Reading, reader
from jaxgan.evaluation.networks.pooling import max_pool
from jaxgan.layers.conv import Conv

SIZE = 299
# Stored with every number, so it stays as it was spelled.
RESIZE = "bilinear to 299x299, half-pixel centres, without antialiasing"
FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"

_EPSILON = 1e-3
_average_pool = functools.partial(
    nn.avg_pool,
    window_shape=(3, 3),
    padding=((1, 1), (1, 1)),
    count_include_pad=False,
)


def load(path: str | Path) -> Network:
    """Returns the network with the weights of pytorch-fid's file, features [B, 2048].

    With any other file of the same layout the network is called "inception-unverified-" and the
    start of the file's SHA-256, and a Fréchet distance of its features is not FID.

    Raises:
      UsageError: if the file is missing, damaged or of another network.
    """
    path = Path(path).expanduser()
    state = torch_file.read_state(path)
    wanted = weights.shapes(InceptionV3().init, SIZE, 3)
    variables = weights.from_torch(state, wanted, path, unused=("fc.bias",))
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    name = "inception" if found == SHA256 else f"inception-unverified-{found[:8]}"
    return Network(name, found, RESIZE, variables, read)


def download(cache_dir: str | Path) -> Path:
    """Returns the path of the weights, 91 MiB, which are fetched unless they are there.

    Raises:
      DataError: if they cannot be fetched or are not the known ones.
    """
    path = Path(cache_dir).expanduser() / FILE
    if not path.exists():
        remedy = f"fetch it elsewhere and put it at {path}"
        fetch(Remote(URL, SHA256), path, remedy)
    return path


@reader
def read(variables: weights.Variables, images: Array) -> Reading:
    """Features [B, 2048] and logits [B, 1008], without their bias, of images [B, H, W, 1 or 3].

    Raises:
      UsageError: if the pictures have another number of channels.
    """
    return Reading(*InceptionV3().apply(variables, resized(images)))


def resized(images: Array) -> Array:
    """Images [B, H, W, 1 or 3] in [-1, 1] -> what the network sees, [B, 299, 299, 3]."""
    *_, channels = images.shape
    if channels not in (1, 3):
        raise UsageError(
            f"Inception reads gray or RGB pictures and these have {channels} channels; use "
            "--features=random"
        )
    shape = (len(images), SIZE, SIZE, channels)
    x = jax.image.resize(images, shape, "bilinear", antialias=False)
    return jnp.broadcast_to(x, (*shape[:3], 3))


class InceptionV3(nn.Module):
    """[B, H, W, 3] in [-1, 1], 75 pixels or more -> features [B, 2048], logits [B, 1008].

    The modules have the names of torchvision's, and so have the parameters.
    """

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        x = _Unit(32, 3, stride=2, padding=0, name="Conv2d_1a_3x3")(x)
        x = _Unit(32, 3, padding=0, name="Conv2d_2a_3x3")(x)
        x = _Unit(64, 3, name="Conv2d_2b_3x3")(x)
        x = max_pool(x, 2)
        x = _Unit(80, name="Conv2d_3b_1x1")(x)
        x = _Unit(192, 3, padding=0, name="Conv2d_4a_3x3")(x)
        x = max_pool(x, 2)
        for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
            x = _A(pooled, name=f"Mixed_5{letter}")(x)
        x = _B(name="Mixed_6a")(x)
        for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
            x = _C(width, name=f"Mixed_6{letter}")(x)
        x = _D(name="Mixed_7a")(x)
        x = _E(_average_pool, name="Mixed_7b")(x)
        # The graph's own oddity: every other implementation averages here.
        x = _E(functools.partial(max_pool, stride=1, padding=1), name="Mixed_7c")(x)
        features = x.mean((1, 2))
        return features, nn.Dense(1008, use_bias=False, name="fc")(features)


class _Unit(nn.Module):
    """Convolution, batch normalization and ReLU; padded to keep the size unless told otherwise."""

    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: int | None = None

    @nn.compact
    def __call__(self, x):
        kernel = self.kernel if isinstance(self.kernel, tuple) else (self.kernel, self.kernel)
        padding = tuple(k // 2 if self.padding is None else self.padding for k in kernel)
        x = Conv(self.features, kernel, self.stride, padding, use_bias=False, name="conv")(x)
        x = nn.BatchNorm(use_running_average=True, epsilon=_EPSILON, name="bn")(x)
        return nn.relu(x)


class _A(nn.Module):
    pooled: int

    @nn.compact
    def __call__(self, x):
        five = _Unit(48, name="branch5x5_1")(x)
        double = _Unit(64, name="branch3x3dbl_1")(x)
        double = _Unit(96, 3, name="branch3x3dbl_2")(double)
        branches = [
            _Unit(64, name="branch1x1")(x),
            _Unit(64, 5, name="branch5x5_2")(five),
            _Unit(96, 3, name="branch3x3dbl_3")(double),
            _Unit(self.pooled, name="branch_pool")(_average_pool(x)),
        ]
        return jnp.concatenate(branches, -1)


class _B(nn.Module):
    @nn.compact
    def __call__(self, x):
        double = _Unit(64, name="branch3x3dbl_1")(x)
        double = _Unit(96, 3, name="branch3x3dbl_2")(double)
        branches = [
            _Unit(384, 3, stride=2, padding=0, name="branch3x3")(x),
            _Unit(96, 3, stride=2, padding=0, name="branch3x3dbl_3")(double),
            max_pool(x, 2),
        ]
        return jnp.concatenate(branches, -1)


class _C(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        seven = _Unit(self.width, name="branch7x7_1")(x)
        seven = _Unit(self.width, (1, 7), name="branch7x7_2")(seven)
        double = _Unit(self.width, name="branch7x7dbl_1")(x)
        double = _Unit(self.width, (7, 1), name="branch7x7dbl_2")(double)
        double = _Unit(self.width, (1, 7), name="branch7x7dbl_3")(double)
        double = _Unit(self.width, (7, 1), name="branch7x7dbl_4")(double)
        branches = [
            _Unit(192, name="branch1x1")(x),
            _Unit(192, (7, 1), name="branch7x7_3")(seven),
            _Unit(192, (1, 7), name="branch7x7dbl_5")(double),
            _Unit(192, name="branch_pool")(_average_pool(x)),
        ]
        return jnp.concatenate(branches, -1)


class _D(nn.Module):
    @nn.compact
    def __call__(self, x):
        three = _Unit(192, name="branch3x3_1")(x)
        seven = _Unit(192, name="branch7x7x3_1")(x)
        seven = _Unit(192, (1, 7), name="branch7x7x3_2")(seven)
        seven = _Unit(192, (7, 1), name="branch7x7x3_3")(seven)
        branches = [
            _Unit(320, 3, stride=2, padding=0, name="branch3x3_2")(three),
            _Unit(192, 3, stride=2, padding=0, name="branch7x7x3_4")(seven),
            max_pool(x, 2),
        ]
        return jnp.concatenate(branches, -1)


class _E(nn.Module):
    pool: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x):
        three = _Unit(384, name="branch3x3_1")(x)
        double = _Unit(448, name="branch3x3dbl_1")(x)
        double = _Unit(384, 3, name="branch3x3dbl_2")(double)
        branches = [
            _Unit(320, name="branch1x1")(x),
            _Unit(384, (1, 3), name="branch3x3_2a")(three),
            _Unit(384, (3, 1), name="branch3x3_2b")(three),
            _Unit(384, (1, 3), name="branch3x3dbl_3a")(double),
            _Unit(384, (3, 1), name="branch3x3dbl_3b")(double),
            _Unit(192, name="branch_pool")(self.pool(x)),
        ]
        return jnp.concatenate(branches, -1)
