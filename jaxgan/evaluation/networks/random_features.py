"""Convolutional features with random weights: a last resort where no trained network fits.

Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020,
arXiv:2002.09797, section 4, find that for pictures unlike ImageNet's random embeddings judge better
than trained ones. They see textures and rough shapes, not meanings; numbers compare only with the
same seed.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, nn

from jaxgan.errors import UsageError
from jaxgan.evaluation.networks import weights
from jaxgan.evaluation.networks.network import Network, Reading, reader
from jaxgan.layers.conv import conv

_WIDTHS = (64, 128, 256, 512)


def make(seed: int = 0) -> Network:
    """Returns four random 3x3 convolutions of stride 2 with ReLU; features [B, 960] are the means
    of each one's maps. It takes uint8 pictures [B, H, W, 1 or 3] of any size.

    Raises:
      UsageError: if the seed is not from 0 to 2**32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"the seed of random features must be from 0 to 2**32 - 1, not {seed}")
    # RandomState and not a Generator: its numbers are promised never to change.
    random = np.random.RandomState(seed)
    variables, channels = {}, 3
    for layer, width in enumerate(_WIDTHS):
        scale = np.sqrt(2 / (9 * channels))
        kernel = scale * random.standard_normal((3, 3, channels, width))
        variables[f"conv{layer}"] = kernel.astype(np.float32)
        channels = width
    return Network("random", weights.digest(variables), "none", variables, read)


@reader
def read(variables: weights.Variables, images: Array) -> Reading:
    """Features [B, 960] of images [B, H, W, 1 or 3].

    Raises:
      UsageError: if the pictures have another number of channels.
    """
    *size, channels = images.shape
    if channels not in (1, 3):
        raise UsageError(
            f"random features are of gray or RGB pictures and these have {channels} channels"
        )
    x = jnp.broadcast_to(images, (*size, 3))
    means = []
    for _, kernel in sorted(variables.items()):
        x = nn.relu(conv(x, kernel, stride=2, padding=1))
        means.append(x.mean((1, 2)))
    return Reading(jnp.concatenate(means, -1))
