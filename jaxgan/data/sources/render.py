"""A small renderer: solids on a gray ground, ray cast and shaded in NumPy.

World frame: x to the right, y away from the camera, z up, the ground is z = 0. A solid is cast in a
frame of its own, where it is the unit sphere, the cube [-1, 1]^3 or the cylinder of radius 1 and
half height 1. Vectors over pixels are `[3, H, W]` float32. Light is linear until `to_bytes`.
"""

from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

# Half the height of a solid of size 1; cubes look larger than spheres, so they are drawn smaller.
SCALE = {"cube": 0.8, "sphere": 1.0, "cylinder": 0.84}

_BEVEL = 0.16  # the width of the rounded edges, of 1
_GROUND = np.array([0.36, 0.355, 0.345], np.float32)[:, None, None]
_SLICES = (0.05, 0.25, 0.5, 0.75, 0.95)  # heights, of the whole one, at which shadows are cut


class Solid(NamedTuple):
    """A solid on the ground."""

    kind: str  # a key of SCALE
    x: float
    y: float
    size: float
    yaw: float  # radians
    color: np.ndarray  # [3] linear, in [0, 1]
    gloss: float  # 0 is rubber, 1 polished


class Scene(NamedTuple):
    """What is rendered, and from where."""

    eye: np.ndarray  # [3] where the camera is
    target: np.ndarray  # [3] what the camera looks at
    field_of_view: float  # radians
    light: np.ndarray  # [3] unit vector towards the light
    solids: tuple[Solid, ...]


class _Camera(NamedTuple):
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    focal: float  # pixels
    center: float  # pixels


def render(scene: Scene, size: int, samples: int = 3) -> np.ndarray:
    """The scene as linear light `[3, size, size]` float32, about in [0, 1].

    Args:
      scene: what is rendered.
      size: pixels on a side.
      samples: the square of it is how many rays go through each pixel of a solid.
    """
    camera = _aim(scene, size)
    canvas = _ground(scene, camera, size)
    for solid in sorted(scene.solids, key=lambda solid: -solid.y):
        left, right, top, bottom = _bounds(solid, scene, camera, size)
        if left < right and top < bottom:
            ray = _rays(camera, left, right, top, bottom, samples)
            light, covered = _cast(solid, scene, ray)
            under = canvas[:, top:bottom, left:right]
            under *= 1 - _shrink(covered.astype(np.float32), samples)
            under += _shrink(light * covered, samples)
    return canvas


def to_bytes(light: np.ndarray) -> np.ndarray:
    """Linear light `[3, H, W]` as sRGB bytes `[H, W, 3]`; highlights bend softly towards 1."""
    knee = np.float32(0.75)
    bent = knee + (1 - knee) * np.tanh((light - knee) / (1 - knee))
    light = np.clip(np.where(light > knee, bent, light), 0, 1)
    return (
        (255 * light ** np.float32(1 / 2.2) + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0)
    )


def _aim(scene: Scene, size: int) -> _Camera:
    forward = scene.target - scene.eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0, 0, 1))
    right = right / np.linalg.norm(right)
    focal = 0.5 * size / np.tan(0.5 * scene.field_of_view)
    return _Camera(right, np.cross(right, forward), forward, focal, size / 2)


def _rays(camera: _Camera, left: int, right: int, top: int, bottom: int, samples: int):
    """Unit vectors from the eye through a rectangle of pixels."""
    u = (np.arange(left * samples, right * samples) + 0.5) / samples - camera.center
    v = (np.arange(top * samples, bottom * samples) + 0.5) / samples - camera.center
    across = (u / camera.focal * camera.right[:, None]).astype(np.float32)
    down = (camera.forward[:, None] - v / camera.focal * camera.up[:, None]).astype(np.float32)
    return _unit(across[:, None, :] + down[:, :, None])


