"""Measures a generator against real pictures: reads both with a network, and compares."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from jaxgan import bars, devices, files
from jaxgan.core import Gan, GanState, Variables
from jaxgan.data import Dataset, digest
from jaxgan.evaluation.distances.frechet import Moments, merge
from jaxgan.evaluation.distances.path_length import path_lengths
from jaxgan.evaluation.history import Entry
from jaxgan.evaluation.label_errors import names_classes, wrong
from jaxgan.evaluation.metrics import Changes, Comparison, Setup, measure, obstacle
from jaxgan.evaluation.networks.network import Network, Reading
from jaxgan.evaluation.protocol import Protocol
from jaxgan.sampling.draw import (
    draw,
    draw_batches,
    draw_latents,
    float_images,
    generator_variables,
)
from jaxgan.sampling.paths import slerp
from jaxgan.sampling.style import truncated
from jaxgan.stages import Stages, gan_at, saved_stage

KEPT = 50_000  # features that are kept one by one; the moments are of all
NO_LABELS, AS_IN_DATA = "none", "the data's labels"  # what a protocol says of the conditions
REFERENCE_SEED = 0
PATHS = 2000  # for the path length; the paper's 100,000 narrow its interval by seven
TRANSLATED = 2000  # pictures whose translations are compared with them


def read_pictures(
    network: Network,
    pictures: Iterable[np.ndarray],
    num: int,
    labels: np.ndarray | None = None,
    *,
    title: str | None = None,
) -> Reading:
    """Reads `num` uint8 pictures that come as batches [b, H, W, C], of one size but the last.

    The batches are spread over this process's devices, and a bar shows how far it is if it has a
    title. `labels` [num, K] are what the pictures show, or were asked to.
    """
    moments, features, logits, kept = None, [], [], 0
    with bars.bar(num, "pictures", shown=title is not None, delay=2, desc=title) as bar:
        for reading in _readings(network, pictures):
            part = Moments.of(reading.features)
            moments = part if moments is None else merge(moments, part)
            features.append(reading.features[: KEPT - kept])
            kept += len(features[-1])
            if reading.logits is not None:
                logits.append(reading.logits)
            bar.update(len(reading.features))
    answers = np.concatenate(logits) if logits else None
    return Reading(np.concatenate(features), answers, moments, labels)


def _readings(network: Network, pictures: Iterable[np.ndarray]) -> Iterator[Reading]:
    read = jax.jit(network.read)
    variables = devices.copies(network.variables)
    size, before = None, None
    for batch in pictures:
        size = size or len(batch)
        filled = np.resize(batch, (size, *batch.shape[1:]))  # one compiled program serves all
        now = read(variables, devices.spread(filled)), len(batch)
        if before is not None:
            yield _on_host(*before)  # while the devices are busy with the next
        before = now
    yield _on_host(*before)


def _on_host(reading: Reading, count: int) -> Reading:
    return jax.tree.map(lambda x: np.asarray(x, np.float32)[:count], reading)


def read_reference(
    network: Network,
    dataset: Dataset,
    num: int | None = None,
    *,
    batch_size: int = 64,
    cache_dir: pathlib.Path | None = None,
    title: str | None = None,
) -> Reading:
    """Reads `num` pictures of a data set drawn at random without repetition, or all of them.

    With a `cache_dir` what was read is kept there, under a hash of the network and the pictures.
    """
    order = reference_order(dataset, num)
    labels = None if dataset.labels is None else dataset.labels[order]

    def read() -> Reading:
        pictures = (dataset.images[part] for part in in_batches(order, batch_size))
        return read_pictures(network, pictures, len(order), title=title)

    if cache_dir is None:
        return read()._replace(labels=labels)
    facts = network.name, network.digest, network.resize, dataset.fingerprint
    key = digest(*facts, REFERENCE_SEED, len(order), KEPT)
    return _cached(pathlib.Path(cache_dir) / f"reference-{key}.npz", read)._replace(labels=labels)


def reference_order(dataset: Dataset, num: int | None = None) -> np.ndarray:
    """Returns which pictures `read_reference` reads, in order."""
    return np.random.default_rng(REFERENCE_SEED).permutation(len(dataset))[:num]


def in_batches(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yields parts [size, ...] of an array; the last one may be smaller."""
    for start in range(0, len(array), size):
        yield array[start : start + size]


def _cached(path: pathlib.Path, read: Callable[[], Reading]) -> Reading:
    try:
        return reading_of(files.read_npz(path))
    except FileNotFoundError:
        pass
    except (OSError, files.DamagedFile) as error:
        logging.warning("%s is damaged (%s): the pictures are read again", path, error)
    seen = read()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(path, "wb") as file:
            np.savez(file, **arrays_of(seen))
    except OSError as error:
        logging.warning("%s cannot be kept (%s): they will be read again", path, error)
    return seen


