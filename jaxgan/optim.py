"""Optimizers as optax transformations, and the players' averages."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan.core import Gan, GanState, Variables

_AVERAGE = "averaged_discriminator"
"""The memory that holds the average of D's variables, and the metric of how fast it moves."""


def rmsprop(learning_rate: float) -> optax.GradientTransformation:
    """RMSProp with PyTorch's numbers: decay .99, epsilon 1e-8 outside the root."""
    return optax.rmsprop(learning_rate, decay=0.99, eps=1e-8, eps_in_sqrt=False)


def lazy_adam(
    learning_rate: float, beta1: float, beta2: float, every: int | None
) -> optax.GradientTransformation:
    """Adam for a player that takes one more step, for a lazy term, on every `every`-th iteration.

    Rate and moments are those of a player without, stretched over the k + 1 steps which it takes
    in k iterations: lr * c and beta^c with c = k / (k + 1) (Karras et al., 2020, arXiv:1912.04958,
    appendix B). None is no lazy term: c is 1.
    """
    c = 1.0 if every is None else every / (every + 1)
    return optax.adam(learning_rate * c, beta1**c, beta2**c)


def clip_weights(limit: float) -> optax.GradientTransformation:
    """Projects every parameter into [-limit, limit], to rounding: put it last in a chain."""

    def project(update, param):
        return jnp.clip(param + update, -limit, limit) - param

    return optax.stateless(lambda updates, params: jax.tree.map(project, updates, params))


def cosine(first: float, final: float, steps: float) -> optax.Schedule:
    """Goes from the first value to the final one along half a cosine in `steps`, and stays."""

    def value(step):
        share = jnp.minimum(step / steps, 1.0) if steps else 1.0
        return final + (first - final) * 0.5 * (1 + jnp.cos(jnp.pi * share))

    return value


def scheduled_adam(
    learning_rate: optax.Schedule, beta2: optax.Schedule
) -> optax.GradientTransformation:
    """Adam without momentum whose rate and second moment's decay follow schedules of its steps.

    The moment's bias is corrected by the decay of the moment, as PyTorch does if it is changed.
    """
    return optax.inject_hyperparams(optax.adam, static_args=("b1", "eps", "eps_root"))(
        learning_rate=learning_rate, b1=0.0, b2=beta2
    )


def ema_decay(half_life: float, batch_size: int, ramp_up: float = 0.05) -> optax.Schedule:
    """Returns the decay a step of an average that halves an image's weight after `half_life`
    images (Karras et al., 2017, arXiv:1710.10196, count it so); 0 images: no averaging.

    Args:
      half_life: in images.
      batch_size: images a step.
      ramp_up: the half-life is at most this share of the images before the step, so that the first
        weights are soon forgotten (Karras et al., 2020, arXiv:2006.06676, use .05); 0 for no such
        limit.
    """
    if half_life == 0:
        return optax.constant_schedule(0.0)

    def decay(step):
        so_far = ramp_up * batch_size * step if ramp_up else half_life
        return 0.5 ** (batch_size / jnp.maximum(jnp.minimum(half_life, so_far), 1e-8))

    return decay


def with_averaged_discriminator(gan: Gan, half_life: float, batch_size: int) -> Gan:
    """Returns the Gan with a moving average of its discriminator's parameters and batch statistics,
    for classifying. It lags a step behind: terms see the variables before their update.

    Args:
      gan: whose first update is the discriminator's.
      half_life: in images, as in `ema_decay`; 0 for no average.
      batch_size: images a step.
    """
    if half_life == 0:
        return gan
    decay = ema_decay(half_life, batch_size)

    def averaged(variables):
        return {name: variables[name] for name in ("params", "batch_stats") if name in variables}

    def average(view):
        rate = 1 - decay(view.step)
        now = jax.lax.stop_gradient(averaged(view.variables["discriminator"]))
        return rate, {_AVERAGE: optax.incremental_update(now, view.memory[_AVERAGE], rate)}

    first = gan.updates[0]
    objective = {**first.objective, _AVERAGE: (0.0, average)}
    shapes = averaged(jax.eval_shape(gan.init, jax.random.key(0))["discriminator"])
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return gan._replace(
        updates=(first._replace(objective=objective), *gan.updates[1:]),
        memory={**gan.memory, _AVERAGE: zeros},
    )


def averaged_discriminator(state: GanState) -> Variables | None:
    """Returns the averaged variables of a state's discriminator, its last ones where they are not
    averaged; None for a Gan without such an average."""
    average = state.memory.get(_AVERAGE)
    return average and {**state.variables["discriminator"], **average}
