"""Draws images from a trained generator."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import parallel
from jaxgan.core import Array, Batch, Context, Gan, GanState, Variables, example_keys
from jaxgan.errors import UsageError


class Rows(NamedTuple):
    """What a conditional generator is asked for: a row of pictures for each condition."""

    label: np.ndarray  # [rows * columns, K]
    columns: int
    asked: tuple[tuple[str, ...], ...]  # the names of each row's labels

    @classmethod
    def of(cls, conditions: np.ndarray, names: Sequence[str], columns: int) -> Rows:
        """Returns rows of `columns` pictures for conditions [M, K], whose entries have names."""
        asked = tuple(
            tuple(name for name, on in zip(names, row, strict=True) if on) for row in conditions
        )
        return cls(np.repeat(conditions, columns, 0), columns, asked)

    @property
    def captions(self) -> tuple[str, ...]:
        """A line of text for each row."""
        return tuple(map(", ".join, self.asked))


def generator_variables(state: GanState, *, raw: bool = False) -> Variables:
    """Returns the generator's averaged variables, or with `raw` the last ones, as numpy."""
    return jax.tree.map(np.array, state.variables["generator"] if raw else state.ema)


def draw(
    gan: Gan,
    variables: Variables,
    num: int,
    *,
    seed: int = 0,
    label: np.ndarray | None = None,
    latent: np.ndarray | None = None,
    batch_size: int = 64,
    step: int = 0,
) -> np.ndarray:
    """Returns uint8 images [num, H, W, C].

    Image i depends on the seed and on i only, not on `num` or the batch size.

    Args:
      gan: the method.
      variables: the generator's, see `generator_variables`.
      num: how many.
      seed: chooses the latents and any noise.
      label: [num, K], what to draw, for a conditional Gan.
      latent: [num, Z], in place of drawn ones.
      batch_size: images computed at a time.
      step: of the variables, which says how far the layers of a growing Gan have faded in.

    Raises:
      UsageError: if the Gan is conditional and there are no labels, or the other way round.
    """
    return np.concatenate(
        [*draw_batches(gan, variables, num, seed, label, latent, batch_size=batch_size, step=step)]
    )


def draw_batches(
    gan: Gan,
    variables: Variables,
    num: int,
    seed: int = 0,
    label: np.ndarray | None = None,
    latent: np.ndarray | None = None,
    *,
    batch_size: int = 64,
    step: int = 0,
) -> Iterator[np.ndarray]:
    """Yields what `draw` returns, [batch_size, H, W, C] at a time; the last batch is smaller."""
    if gan.conditional != (label is not None):
        raise UsageError(
            "this model draws what labels say: give some"
            if gan.conditional
            else "this model was trained without labels and takes none"
        )
    rng = jax.random.key(seed)
    variables = parallel.copies(variables)
    for start in range(0, num, batch_size):
        batch = {"index": np.arange(start, start + batch_size)}
        for name, chosen in (("latent", latent), ("label", label)):
            if chosen is not None:
                # The last batch is filled up, so that one compiled program serves all.
                part = chosen[start : start + batch_size]
                batch[name] = np.resize(part, (batch_size, *part.shape[1:]))
        images = _images(gan.generate, variables, parallel.spread(batch), rng, step)
        yield np.asarray(images)[: num - start]


def draw_latents(gan: Gan, num: int, *, seed: int = 0) -> np.ndarray:
    """Returns the latents [num, Z] that `draw` uses for the same seed.

    Raises:
      UsageError: if the model maps images, not latents.
    """
    if gan.latent is None:
        raise UsageError("this model has no latents to interpolate: it maps images to images")
    return np.asarray(gan.latent(example_keys(jax.random.key(seed), jnp.arange(num))))


def interpolate(start: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """Returns [N, count, Z] from start [N, Z] to end [N, Z] along great circles, both included
    (White, 2016, arXiv:1609.04468, section 2.1: normal latents lie near a sphere)."""
    t = np.linspace(0, 1, count)[:, None]
    lengths = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
    cosine = np.clip((start * end).sum(-1) / lengths, -1, 1)
    angle = np.maximum(np.arccos(cosine), 1e-6)[:, None, None]
    path = np.sin((1 - t) * angle) * start[:, None] + np.sin(t * angle) * end[:, None]
    return (path / np.sin(angle)).astype(start.dtype)


@functools.partial(jax.jit, static_argnums=0)
def pictures(generate, variables: Variables, batch: Batch, rng: Array, step: int = 0) -> Array:
    """Returns float images [B, H, W, C] in [-1, 1], as a Gan's `generate` makes them for use."""
    keys = example_keys(rng, batch["index"])
    fake, _ = generate(
        variables, batch, Context(jnp.asarray(step, jnp.int32), keys, {}, train=False)
    )
    return jnp.clip(fake.image, -1, 1)


@functools.partial(jax.jit, static_argnums=0)
def _images(generate, variables, batch, rng, step):
    floats = pictures(generate, variables, batch, rng, step)
    return jnp.round((floats + 1) * 127.5).astype(jnp.uint8)
