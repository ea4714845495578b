"""Finds the w whose picture is nearest to a given one: Karras et al., "Analyzing and Improving the
Image Quality of StyleGAN", 2020, arXiv:1912.04958, section 5, with a w for each layer (Abdal et
al., 2019, arXiv:1904.03189: "w+"), and without noise on w and in the maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan.core import Array, Context, Gan, Variables, normalize
from jaxgan.sampling import style
from jaxgan.sampling.draw import draw

Features = Callable[[Array], Array]
"""Pictures [B, H, W, C] in [-1, 1] to features [B, F]."""


class Projection(NamedTuple):
    """The way to a picture."""

    w: np.ndarray  # [layers, F]
    pictures: np.ndarray  # [stages, H, W, C] uint8, from the average's to w's
    distance: float  # of the last one


def distance(image: Array, target: Array, features: Features | None = None) -> Array:
    """How far two pictures [B, H, W, C] in [-1, 1] are apart.

    The mean squared difference of their pixels, plus, with features, the squared difference of
    those as a share of the target's square.

    Args:
      image: a picture.
      target: another one.
      features: reads both.
    """
    pixels = jnp.square(image - target).mean()
    if features is None:
        return pixels
    found, wanted = features(image), features(target)
    return pixels + jnp.square(found - wanted).sum() / jnp.square(wanted).sum()


def project(
    gan: Gan,
    variables: Variables,
    target: np.ndarray,
    start: np.ndarray,
    *,
    features: Features | None = None,
    steps: int = 500,
    learning_rate: float = 0.1,
    stages: int = 6,
) -> Projection:
    """Moves w until its picture looks like another one.

    Args:
      gan: a method with intermediate latents.
      variables: the generator's.
      target: uint8 [H, W, C] of the generator's size.
      start: w [layers, F]; `style.intermediate` with psi 0 gives the average.
      features: judges the likeness beside the pixels; a pytree (`jax.tree_util.Partial`), so that a
        network's weights are not compiled as constants.
      steps: of Adam.
      learning_rate: its highest; it rises for a twentieth of the steps and falls in the last
        quarter, as in the official code.
      stages: how many pictures of the way are kept, at least 2.

    Raises:
      UsageError: if the Gan has no w.
    """
    drawing = style.from_w(gan)
    context = Context(jnp.zeros((), jnp.int32), None, {}, train=False)

    def rate(step):
        rise = jnp.minimum(1, (step + 1) / (0.05 * steps))
        fall = jnp.minimum(1, (1 - step / steps) / 0.25)
        return learning_rate * rise * (0.5 - 0.5 * jnp.cos(jnp.pi * fall))

    adam = optax.adam(rate)

    def loss(w, variables, features, wanted):
        fake, _ = drawing.generate(variables, {"w": w}, context)
        return distance(fake.image, wanted, features)

    @jax.jit
    def move(w, opt, variables, features, wanted):
        slope = jax.grad(loss)(w, variables, features, wanted)
        delta, opt = adam.update(slope, opt, w)
        return optax.apply_updates(w, delta), opt

    # Of the picture as it is shown, clipped, which those on the way are not.
    @jax.jit
    def shown_distance(w, variables, features, wanted):
        fake, _ = drawing.generate(variables, {"w": w}, context)
        return distance(jnp.clip(fake.image, -1, 1), wanted, features)

    w, wanted = jnp.asarray(start)[None], normalize(jnp.asarray(target))[None]
    given = (jax.device_put(variables), jax.device_put(features), wanted)
    opt, way = adam.init(w), [w]
    kept = set(np.linspace(0, steps, stages).astype(int))
    for step in range(1, steps + 1):
        w, opt = move(w, opt, *given)
        if step in kept:
            way.append(w)
    way = np.concatenate(way)
    pictures = draw(drawing, variables, len(way), w=way)
    return Projection(way[-1], pictures, float(shown_distance(w, *given)))
