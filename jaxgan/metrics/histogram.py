"""Whether generated pictures have the classes and tags of the data, each as often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxgan.metrics.panel import Finding, unmeasured

DEVIATIONS_OF_MANY = 4.0  # one alarm in 16,000 by chance; there may be dozens of tags
MISSING_EXPECTED = 10  # a class expected so often is absent by chance once in 22,000 times
MISSING_MASS = 0.01  # rarer classes than this in all are worth a look, not an alarm
HISTOGRAM_DRAWS = 1000  # 99.9 % of them are the noise level
SKEWED = 0.25  # a quarter of the pictures would have to change their class
TAG_OFF = 0.2


def class_histogram(generated: np.ndarray, data: np.ndarray, names: Sequence[str]) -> Finding:
    """The total variation distance between the classes of generated pictures and the data's.

    Args:
      generated: [K] pictures of each class, as a classifier tells them.
      data: [K] the same of the data; a classifier's mistakes cancel if it tells these too.
      names: [K] of the classes.
    """
    name = "classes"
    # The shares must add up to one more exactly than float32 can.
    generated, data = np.asarray(generated, np.float64), np.asarray(data, np.float64)
    count, size = generated.sum(), data.sum()
    if not (np.isfinite(count) and np.isfinite(size) and count > 0 and size > 0):
        return unmeasured(name, "there are no generated pictures, or no labelled real ones")
    p, q = generated / count, data / size
    distance, noise = float(np.abs(p - q).sum() / 2), _histogram_noise(q, int(count), int(size))
    start = (
        f"{distance:.1%} of the {count:.0f} generated pictures would have to change their class to "
        f"match the data (up to {noise:.1%} is chance): "
    )
    missing = (generated == 0) & (q * count >= MISSING_EXPECTED)
    if missing.any():
        lost = q[missing].sum()
        return Finding(
            name,
            distance,
            "bad" if lost > MISSING_MASS else "watch",
            start + f"{_named(names, missing, q)} never appear, {lost:.1%} of the data (mode "
            "collapse). Try minibatch discrimination, a gradient penalty, or giving the networks "
            "the labels if they have none.",
        )
    if distance > noise:
        rare = (p < q) & (q - p >= (q - p).max() / 2)
        return Finding(
            name,
            distance,
            "bad" if distance > SKEWED else "watch",
            start + f"{_named(names, rare, q - p)} come too seldom. Train longer, or try a "
            "gradient penalty, or giving the networks the labels if they have none.",
        )
    return Finding(name, distance, "good", start + "every class is there in its share.")


def _histogram_noise(q, count, size):
    """The distance that two draws of these sizes from q seldom exceed."""
    random = np.random.default_rng(0)
    difference = random.multinomial(count, q, HISTOGRAM_DRAWS) / count
    difference -= random.multinomial(size, q, HISTOGRAM_DRAWS) / size
    return float(np.quantile(np.abs(difference).sum(-1) / 2, 0.999))


def tag_rates(
    generated: np.ndarray, count: int, data: np.ndarray, size: int, names: Sequence[str]
) -> Finding:
    """How often generated pictures have each tag, against the data; the value is the largest gap.

    Args:
      generated: [K] how many of the `count` generated pictures have each tag.
      count: of the generated pictures.
      data: [K] how many of the `size` real pictures have each tag.
      size: of the data.
      names: [K] of the tags.
    """
    name = "tags"
    generated, data = np.asarray(generated, np.float64), np.asarray(data, np.float64)
    finite = np.isfinite(generated).all() and np.isfinite(data).all()
    if not (finite and len(data) and count > 0 and size > 0):
        return unmeasured(name, "there are no generated pictures, or no tagged real ones")
    p, q = generated / count, data / size
    both = (generated + data) / (count + size)
    noise = DEVIATIONS_OF_MANY * np.sqrt(both * (1 - both) * (1 / count + 1 / size))
    noise += 1 / count + 1 / size  # counts are whole: rare tags jump
    gap = np.abs(p - q)
    worst = int(np.argmax(gap))
    start = (
        f"The tag that differs most is {names[worst]!r}: {p[worst]:.1%} of the generated pictures "
        f"have it, and {q[worst]:.1%} of the data (up to {noise[worst]:.1%} apart is chance): "
    )
    missing = (generated == 0) & (q * count >= MISSING_EXPECTED)
    if missing.any():
        return Finding(
            name,
            float(gap[worst]),
            "bad",
            start + f"{_named(names, missing, q)} never appear. Train longer, or give the "
            "networks the labels if they have none.",
        )
    off = gap > noise
    if off.any():
        return Finding(
            name,
            float(gap[worst]),
            "bad" if (off & (gap > TAG_OFF)).any() else "watch",
            start + f"{_named(names, off, gap)} are off. Train longer, or weigh the labels' loss "
            "more.",
        )
    return Finding(name, float(gap[worst]), "good", start + "every tag has its share.")


def _named(names, chosen, weight, most=5):
    """The names of the chosen, the heaviest first, in words."""
    order = [names[k] for k in np.argsort(-weight, kind="stable") if chosen[k]]
    shown = [repr(name) for name in order[:most]]
    return ", ".join(shown) + (f" and {len(order) - most} more" if len(order) > most else "")
