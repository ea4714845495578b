"""Draws `gallery.png` and prints the table of `seen.md`; run it from the repository's root."""

from __future__ import annotations

import pathlib
import sys

import numpy as np

sys.path.insert(0, "tests/evaluation")

import gallery

from jaxgan.data import default_cache_dir
from jaxgan.sampling import pictures

COUNT, SHOWN = 1000, 6


def main() -> None:
    rows, said = [], {case: [] for case in gallery.CASES}
    for name in ("glyphs", "shapes"):
        shown = []
        for case, samples, findings in gallery.judged(name, COUNT, default_cache_dir()):
            said[case].append(_told(findings))
            shown.append(samples[:SHOWN])
        rows.append(np.stack(shown))
    glyphs, shapes = rows
    both = np.concatenate([glyphs.repeat(3, -1), shapes], 1)
    grid = pictures.grid(both.reshape(-1, *both.shape[2:]), 2 * SHOWN)
    path = pathlib.Path(__file__).with_name("gallery.png")
    pictures.save_image(path, pictures.captioned(grid, list(gallery.CASES)))
    print("| samples | of `glyphs` | of `shapes` |\n|---|---|---|")
    for case, (first, second) in said.items():
        kind = " (whole)" * gallery.CASES[case].is_whole
        print(f"| {case}{kind} | {first} | {second} |")


def _told(findings) -> str:
    """What is bad, and in brackets what is to be watched."""
    parts = []
    for verdict, form in (("bad", "{}"), ("watch", "({})")):
        names = [f.name for f in findings if f.verdict == verdict]
        short = [n if n.startswith("pixels") else n.partition("/")[0] for n in names]
        parts += [form.format(name) for name in dict.fromkeys(short) if name not in parts]
    return ", ".join(parts) or "-"


if __name__ == "__main__":
    main()
