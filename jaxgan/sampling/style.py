"""What can be done between latents and images, where a generator has intermediate latents w.

Truncation is a wrapper Gan -> Gan; mixtures and paths are arrays of w, which `draw` draws.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.core import Fake, Gan, Style, Variables
from jaxgan.errors import UsageError
from jaxgan.layers.style import mix, truncate
from jaxgan.sampling import pictures
from jaxgan.sampling.draw import draw


def style_of(gan: Gan, what: str) -> Style:
    """Returns the two halves of a Gan's generator.

    Args:
      gan: the method.
      what: needs them, for the error.

    Raises:
      UsageError: if there are none.
    """
    if gan.style is None:
        raise UsageError(
            f"{what} works on intermediate latents w and this model has none; leave it out, or "
            "train one that has, such as --model=stylegan2"
        )
    return gan.style


def truncated(gan: Gan, psi: float, cutoff: int | None = None) -> Gan:
    """Returns the Gan whose w are drawn towards their average, for use and not for training.

    Args:
      gan: the method.
      psi: 1 leaves w as it is, 0 draws nothing but the average; .7 is usual.
      cutoff: how many layers, the coarse ones first; None for all.

    Raises:
      UsageError: if the Gan has no w.
    """
    style = style_of(gan, "truncation")

    def generate(variables, batch, context):
        z = batch["latent"] if "latent" in batch else gan.latent(context.rng)
        label = batch["label"] if gan.conditional else None
        w = truncate(style.w(variables, z, label), style.average(variables), psi, cutoff)
        return Fake(style.synthesize(variables, w, context), label), {}

    return gan._replace(generate=generate)


def from_w(gan: Gan) -> Gan:
    """Returns the Gan that draws the "w" [B, layers, F] of a batch, without labels.

    All pictures have the same noise, so that they differ by w alone.

    Raises:
      UsageError: if the Gan has no w.
    """
    style = style_of(gan, "drawing by w")

    def generate(variables, batch, context):
        w = batch["w"]
        noise = jnp.broadcast_to(jax.random.key(0), (len(w),))
        return Fake(style.synthesize(variables, w, context._replace(rng=noise))), {}

    return gan._replace(generate=generate, latent=None, conditional=False)


def map_latents(
    gan: Gan,
    variables: Variables,
    latent: np.ndarray,
    label: np.ndarray | None = None,
    *,
    psi: float = 1.0,
    cutoff: int | None = None,
) -> np.ndarray:
    """Returns w [N, layers, F] of latents [N, Z] and labels [N, K], truncated as by `truncated`.

    Raises:
      UsageError: if the Gan has no w.
    """
    style = style_of(gan, "drawing by w")

    @jax.jit
    def run(variables, latent, label):
        return truncate(style.w(variables, latent, label), style.average(variables), psi, cutoff)

    return np.asarray(run(variables, latent, label))


def check_crossover(crossover: int, layers: int) -> None:
    """Raises UsageError for a crossover that leaves nothing to mix."""
    if not 1 <= crossover < layers:
        raise UsageError(
            f"a crossover after {crossover} layers mixes nothing; this model has {layers} layers: "
            f"choose from 1 to {layers - 1}"
        )


def mixing_grid(
    gan: Gan, variables: Variables, rows: np.ndarray, columns: np.ndarray, crossover: int
) -> np.ndarray:
    """Draws coarse styles in rows and fine ones in columns, their sources at the edges.

    Args:
      gan: the method.
      variables: the generator's.
      rows, columns: w [R, layers, F] and [C, layers, F].
      crossover: how many layers come from the rows' w, from 1 to layers - 1.

    Returns:
      A uint8 picture [H, W, C] of (R + 1) x (C + 1) images, the first one black.

    Raises:
      UsageError: for a crossover that leaves nothing to mix.
    """
    check_crossover(crossover, rows.shape[1])
    inner = np.asarray(
        mix(jnp.repeat(rows, len(columns), 0), jnp.tile(columns, (len(rows), 1, 1)), crossover)
    )
    w = np.concatenate([columns, rows, inner])
    images = draw(from_w(gan), variables, len(w), w=w)
    top, left, inner = np.split(images, [len(columns), len(columns) + len(rows)])
    inner = inner.reshape(len(rows), len(columns), *inner.shape[1:])
    lines = [np.concatenate([left[:, None], inner], 1).reshape(-1, *top.shape[1:])]
    cells = np.concatenate([np.zeros_like(top[:1]), top, *lines])
    return pictures.grid(pictures.enlarged(cells), len(columns) + 1)
