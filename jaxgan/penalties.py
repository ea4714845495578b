"""Penalties on the discriminator's gradient and size, as terms: a `View` in, a scalar out."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgan.core import Array, View, batch_mean


def safe_sqrt(x: Array) -> Array:
    """The square root of x >= 0 with gradient 0, instead of NaN or infinity, where x is 0."""
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def _squared_slope(view: View, image: Array, label: Array | None) -> Array:
    """Returns |d score / d image|^2 for each example, [B]."""
    slope = jax.grad(lambda x: view.score(x, label).source.sum())(image)
    return jnp.square(slope).sum(range(1, image.ndim))


def gradient_penalty(view: View, *, one_sided: bool = False) -> Array:
    """(|grad D| - 1)^2 between real and generated images, eq. 3 of Gulrajani et al., 2017,
    arXiv:1704.00028: one uniform mixture an example, the norm over all its pixels.

    Args:
      view: the round; the mixtures are scored with the real batch's labels.
      one_sided: punish norms above 1 only.
    """
    real, fake = view.batch["image"], view.fake.image
    t = jax.vmap(jax.random.uniform)(view.rng).reshape(-1, *[1] * (real.ndim - 1))
    excess = safe_sqrt(_squared_slope(view, t * real + (1 - t) * fake, view.batch.get("label"))) - 1
    return jnp.square(jax.nn.relu(excess) if one_sided else excess).mean()


def r1(view: View) -> Array:
    """|grad D|^2 / 2 on real images, eq. 9 of Mescheder et al., 2018, arXiv:1801.04406.

    Give it the weight gamma.
    """
    return 0.5 * _squared_slope(view, view.batch["image"], view.batch.get("label")).mean()


def r2(view: View) -> Array:
    """|grad D|^2 / 2 on generated images, eq. 10 of Mescheder et al., 2018."""
    return 0.5 * _squared_slope(view, view.fake.image, view.fake.label).mean()


def drift(view: View) -> Array:
    """D(x)^2 on real images, Karras et al., 2017, arXiv:1710.10196, appendix A.1."""
    return jnp.square(view.on_real.source).mean()


def path_lengths(synthesize: Callable[[Array], Array], w: Array, rng: Array) -> Array:
    """How far images move with w, |J^T y| for a random image y: section 3.2 of Karras et al., 2020,
    arXiv:1912.04958, the root of the mean over the layers.

    Args:
      synthesize: w -> images [B, H, W, C].
      w: [B, layers, F].
      rng: keys [B]; y is normal with the deviation 1 / sqrt(H W).

    Returns:
      [B].
    """

    def along(w):
        image = synthesize(w)
        y = jax.vmap(lambda key: jax.random.normal(key, image.shape[1:]))(rng)
        return (image * y).sum() / math.sqrt(image.shape[1] * image.shape[2])

    return safe_sqrt(jnp.square(jax.grad(along)(w)).sum(-1).mean(-1))


def path_length(lengths: Array, mean: Array, *, decay: float) -> tuple[Array, Array]:
    """(|J^T y| - a)^2, equation 4 of the same paper.

    As in the official code, the gradient passes through what these lengths add to the mean a.

    Args:
      lengths: of this device's examples, [B].
      mean: a, of the steps before.
      decay: the share of the global batch's mean in the new a.

    Returns:
      The penalty and the new a.
    """
    mean = mean + decay * (batch_mean(lengths) - mean)
    return jnp.square(lengths - mean).mean(), jax.lax.stop_gradient(mean)
