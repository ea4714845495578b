"""Measures pictures from anywhere against others, or against statistics that were kept of them."""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxgan import data, files
from jaxgan.data import Dataset, DataSpec
from jaxgan.errors import UsageError
from jaxgan.evaluation.evaluator import arrays_of, read_reference, reading_of, reference_order
from jaxgan.evaluation.metrics import Comparison, measure, obstacle, setup_of
from jaxgan.evaluation.networks.network import Reading
from jaxgan.evaluation.picture_findings import SAMPLES, PictureJudge, Scale
from jaxgan.evaluation.protocol import Measured
from jaxgan.evaluation.verdicts import Finding
from jaxgan.runs import readers


class Statistics(NamedTuple):
    """What is kept of pictures: all that a metric looks at."""

    spec: DataSpec
    features: str  # the network's name
    digest: str  # of its weights
    reading: Reading


class Compared(NamedTuple):
    """Numbers, their scale, and what is to be said."""

    title: str
    metrics: Mapping[str, Measured]
    scale: Scale | None
    findings: Sequence[Finding]


def compare(
    pictures: str,
    reference: str,
    *,
    image_size: int | None = None,
    metrics: Sequence[str] | None = None,
    features: str | None = None,
    num_images: int = 10_000,
    num_reference: int = 50_000,
    save_reference: str | None = None,
    seed: int = 0,
    batch_size: int = 64,
    cache_dir: pathlib.Path | None = None,
    say: readers.Say = print,
) -> Compared:
    """Measures pictures against others.

    Args:
      pictures: a folder, a zip, or a .npz with `images` [N, H, W, C] uint8, as sample.py makes it.
      reference: the same of real pictures, or a file that `save_reference` named.
      image_size: side that folders are brought to; None for that of what has one, else 64.
      metrics: names in `METRICS`; None for the usual ones that can be measured.
      features: as in `readers.network`.
      num_images: how many pictures are read at most.
      num_reference: how many of the reference, at most.
      save_reference: a file for the reference's statistics.
      seed: of the intervals.
      batch_size: pictures read at a time.
      cache_dir: where prepared pictures and readings are kept.
      say: is told what a user should know.

    Raises:
      UsageError: if the sets do not fit together, or a metric cannot be measured.
      DataError: if there are no such pictures.
    """
    names = readers.metric_names(metrics)
    given = [_of_npz(where) for where in (reference, pictures)]
    sizes = [found.spec.size for found in given if found is not None]
    size = image_size or next(iter(sizes), None)
    real, drawn = given
    if real is None:
        real = _of_folder(reference, size, None, cache_dir)
    spec = real.spec
    if drawn is None:
        drawn = _of_folder(pictures, spec.size, spec.channels, cache_dir)
    if isinstance(drawn, Statistics):
        raise UsageError(f"--pictures={pictures} holds statistics; name pictures")
    if drawn.images.shape[1:] != (spec.size, spec.size, spec.channels):
        raise UsageError(
            f"{pictures} holds pictures {drawn.images.shape[1:]} and {reference} "
            f"{(spec.size, spec.size, spec.channels)}; bring them to one size"
        )
    network = readers.network(spec, features, cache_dir=cache_dir, say=say)
    read = functools.partial(read_reference, network, batch_size=batch_size, title="pictures")
    if isinstance(real, Statistics):
        if real.digest != network.digest:
            raise UsageError(
                f"{reference} holds statistics of the features {real.features!r} "
                f"({real.digest[:8]}), and these are {network.name!r} ({network.digest[:8]}); name "
                "theirs by --features"
            )
        seen = real.reading
    else:
        seen = read(real, num_reference, cache_dir=cache_dir)
    if save_reference is not None:
        _save(save_reference, Statistics(spec, network.name, network.digest, seen))
    fake = read(drawn, num_images)._replace(labels=None)
    both = Comparison(network, seen, fake, seed)
    for name in names:
        why = obstacle(name, setup_of(both))
        if why is not None and metrics:
            raise UsageError(why)
        if why is not None:
            say(f"note: {name} is not measured: {why}")
    count = fake.moments.count
    title = f"{count} pictures against {seen.moments.count} of {reference}, features {network.name}"
    numbers = measure(names, both)
    if isinstance(real, Statistics):
        say("note: only the numbers are told, as findings need the reference's pictures")
        return Compared(title, numbers, None, ())
    judge = PictureJudge(network, real, seen, count, batch_size=batch_size)
    images = drawn.images[reference_order(drawn, min(count, SAMPLES))]
    return Compared(title, numbers, judge.scale(names, seed), judge(images, fake).findings)


def _of_folder(where, size, channels, cache_dir) -> Dataset:
    how = {"image_size": size, "channels": channels, "cache_dir": cache_dir}
    return data.load("folder", data_dir=where, **how)


def _of_npz(where: str) -> Dataset | Statistics | None:
    """Returns what a .npz holds; None if it is none."""
    path = pathlib.Path(where).expanduser()
    if path.suffix != ".npz":
        return None
    try:
        arrays = files.read_npz(path)
        if "about" in arrays:
            about = files.parse_json(str(arrays["about"]))
            spec = DataSpec(**{**about["spec"], "label_names": tuple(about["spec"]["label_names"])})
            return Statistics(spec, about["features"], about["digest"], reading_of(arrays))
        images = arrays["images"]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise files.DamagedFile(f"its images are {images.dtype} {images.shape}")
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror or error}") from None
    except (files.DamagedFile, KeyError, TypeError) as error:
        raise UsageError(
            f"{where} holds neither images [N, H, W, 1 or 3] uint8 nor statistics ({error}); "
            "jaxgan sample --out and jaxgan evaluate --save_reference make such files"
        ) from None
    spec = DataSpec(path.stem, images.shape[1], images.shape[3], None, ())
    return Dataset(spec, images, None, hashlib.sha256(path.read_bytes()).hexdigest())


def _save(where: str, kept: Statistics) -> None:
    about = {"spec": kept.spec._asdict(), "features": kept.features, "digest": kept.digest}
    try:
        with files.whole(pathlib.Path(where).expanduser(), "wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **arrays_of(kept.reading))
    except OSError as error:
        raise UsageError(f"--save_reference={where} cannot be written: {error.strerror}") from None
