"""The networks of classifiers: images [B, H, W, C] in [-1, 1] to features and logits."""

from __future__ import annotations

from flax import linen as nn
from jax import Array

from jaxgan.evaluation.networks.pooling import max_pool
from jaxgan.layers.conv import Conv
from jaxgan.layers.norm import BatchNorm

_kaiming = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class SmallConvNet(nn.Module):
    """Three convolutions of stride 2 and a dense layer of 256 units, which are the features.

    For pictures of up to 32 pixels. In training `AXIS` must be in scope, for batch normalization.
    """

    labels: int

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        """Features [B, 256] and logits [B, labels]."""
        for width, kernel in ((32, 5), (64, 5), (128, 3)):
            x = Conv(width, kernel, stride=2, padding=kernel // 2, use_bias=False)(x)
            x = nn.relu(BatchNorm()(x, train=train))
        features = nn.relu(nn.Dense(256)(x.reshape(len(x), -1)))
        return features, nn.Dense(self.labels)(features)


class ResNet18(nn.Module):
    """ResNet-18, table 1 of He et al., 2015, arXiv:1512.03385; torchvision's layout and names.

    In training `AXIS` must be in scope, for batch normalization.
    """

    labels: int

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> tuple[Array, Array]:
        """Features [B, 512], the last maps' means, and logits [B, labels]."""
        x = Conv(64, 7, 2, 3, use_bias=False, kernel_init=_kaiming, name="conv1")(x)
        x = nn.relu(BatchNorm(name="bn1")(x, train=train))
        x = max_pool(x, 2, padding=1)
        for stage, width in enumerate((64, 128, 256, 512), 1):
            x = _Block(width, min(stage, 2), name=f"layer{stage}.0")(x, train=train)
            x = _Block(width, name=f"layer{stage}.1")(x, train=train)
        features = x.mean((1, 2))
        return features, nn.Dense(self.labels, name="fc")(features)


class _Block(nn.Module):
    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, *, train):
        y = self._conv(3, self.stride, "conv1")(x)
        y = nn.relu(BatchNorm(name="bn1")(y, train=train))
        y = self._conv(3, 1, "conv2")(y)
        y = BatchNorm(name="bn2")(y, train=train)
        if self.stride > 1:
            x = self._conv(1, self.stride, "downsample.0")(x)
            x = BatchNorm(name="downsample.1")(x, train=train)
        return nn.relu(x + y)

    def _conv(self, kernel, stride, name):
        padding = kernel // 2
        return Conv(
            self.width, kernel, stride, padding, use_bias=False, kernel_init=_kaiming, name=name
        )
