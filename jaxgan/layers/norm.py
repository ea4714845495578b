"""Normalisation."""

from __future__ import annotations

import functools

from flax import linen as nn

from jaxgan.core import AXIS

batch_norm = functools.partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5, axis_name=AXIS)
"""Batch normalisation with PyTorch's numbers, over the global batch (Ioffe and Szegedy, 2015,
arXiv:1502.03167). Pass `use_running_average`."""
