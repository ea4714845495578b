"""Optimisers as optax transformations, and schedules of the generator's average."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def rmsprop(learning_rate: float) -> optax.GradientTransformation:
    """RMSProp with PyTorch's numbers: decay .99, epsilon 1e-8 outside the root."""
    return optax.rmsprop(learning_rate, decay=0.99, eps=1e-8, eps_in_sqrt=False)


def clip_weights(limit: float) -> optax.GradientTransformation:
    """Projects every parameter into [-limit, limit], to rounding: put it last in a chain."""

    def project(update, param):
        return jnp.clip(param + update, -limit, limit) - param

    return optax.stateless(lambda updates, params: jax.tree.map(project, updates, params))


def ema_decay(half_life: float, batch_size: int) -> optax.Schedule:
    """Returns the decay a step of an average that halves an image's weight after `half_life`
    images; 0 images: no averaging (Karras et al., 2017, arXiv:1710.10196, count it so).
    """
    decay = 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0
    return optax.constant_schedule(decay)
