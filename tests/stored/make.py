"""Writes numbers of PyTorch to this folder, one file for each function; made with PyTorch 2.13.

`python -m stored.make [NAME ...]` in `tests/` writes them anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from stored import evaluation, layers, models, networks, stargan

MAKERS = {
    **layers.MAKERS,
    **evaluation.MAKERS,
    **models.MAKERS,
    **networks.MAKERS,
    **stargan.MAKERS,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or MAKERS:
        np.savez_compressed(Path(__file__).with_name(f"{name}.npz"), **MAKERS[name]())
