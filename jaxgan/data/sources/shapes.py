"""Synthetic: colored solids on a gray ground, with tags, in the style of CLEVR.

The tags are those of i-CLEVR, in its order: eight colors of cubes, spheres and cylinders. The
colors are CLEVR's (Johnson et al., "CLEVR: A diagnostic dataset for compositional language and
elementary visual reasoning", 2017, arXiv:1612.06890). The library renders the pictures itself.
"""

import numpy as np

from jaxgan.data.sources.render import SCALE, Scene, Solid, render, to_bytes
from jaxgan.data.sources.synthetic import Picture, load_synthetic
from jaxgan.data.spec import Dataset, Request

_COLORS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
_PAIRS = tuple((color, kind) for kind in SCALE for color in _COLORS)
TAGS = tuple(f"{color} {kind}" for color, kind in _PAIRS)

_VERSION = 1  # raise it when the pictures change
_TRIES = 40


def load_shapes(request: Request) -> Dataset:
    """One to three solids, RGB `[N, 64, 64, 3]` unless asked otherwise, with 24 tags. Synthetic.

    Picture i depends on (seed, i) alone.
    """
    picture = Picture(draw, size=64, channels=3, label_kind="tags", label_names=TAGS)
    return load_synthetic(request, picture, version=_VERSION)


def draw(seed: int, i: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture i, `[size, size, 3]` uint8, and its tags, multi-hot `[24]` float32."""
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, i], np.uint64)))
    tags = np.argsort(rng.random(len(TAGS)), kind="stable")[: 1 + int(3 * rng.random())]
    scene = _scene(rng, [_PAIRS[tag] for tag in tags])
    label = np.zeros(len(TAGS), np.float32)
    label[tags] = 1
    return to_bytes(render(scene, size)), label


def _scene(rng: np.random.Generator, pairs: list[tuple[str, str]]) -> Scene:
    elevation = np.radians(_between(rng, 26, 34))
    distance = _between(rng, 9.2, 10.0)
    eye = distance * np.array([0, -np.cos(elevation), np.sin(elevation)])
    target = np.array([_between(rng, -0.15, 0.15), _between(rng, -0.1, 0.1), 0.45])
    light = np.array([_between(rng, -0.9, -0.5), _between(rng, -0.55, -0.2), 1.0])
    return Scene(eye, target, np.radians(31), light / np.linalg.norm(light), _solids(rng, pairs))


def _solids(rng: np.random.Generator, pairs: list[tuple[str, str]]) -> tuple[Solid, ...]:
    placed: list[Solid] = []
    for color, kind in pairs:
        size = _between(rng, 0.62, 0.95)
        x, y, size = _free_place(rng, size, placed)
        linear = (np.array(_COLORS[color]) / 255) ** 2.2
        yaw = _between(rng, 0, np.pi / 2)
        placed.append(Solid(kind, x, y, size, yaw, linear, float(rng.random() < 0.5)))
    return tuple(placed)


def _free_place(rng: np.random.Generator, size: float, placed: list[Solid]):
    while True:
        for _ in range(_TRIES):
            y = _between(rng, -1.7, 1.9)
            edge = 2.5 + 0.24 * y - size  # the picture is wider farther away
            x = _between(rng, -edge, edge)
            if all(_apart(x, y, size, other) for other in placed):
                return x, y, size
        size *= 0.9  # in the end there is room


def _apart(x: float, y: float, size: float, other: Solid) -> bool:
    """Not inside one another, and not hidden behind one another."""
    reach = size + other.size
    beside = abs(x - other.x) > 0.8 * reach or abs(y - other.y) > 1.9 * reach
    return beside and np.hypot(x - other.x, y - other.y) > 1.12 * reach


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()
