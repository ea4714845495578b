"""Whether samples look like the data at all: plain statistics of pixels, and who is among whom.

Nothing here needs a trained network. What is broken is called by its name: a constant picture or
noise is no mode collapse, and what is unlike the data says nothing of variety.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxgan.evaluation.verdicts import Finding, judged

CONSTANT = 1.0  # gray levels that pictures differ by; less is not seen
BLANK, FAINT = 0.05, 0.5  # contrast by the data's
ROUGH = 0.8  # grain; white noise has 1, photographs less than 0.2
VANISHED = 0.1  # share of the data's values between black and white
EXTREME = 0.01  # the roughest or smoothest of the data
MOST, SOME = 0.5, 0.2  # share of samples that are beyond them
COLORS, COLORS_OFF = 0.4, 0.2  # share of the values with another shade; unseen ones 0.02
ELSEWHERE, MOVED = 0.6, 0.3  # standard deviations of a pixel
DEVIATIONS = 3.0  # of an average over so few pictures
UNLIKE, UNLIKELY = 0.3, 0.7  # precision by that of real pictures
UNCOVERED, THIN = 0.3, 0.85  # coverage by that of real pictures
SHADES = 16

AVERAGE = "pixels/average"
SHRUNK = ("pixels/constant", "pixels/blank", "pixels/smooth", "pixels/faint")
"""What leaves pictures near each other, whatever they show."""


class Look(NamedTuple):
    """Plain statistics of N pictures."""

    contrast: np.ndarray  # [N] standard deviation of a picture's values
    grain: np.ndarray  # [N] how little neighbors have in common: 0 for a ramp, 1 for white noise
    between: float  # share of the values that are neither black nor white
    shades: np.ndarray  # [C, SHADES] share of the values in each
    average: np.ndarray  # [H, W, C]
    deviation: float  # of a pixel's value, from picture to picture

    @classmethod
    def of(cls, images: np.ndarray) -> Look:
        """Looks at uint8 pictures [N, H, W, C]."""
        x = images.astype(np.float32)
        variance = x.var((1, 2)).mean(-1)
        steps = [np.square(np.diff(x, axis=axis)).mean((1, 2, 3)) for axis in (1, 2)]
        return cls(
            np.sqrt(variance),
            np.mean(steps, 0) / np.maximum(2 * variance, 1e-3),
            float(((images > 2) & (images < 253)).mean()),
            _shades(images),
            x.mean(0),
            float(np.sqrt(x.var(0).mean())),
        )


def _shades(images):
    channels = np.moveaxis(images // (256 // SHADES), -1, 0)
    counts = [np.bincount(channel.ravel(), minlength=SHADES) for channel in channels]
    return np.array(counts) / channels[0].size


def judge_pixels(samples: np.ndarray, real: np.ndarray) -> Finding:
    """Says what is plainly wrong with samples, the plainest first; its name says what.

    Args:
      samples: uint8 [N, H, W, C].
      real: pictures of the training [M, H, W, C], drawn at random.
    """
    here, there = Look.of(samples), Look.of(real)
    contrast = np.median(here.contrast) / max(np.median(there.contrast), 1e-3)
    grain, usual = np.median(here.grain), np.median(there.grain)
    smooth, rough = np.quantile(there.grain, [EXTREME, 1 - EXTREME])
    grainy, blurred = (here.grain > rough).mean(), (here.grain < smooth).mean()
    off, negative = (
        np.abs(shades - there.shades).sum(-1).mean() / 2
        for shades in (here.shades, here.shades[:, ::-1])
    )
    chance = 1 / len(samples) + 1 / len(real)
    moved = np.square(here.average - there.average).mean() / max(there.deviation, 1e-3) ** 2
    moved = np.sqrt(moved) if moved > DEVIATIONS**2 * chance else 0.0
    lower = "Go back to an earlier checkpoint, and try a lower learning rate."
    rules = (
        (
            "constant",
            here.deviation,
            here.deviation < CONSTANT <= there.deviation,
            "bad",
            f"Every latent gives the same picture{', a blank one' * bool(contrast < BLANK)}: the "
            f"generator does not listen to its latents, as where its units have died. {lower}",
        ),
        (
            "blank",
            contrast,
            contrast < BLANK,
            "bad",
            f"Samples are blank: they have {contrast:.1%} of the data's contrast. {lower}",
        ),
        (
            "noise",
            grain,
            grain > ROUGH > 1.5 * usual,
            "bad",
            f"Samples are noise: neighboring pixels have as little in common as by chance (grain "
            f"{grain:.2f}; white noise has 1, the data {usual:.2f}). The generator has learned "
            f"nothing yet, or no more: {lower.lower()}",
        ),
        (
            "saturated",
            here.between,
            here.between < VANISHED * there.between and there.between > SOME * VANISHED,
            "bad",
            f"Samples are saturated: {here.between:.1%} of their values are neither black nor "
            f"white, and {there.between:.1%} of the data's. The weights have exploded. {lower}",
        ),
        (
            "negative",
            off,
            off > COLORS_OFF and negative < off / 2,
            "bad",
            "Samples have the colors of a negative: inverted, they are those of the data. See how "
            "pictures are brought to [-1, 1].",
        ),
        (
            "grainy",
            grainy,
            grainy > MOST,
            "bad",
            f"{grainy:.0%} of the samples are rougher than the roughest 1% of the data: noise or a "
            "checkerboard lies over them. Train longer; a generator that enlarges maps before it "
            "convolves has no checkerboard.",
        ),
        (
            "smooth",
            blurred,
            blurred > MOST,
            "bad",
            f"{blurred:.0%} of the samples are smoother than the smoothest 1% of the data: blobs "
            "without detail. Train longer, or try a wider generator.",
        ),
        (
            "faint",
            contrast,
            contrast < FAINT,
            "bad",
            f"Samples are faint: they have {contrast:.0%} of the data's contrast. Train longer; if "
            f"it lasts: {lower.lower()}",
        ),
        (
            "colors",
            off,
            off > COLORS_OFF,
            "bad" if off > COLORS else "watch",
            f"{off:.0%} of the samples' values would have to change their shade to match the data: "
            "colors or brightness are off. Train longer.",
        ),
        (
            "average",
            moved,
            moved > MOVED,
            "bad" if moved > ELSEWHERE else "watch",
            f"The average sample is {moved:.1f} deviations of a pixel from the data's average: "
            "things are in other places, or only some kinds of pictures are drawn.",
        ),
        (
            "grain",
            max(grainy, blurred),
            max(grainy, blurred) > SOME,
            "watch",
            f"{max(grainy, blurred):.0%} of the samples are "
            f"{'rougher' if grainy > blurred else 'smoother'} than 99% of the data. Train longer.",
        ),
    )
    for name, value, holds, verdict, sentence in rules:
        if holds:
            return Finding(f"pixels/{name}", float(value), verdict, sentence)
    return Finding(
        "pixels",
        float(contrast),
        "good",
        f"Contrast ({contrast:.2f} of the data's), grain, colors and the average picture are those "
        "of the data.",
    )


def judge_likeness(
    samples: Mapping[str, float], real: Mapping[str, float]
) -> tuple[Finding, Finding]:
    """Whether samples are among the real pictures, and real pictures among the samples.

    Args:
      samples: precision and coverage of samples; see `distances.manifold`.
      real: the same of as many real pictures that are not among those they are compared with.
    """
    precision, usual = samples["precision"], max(real["precision"], 1e-3)
    coverage, whole = samples["coverage"], max(real["coverage"], 1e-3)
    unlike = (
        "samples are unlike the data. Train longer; if that was said before: the learning rate may "
        "be too high, or the game out of balance."
    )
    thin = (
        "the data are more varied (mode collapse, or modes left out). Try minibatch "
        "discrimination, a gradient penalty, a lower learning rate or an earlier checkpoint."
    )
    return (
        judged(
            "likeness",
            precision,
            f"{precision:.0%} of the samples lie among the data in features (of other real "
            f"pictures {usual:.0%}): ",
            (precision < UNLIKE * usual, "bad", unlike),
            (precision < UNLIKELY * usual, "watch", unlike),
            (True, "good", "they look like the data."),
        ),
        judged(
            "variety",
            coverage,
            f"{coverage:.0%} of the data have samples near them in features (other real pictures "
            f"{whole:.0%}): ",
            (coverage < UNCOVERED * whole, "bad", thin),
            (coverage < THIN * whole, "watch", thin),
            (True, "good", "all kinds of pictures are drawn."),
        ),
    )
