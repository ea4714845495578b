"""Broken and whole sets of samples, made by changing held-out pictures: what a verdict must see."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from jaxgan import data
from jaxgan.evaluation.evaluator import in_batches, read_pictures, read_reference
from jaxgan.evaluation.networks import random_features
from jaxgan.evaluation.picture_findings import PictureJudge
from jaxgan.evaluation.verdicts import Finding

SIZE = 32  # pixels


class Pictures(NamedTuple):
    """What a case is made of; all pictures [N, H, W, C] uint8."""

    training: np.ndarray
    held_out: np.ndarray
    more: np.ndarray  # held-out ones, twice as many
    labels: np.ndarray  # [2 N, K], of those
    others: np.ndarray  # another data set's, of the same shape

    @property
    def random(self) -> np.random.Generator:
        """The same for every case."""
        return np.random.default_rng(0)


def judged(
    name: str, count: int, cache_dir: Path | None = None
) -> Iterator[tuple[str, np.ndarray, Sequence[Finding]]]:
    """Yields each case of a data set, its samples, and what is said of them by random features.

    Args:
      name: "glyphs" or "shapes".
      count: of the samples, of the training's pictures, and of the held-out ones beside them.
      cache_dir: where drawn pictures are kept.
    """
    load = functools.partial(data.load, image_size=SIZE, cache_dir=cache_dir)
    training = load(name, num_examples=count)
    unseen = load(name, num_examples=2 * count, split="holdout")
    other = load("shapes" if name == "glyphs" else "glyphs", num_examples=count)
    pictures = Pictures(
        training.images,
        unseen.images[:count],
        unseen.images,
        unseen.labels,
        _with_channels(other.images, training.spec.channels),
    )
    network = random_features.make()
    reference = read_reference(network, training)
    beside = dataclasses.replace(unseen, images=unseen.images[count:], labels=None)
    judge = PictureJudge(network, training, reference, count, beside)
    for case, made in CASES.items():
        samples = np.ascontiguousarray(made.make(pictures)[:count])
        fake = read_pictures(network, in_batches(samples, 64), len(samples))
        yield case, samples, judge(samples, fake).findings


def _with_channels(images, channels):
    return (
        images.mean(-1, keepdims=True).astype(np.uint8) if channels == 1 else images.repeat(3, -1)
    )


def _clipped(x):
    return np.clip(np.round(x), 0, 255).astype(np.uint8)


def _noise(p, deviation):
    return _clipped(p.held_out + p.random.normal(0, deviation, p.held_out.shape))


def _stretched(x, factor):
    return _clipped((x.astype(float) - 128) * factor + 128)


def _blurred(x, radius):
    return np.stack(
        [
            np.reshape(
                Image.fromarray(i.squeeze()).filter(ImageFilter.GaussianBlur(radius)), i.shape
            )
            for i in x
        ]
    )


def _some(p, count):
    """A few held-out pictures again and again, hardly changed."""
    few = np.resize(p.held_out[:count], p.held_out.shape)
    return _clipped(few + p.random.normal(0, 2, few.shape))


def _blank(p):
    levels = p.random.integers(60, 200, len(p.held_out), np.uint8)
    return np.broadcast_to(levels[:, None, None, None], p.held_out.shape)


def _copies(p, share):
    changed = p.held_out.copy()
    count = int(share * len(changed))
    changed[:count] = p.training[:count]
    return changed


def _without_classes(p):
    """Those that have none of half of the labels."""
    return p.more[p.labels[:, : p.labels.shape[1] // 2].sum(1) == 0]


def _exploded(p):
    """What a generator of huge weights draws: every value at an end, in stripes and spots."""
    rough = _blurred(p.random.integers(0, 256, p.held_out.shape, np.uint8), 1)
    return np.where(rough > np.median(rough), 255, 0).astype(np.uint8)


def _blobs(p):
    smooth = _blurred(
        p.random.integers(0, 256, p.held_out.shape, np.uint8), p.held_out.shape[1] / 8
    )
    return _stretched(smooth - np.median(smooth) + 128.0, 6)


def _glued(p):
    """The left half of a picture beside the right half of another."""
    middle = p.held_out.shape[2] // 2
    return np.concatenate([p.held_out[:, :, :middle], p.held_out[::-1, :, middle:]], 2)


def _shuffled(p):
    flat = p.held_out.reshape(len(p.held_out), -1, p.held_out.shape[-1])
    return p.random.permuted(flat, axis=1).reshape(p.held_out.shape)


def _checkered(p):
    rows, columns = np.indices(p.held_out.shape[1:3])
    return _clipped(p.held_out + 25.0 * np.where((rows + columns) % 2, 1, -1)[..., None])


class Case(NamedTuple):
    """A set of samples."""

    make: Callable[[Pictures], np.ndarray]
    said: tuple[str, ...] = ()  # findings of which one tells what is wrong; none of whole pictures
    is_whole: bool = False


def _whole(make):
    return Case(make, is_whole=True)


CASES = {
    "held-out pictures": _whole(lambda p: p.held_out),
    "a trace of noise": _whole(lambda p: _noise(p, 3)),
    "shifted by a pixel": _whole(lambda p: np.roll(p.held_out, 1, 2)),
    "contrast 9:10": _whole(lambda p: _stretched(p.held_out, 0.9)),
    "copies": Case(lambda p: _copies(p, 1.0), ("memorization/pixels",)),
    "a third are copies": Case(lambda p: _copies(p, 1 / 3), ("copies/pixels",)),
    "one picture": Case(lambda p: _some(p, 1), ("duplicates/pixels",)),
    "twenty pictures": Case(lambda p: _some(p, 20), ("duplicates/pixels",)),
    "the average picture": Case(
        lambda p: np.broadcast_to(_clipped(p.training.mean(0)), p.held_out.shape),
        ("pixels/constant",),
    ),
    "blank": Case(_blank, ("pixels/blank",)),
    "noise": Case(
        lambda p: p.random.integers(0, 256, p.held_out.shape, np.uint8), ("pixels/noise",)
    ),
    "shuffled pixels": Case(_shuffled, ("pixels/noise",)),
    "noisy": Case(lambda p: _noise(p, 50), ("pixels/grainy",)),
    "checkered": Case(_checkered, ("pixels/grainy", "pixels/colors")),
    "blurred": Case(lambda p: _blurred(p.held_out, SIZE / 12), ("pixels/smooth",)),
    "blobs": Case(_blobs, ("pixels/smooth",)),
    "saturated": Case(lambda p: _stretched(p.held_out, 30), ("pixels/saturated",)),
    "exploded weights": Case(_exploded, ("pixels/saturated",)),
    "inverted colors": Case(lambda p: 255 - p.held_out, ("pixels/negative",)),
    "too dark": Case(lambda p: _clipped(p.held_out * 0.4), ("pixels/faint",)),
    "shifted by a third": Case(lambda p: np.roll(p.held_out, SIZE // 3, 2), ("pixels/average",)),
    "another data set": Case(lambda p: p.others, ("likeness",)),
    "half of the classes": Case(_without_classes),
    "halves of two": Case(_glued),
}
"""The last two take a classifier, or more pictures, to be seen."""