def arrays_of(seen: Reading) -> dict[str, Any]:
    """Returns what is kept of a reading."""
    arrays = {**seen.moments._asdict(), "features": seen.features, "logits": seen.logits}
    return {name: np.asarray(x) for name, x in arrays.items() if x is not None}


def reading_of(arrays: dict[str, np.ndarray]) -> Reading:
    """Returns the reading of `arrays_of`. Raises DamagedFile if the arrays are no reading's."""
    try:
        moments = Moments(int(arrays["count"]), arrays["mean"], arrays["scatter"])
        features, logits = arrays["features"], arrays.get("logits")
        count, width = features.shape
    except (KeyError, TypeError, ValueError) as error:
        raise files.DamagedFile(f"{type(error).__name__}: {error}") from error
    if moments.mean.shape != (width,) or moments.scatter.shape != (width, width):
        raise files.DamagedFile("its arrays do not fit together")
    if logits is not None and len(logits) != count:
        raise files.DamagedFile("its arrays do not fit together")
    return Reading(features, logits, moments)


class Inputs(NamedTuple):
    """What a generator that translates begins with: other pictures, each to one label."""

    images: np.ndarray  # [num, H, W, C] uint8
    labels: np.ndarray  # [num, K], what they show


class Evaluation(NamedTuple):
    """The numbers of one generator."""

    entry: Entry
    fake: Reading
    images: np.ndarray  # the first of the generated pictures, uint8


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """What one Gan's generators are measured by, whatever their step.

    Args:
      stages: the method.
      network: reads the pictures.
      dataset: the real ones; `reference` are they as `network` reads them.
      metrics: names in `METRICS`.
      num: how many pictures are drawn.
      labels: [num, K], what the pictures are to show, for a conditional Gan.
      conditions: where `labels` comes from, if not from the data.
      inputs: what is translated, for a Gan that translates.
      seed: chooses the latents.
      batch_size: pictures computed at a time.
      progress: whether to show how far it is.
      held_out: pictures of the same kind that training has not seen.
      images_kept: how many of the drawn pictures an evaluation keeps to be looked at.
      truncation: psi, of methods with intermediate latents.
    """

    stages: Stages
    network: Network
    dataset: Dataset
    reference: Reading
    metrics: Sequence[str]
    num: int
    labels: np.ndarray | None = None
    conditions: str | None = None
    inputs: Inputs | None = None
    seed: int = 0
    batch_size: int = 64
    progress: bool = False
    held_out: Dataset | None = None
    images_kept: int = 1000
    truncation: float = 1.0

    def __call__(self, state: GanState, *, raw: bool = False) -> Evaluation:
        """Measures the averaged generator of a state, or with `raw` the last one.

        Metrics with an obstacle are left out.
        """
        step = int(state.step)
        variables = generator_variables(state, raw=raw)
        shown: list[np.ndarray] = []

        def pictures():
            drawn = draw_batches(
                self._gan(step),
                variables,
                self.num,
                {"label": self.labels, "image": self.inputs and self.inputs.images},
                seed=self.seed,
                batch_size=self.batch_size,
                step=step,
            )
            for batch in drawn:
                shown.append(batch[: max(0, self.images_kept - sum(map(len, shown)))])
                yield batch

        title = f"step {step}" if self.progress else None
        fake = read_pictures(self.network, pictures(), self.num, self.labels, title=title)
        lengths = functools.partial(self._path_lengths, variables, step)
        latents = gan_at(self.stages, step).latent is not None
        errors = functools.partial(self._label_errors, state)
        changes = functools.partial(self._changes, variables, step)
        seen = Comparison(
            self.network,
            self.reference,
            fake,
            self.seed,
            path_lengths=lengths if latents else None,
            changes=changes if self.inputs is not None else None,
            label_errors=None if "errors" in self.obstacles() else errors,
            labels=self._labels_of_full_rank(),
            label_names=self.dataset.spec.label_names,
        )
        measured = measure(self.metrics, seen, same_labels=self.same_labels)
        entry = Entry(step, self.protocol(raw=raw), measured)
        return Evaluation(entry, fake, np.concatenate(shown))

    def _gan(self, step: int) -> Gan:
        gan = gan_at(self.stages, step)
        return gan if self.truncation == 1 else truncated(gan, self.truncation)

    @property
    def same_labels(self) -> bool:
        """Whether the network's labels are the data's."""
        return self.network.label_names == self.dataset.spec.label_names

    def obstacles(self) -> Mapping[str, str]:
        """Returns why a metric is not measured, for each that cannot be."""
        gan = gan_at(self.stages, 0)
        setup = Setup(
            self.network,
            len(self.reference.moments.mean) + 1,
            self.reference.moments.count,
            self.num,
            asked=self.labels is not None,
            same_labels=self.same_labels,
            latents=gan.latent is not None,
            translates=self.inputs is not None,
            labels=self._labels_of_full_rank(),
            names_classes="errors" in self.metrics and self._names_classes(),
            held_out=self.held_out is not None and self.held_out.labels is not None,
        )
        found = {name: obstacle(name, setup) for name in self.metrics}
        return {name: why for name, why in found.items() if why is not None}

    def _labels_of_full_rank(self) -> tuple[int, ...]:
        """The labels that more pictures show than there are features, real and generated ones."""
        if self.labels is None or self.reference.labels is None:
            return ()
        real = np.asarray(self.reference.labels)[: len(self.reference.features)]
        counts = np.minimum(real.sum(0), self.labels[:KEPT].sum(0))
        return tuple(np.flatnonzero(counts > len(self.reference.moments.mean)))

    def _changes(self, variables: Variables, step: int) -> Changes:
        count = min(self.num, TRANSLATED)
        start, shown = (x[:count] for x in self.inputs)
        drawn = functools.partial(
            draw,
            gan_at(self.stages, step),
            variables,
            count,
            batch_size=self.batch_size,
            step=step,
        )
        there = drawn(image=start, label=self.labels[:count])
        back = drawn(image=there, label=shown)
        return Changes(_apart(start, there), _apart(start, back))

    def _names_classes(self) -> bool:
        first = self.stages[0]
        return names_classes(first.gan, self.dataset.spec, first.batch_size)

    def _label_errors(self, state: GanState) -> Mapping[str, np.ndarray]:
        stage = self.stages[saved_stage(self.stages, int(state.step))]
        return wrong(stage.gan, state, self.held_out, stage.batch_size)

    def _path_lengths(self, variables: Variables, step: int) -> np.ndarray:
        gan = self._gan(step)
        places = {"index": np.arange(self.batch_size)}
        if self.labels is not None:
            places["label"] = np.resize(self.labels, (self.batch_size, *self.labels.shape[1:]))
        rng, read = jax.random.key(self.seed), jax.jit(self.network.read)
        starts, ends = np.split(draw_latents(gan, 2 * PATHS, seed=self.seed), 2)
        return path_lengths(
            lambda latents: float_images(
                gan.generate, variables, {**places, "latent": latents}, rng, step
            ),
            lambda pictures: read(self.network.variables, pictures).features,
            starts,
            ends,
            np.random.default_rng(self.seed).uniform(size=PATHS),
            path=slerp,
            batch_size=self.batch_size,
        )

    def protocol(self, *, raw: bool = False) -> Protocol:
        """Returns what the numbers depend on besides the generator."""
        return Protocol(
            features=self.network.name,
            digest=self.network.digest,
            resize=self.network.resize,
            reference=self.dataset.spec.name,
            fingerprint=self.dataset.fingerprint,
            num_reference=self.reference.moments.count,
            num_generated=self.num,
            conditions=NO_LABELS if self.labels is None else self.conditions or AS_IN_DATA,
            weights="last" if raw else "averaged",
            truncation=self.truncation,
            seed=self.seed,
        )


def _apart(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The mean absolute difference of uint8 pictures [N, H, W, C] as if in [-1, 1], [N]."""
    pairs = zip(images, others, strict=True)
    return np.array([np.abs(x.astype(np.float32) - y).mean() / 127.5 for x, y in pairs])


def labels_as_in(dataset: Dataset, num: int, seed: int = 0) -> np.ndarray:
    """Returns labels [num, K] of pictures drawn at random, each about equally often."""
    return np.asarray(dataset.labels)[_even_order(len(dataset), num, seed)]


def inputs_from(dataset: Dataset, num: int, seed: int = 0) -> Inputs:
    """Returns pictures drawn at random, each about equally often."""
    # Not in the order of `labels_as_in`, by which each of the same pictures would stay as it is.
    order = _even_order(len(dataset), num, (seed, 1))
    return Inputs(dataset.images[order], np.asarray(dataset.labels)[order])


def _even_order(count: int, num: int, seed: int | tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(seed)
    order = [random.permutation(count) for _ in range(-(-num // count))]
    return np.concatenate(order)[:num]