def _ground(scene: Scene, camera: _Camera, size: int) -> np.ndarray:
    ray = _rays(camera, 0, size, 0, size, 1)
    eye = scene.eye.astype(np.float32)
    x, y = eye[:2, None, None] - eye[2] / ray[2] * ray[:2]
    # A pool of light around the scene, and dusk behind it.
    brightness = np.float32(0.72) + np.float32(0.75) * np.exp(-(x**2 + (y + 1) ** 2) / 30)
    for solid in scene.solids:
        brightness *= _unshadowed(solid, scene.light, x, y)
    return brightness * _GROUND


def _unshadowed(solid: Solid, light: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The share of the light at (x, y) that a solid leaves.

    The shadow of a convex solid is the union of the shadows of its slices; the higher a slice, the
    farther its shadow moves and the softer its edge. The sky's light is missing close to it.
    """
    half = SCALE[solid.kind] * solid.size
    dx, dy = x - np.float32(solid.x), y - np.float32(solid.y)
    dark = np.float32(-1)
    for part in _SLICES:
        height = 2 * half * part
        radius = 2 * half * np.sqrt(part * (1 - part)) if solid.kind == "sphere" else half
        along = height / light[2]
        apart = _outline(
            solid, dx + np.float32(along * light[0]), dy + np.float32(along * light[1]), radius
        )
        dark = np.maximum(dark, apart * np.float32(-1 / (0.15 * half + 0.5 * height)))
    dark = np.clip(dark + np.float32(0.5), 0, 1)
    dark *= dark * (3 - 2 * dark)
    close = np.maximum(_outline(solid, dx, dy, half * (0.6 if solid.kind == "sphere" else 1)), 0)
    return (1 - np.float32(0.55) * dark) * (1 - np.float32(0.4) * np.exp(close / (-0.4 * half)))


def _outline(solid: Solid, dx: np.ndarray, dy: np.ndarray, half: float) -> np.ndarray:
    """The signed distance from the outline of a slice that stands at 0."""
    half = np.float32(half)
    if solid.kind != "cube":
        return np.sqrt(dx * dx + dy * dy) - half
    cos, sin = np.float32(np.cos(solid.yaw)), np.float32(np.sin(solid.yaw))
    over_x = np.abs(cos * dx + sin * dy) - half
    over_y = np.abs(cos * dy - sin * dx) - half
    outside = np.sqrt(np.maximum(over_x, 0) ** 2 + np.maximum(over_y, 0) ** 2)
    return outside + np.minimum(np.maximum(over_x, over_y), 0)


def _bounds(solid: Solid, scene: Scene, camera: _Camera, size: int) -> tuple[int, int, int, int]:
    half = SCALE[solid.kind] * solid.size
    reach = half * (np.sqrt(2) if solid.kind == "cube" else 1)
    corners = np.array([(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (0, 2)])
    points = corners * (reach, reach, half) + (solid.x, solid.y, 0) - scene.eye
    depth = points @ camera.forward
    u = camera.center + camera.focal * (points @ camera.right) / depth
    v = camera.center - camera.focal * (points @ camera.up) / depth
    edges = np.floor([u.min(), u.max() + 1, v.min(), v.max() + 1])
    return tuple(np.clip(edges, 0, size).astype(int).tolist())


def _cast(solid: Solid, scene: Scene, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The light `[3, H, W]` that comes back along the rays, and which rays hit, `[H, W]`."""
    half = SCALE[solid.kind] * solid.size
    cos, sin = np.cos(solid.yaw), np.sin(solid.yaw)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    eye = (turn @ (scene.eye - (solid.x, solid.y, half)) / half).astype(np.float32)
    ray = np.tensordot(turn.astype(np.float32), ray, 1)
    hit, distance = _HITS[solid.kind](eye[:, None, None], ray)
    point = eye[:, None, None] + np.where(hit, distance, 0) * ray
    normal = _unit(_NORMALS[solid.kind](point))
    light = (turn @ scene.light).astype(np.float32)[:, None, None]
    return _shade(solid, ray, point, normal, light), hit


def _hit_sphere(eye: np.ndarray, ray: np.ndarray):
    along = _dot(eye, ray)
    inside = along * along - (_dot(eye, eye) - 1)
    return inside > 0, -along - np.sqrt(np.maximum(inside, 0))


def _hit_cube(eye: np.ndarray, ray: np.ndarray):
    slow = np.where(np.abs(ray) < 1e-6, np.float32(1e-6), ray)
    near, far = (-np.sign(slow) - eye) / slow, (np.sign(slow) - eye) / slow
    enter, leave = near.max(0), far.min(0)
    return enter < leave, enter


def _hit_cylinder(eye: np.ndarray, ray: np.ndarray):
    a = np.maximum(ray[0] ** 2 + ray[1] ** 2, np.float32(1e-6))
    b = eye[0] * ray[0] + eye[1] * ray[1]
    inside = b * b - a * (eye[0] ** 2 + eye[1] ** 2 - 1)
    root = np.sqrt(np.maximum(inside, 0))
    # The camera looks down, so no ray comes through the bottom, and ray[2] is negative.
    enter = np.maximum((-b - root) / a, (1 - eye[2]) / ray[2])
    leave = np.minimum((-b + root) / a, (-1 - eye[2]) / ray[2])
    return (inside > 0) & (enter < leave), enter


def _round_edges(distance: np.ndarray) -> np.ndarray:
    return np.maximum(distance - np.float32(1 - _BEVEL), 0)


def _cube_normal(point: np.ndarray) -> np.ndarray:
    return np.sign(point) * _round_edges(np.abs(point))


def _cylinder_normal(point: np.ndarray) -> np.ndarray:
    radius = np.sqrt(point[0] ** 2 + point[1] ** 2) + np.float32(1e-6)
    outward = _round_edges(radius) / radius
    return np.stack(
        [point[0] * outward, point[1] * outward, np.sign(point[2]) * _round_edges(np.abs(point[2]))]
    )


_HITS = {"sphere": _hit_sphere, "cube": _hit_cube, "cylinder": _hit_cylinder}
_NORMALS = {"sphere": lambda point: point, "cube": _cube_normal, "cylinder": _cylinder_normal}


def _shade(solid: Solid, ray, point, normal, light) -> np.ndarray:
    color = solid.color.astype(np.float32)[:, None, None]
    gloss = np.float32(solid.gloss)
    direct = np.maximum(_dot(normal, light), 0)
    sky = np.float32(0.5) + np.float32(0.5) * normal[2]
    contact = np.minimum(1, np.float32(0.55) + np.float32(0.35) * (point[2] + 1))
    diffuse = np.float32(1.05) * direct + (np.float32(0.16) + np.float32(0.3) * sky) * contact

    facing = -_dot(ray, normal)
    mirrored = ray + 2 * facing * normal
    blunt = np.maximum(_dot(mirrored, light), 0)
    blunt = np.square(np.square(np.square(blunt)))  # to the 8th, and then to the 32nd
    sharp = np.square(np.square(blunt))
    shine = (1 - gloss) * np.float32(0.12) * blunt + gloss * np.float32(0.9) * sharp
    # A polished solid mirrors a bright room above and the gray ground below.
    room = np.clip(np.float32(0.35) + np.float32(0.9) * mirrored[2], np.float32(0.2), 1)
    mirror = gloss * (np.float32(0.12) + np.float32(0.45) * (1 - np.maximum(facing, 0)) ** 3) * room
    return (
        color * (diffuse * (1 - np.float32(0.25) * gloss) + mirror)
        + shine
        + np.float32(0.35) * mirror
    )


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt(np.maximum(_dot(vectors, vectors), np.float32(1e-12)))


def _shrink(image: np.ndarray, samples: int) -> np.ndarray:
    """Means over squares of `samples` pixels, over the last two axes."""
    # Sums of strided views: several times faster than one mean over two axes.
    rows = reduce(add, (image[..., k::samples, :] for k in range(samples)))
    return reduce(add, (rows[..., k::samples] for k in range(samples))) / np.float32(samples**2)
