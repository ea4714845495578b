"""Draws images from a trained generator."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import devices
from jaxgan.core import Array, Batch, Context, Gan, GanState, Variables, example_keys, seen
from jaxgan.errors import UsageError
from jaxgan.sampling import pictures


class Rows(NamedTuple):
    """What a conditional generator is asked for: a row of pictures for each condition.

    `Translations` is the same for one that translates.
    """

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

    def sheet(self, drawn: Callable[..., np.ndarray]) -> np.ndarray:
        """Returns the pictures of `drawn`, which is `draw` of a generator, as one with captions."""
        images = pictures.enlarged(drawn(len(self.label), label=self.label))
        return pictures.captioned(pictures.grid(images, self.columns), self.captions)


class Translations(NamedTuple):
    """What a generator that translates is asked for: a row for each picture, which begins with the
    picture itself, and in it a column for each condition."""

    images: np.ndarray  # [N, H, W, C] uint8
    conditions: np.ndarray  # [M, K]
    captions: tuple[str, ...]  # of the conditions

    @classmethod
    def of(cls, images: np.ndarray, conditions: np.ndarray, names: Sequence[str]) -> Translations:
        """Returns all translations of the pictures to conditions whose entries have names."""
        return cls(images, conditions, Rows.of(conditions, names, 1).captions)

    def drawn(self, drawn: Callable[..., np.ndarray]) -> np.ndarray:
        """Returns uint8 [N, 1 + M, H, W, C] by `drawn`, which is `draw` of a generator."""
        count, each = len(self.images), len(self.conditions)
        made = drawn(
            count * each,
            label=np.tile(self.conditions, (count, 1)),
            image=np.repeat(self.images, each, 0),
        )
        made = made.reshape(count, each, *made.shape[1:])
        return np.concatenate([self.images[:, None], made], 1)

    def sheet(self, drawn: Callable[..., np.ndarray]) -> np.ndarray:
        """Returns what `drawn` makes as one picture, with captions."""
        images = self.drawn(drawn)
        images = pictures.enlarged(images.reshape(-1, *images.shape[2:]))
        captions = ("", *self.captions)
        return pictures.headed(pictures.grid(images, len(captions)), captions)


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
    image: np.ndarray | None = None,
    latent: np.ndarray | None = None,
    w: np.ndarray | None = None,
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
      image: uint8 [num, H, W, C], what to translate, for a Gan that translates.
      latent: [num, Z], in place of drawn ones.
      w: [num, layers, F], intermediate latents, for a Gan of `style.from_w`.
      batch_size: images computed at a time.
      step: of the variables, which says how far the layers of a growing Gan have faded in.

    Raises:
      UsageError: if the Gan is conditional and there are no labels, or it translates and there are
        no pictures, or the other way round.
    """
    chosen = {"label": label, "image": image, "latent": latent, "w": w}
    drawn = draw_batches(gan, variables, num, chosen, seed=seed, batch_size=batch_size, step=step)
    return np.concatenate([*drawn])


def draw_batches(
    gan: Gan,
    variables: Variables,
    num: int,
    chosen: Mapping[str, np.ndarray | None],
    *,
    seed: int = 0,
    batch_size: int = 64,
    step: int = 0,
) -> Iterator[np.ndarray]:
    """Yields what `draw` returns, [batch_size, H, W, C] at a time; the last batch is smaller.

    Args:
      gan, variables, num, seed, batch_size, step: as in `draw`.
      chosen: what a batch holds of "label", "image", "latent" and "w", [num, ...]; None is not
        chosen.

    Raises:
      UsageError: as `draw`.
    """
    chosen = {name: array for name, array in chosen.items() if array is not None}
    if gan.conditional != ("label" in chosen):
        raise UsageError(
            "this model draws what labels say: give some"
            if gan.conditional
            else "this model was trained without labels and takes none"
        )
    if (gan.targets is not None) != ("image" in chosen):
        raise UsageError(
            "this model makes pictures of noise and takes none"
            if gan.targets is None
            else "this model translates pictures: give some"
        )
    rng = jax.random.key(seed)
    variables = devices.copies(variables)
    for start in range(0, num, batch_size):
        batch = {"index": np.arange(start, start + batch_size)}
        for name, array in chosen.items():
            # The last batch is filled up, so that one compiled program serves all.
            part = array[start : start + batch_size]
            batch[name] = np.resize(part, (batch_size, *part.shape[1:]))
        images = _images(gan.generate, variables, devices.spread(batch), rng, step)
        yield np.asarray(images)[: num - start]


def draw_latents(gan: Gan, num: int, *, seed: int = 0) -> np.ndarray:
    """Returns the latents [num, Z] that `draw` uses for the same seed.

    Raises:
      UsageError: if the model maps images, not latents.
    """
    if gan.latent is None:
        raise UsageError("this model has no latents to interpolate: it maps images to images")
    return np.asarray(gan.latent(example_keys(jax.random.key(seed), jnp.arange(num))))


@functools.partial(jax.jit, static_argnums=0)
def float_images(
    generate: Callable, variables: Variables, batch: Batch, rng: Array, step: int = 0
) -> Array:
    """Returns float images [B, H, W, C] in [-1, 1], as a Gan's `generate` makes them for use."""
    keys = example_keys(rng, batch["index"])
    batch = seen(batch) if "image" in batch else batch
    fake, _ = generate(
        variables, batch, Context(jnp.asarray(step, jnp.int32), keys, {}, train=False)
    )
    return jnp.clip(fake.image, -1, 1)


@functools.partial(jax.jit, static_argnums=0)
def _images(generate, variables, batch, rng, step):
    floats = float_images(generate, variables, batch, rng, step)
    return jnp.round((floats + 1) * 127.5).astype(jnp.uint8)
