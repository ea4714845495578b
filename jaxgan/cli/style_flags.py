"""The flags for what lies between latents and images, and what they ask for."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
from absl import flags

from jaxgan import files
from jaxgan.cli import data_flags
from jaxgan.core import Gan, Variables
from jaxgan.data import DataSpec
from jaxgan.errors import UsageError
from jaxgan.evaluation.networks.network import features_of
from jaxgan.runs import readers
from jaxgan.runs.settings import classifier_path
from jaxgan.sampling import given, pictures, project, style
from jaxgan.sampling.draw import draw_latents

FLAGS = flags.FLAGS

_COARSE = 4  # layers up to 8 px


def define_flags() -> None:
    """Defines the flags of truncation, mixing and projection."""
    flags.DEFINE_float(
        "truncation",
        None,
        "Draws w towards its average: 1 leaves it, 0 gives the average picture, .7 is usual.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "truncation_cutoff",
        None,
        "How many layers, the coarse ones first, --truncation changes. Default: all.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "w",
        None,
        "Files of w, such as --project leaves: these are drawn, mixed or walked through first.",
    )
    flags.DEFINE_integer(
        "mix",
        None,
        "A grid of so many coarse styles in rows and fine ones in columns.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "mix_layers", None, "How many layers are coarse. Default: those up to 8 px.", lower_bound=1
    )
    flags.DEFINE_string(
        "project",
        None,
        "A picture to be found among those that the model can draw; see --features.",
    )
    flags.DEFINE_integer("project_steps", 500, "How long it is looked for.", lower_bound=1)


def check(gan: Gan) -> None:
    """Raises UsageError if the flags need intermediate latents and there are none."""
    for flag in ("truncation", "mix", "project", "w"):
        if FLAGS[flag].value is not None:
            style.style_of(gan, f"--{flag}")
    if FLAGS.truncation_cutoff is not None and FLAGS.truncation is None:
        raise UsageError("--truncation_cutoff says what --truncation changes; give that, too")
    if FLAGS.mix_layers is not None and FLAGS.mix is None:
        raise UsageError(f"--mix_layers={FLAGS.mix_layers} says how --mix mixes; give that, too")


def psi() -> float:
    """Returns the truncation, 1 if there is none."""
    return 1.0 if FLAGS.truncation is None else FLAGS.truncation


def given_w() -> list[np.ndarray]:
    """Returns the w [layers, F] in the files of --w. Raises UsageError if one holds none."""
    found: list[np.ndarray] = []
    for name in FLAGS.w or ():
        try:
            w = files.read_npz(pathlib.Path(name).expanduser())["w"].astype(np.float32)
            found.extend(w.reshape(-1, *w.shape[-2:]))
        except OSError as error:
            raise UsageError(f"--w={name} cannot be read: {error.strerror or error}") from None
        except (files.DamagedFile, KeyError, ValueError) as error:
            raise UsageError(
                f"--w={name} holds no w ({error}); --project makes such files"
            ) from None
    return found


def with_given(w: np.ndarray) -> np.ndarray:
    """Returns w [N, layers, F] with those of --w in the first places."""
    given = given_w()[: len(w)]
    for found in given:
        if found.shape != w.shape[1:]:
            raise UsageError(
                f"--w={','.join(FLAGS.w)} holds w {found.shape} and this model's are "
                f"{w.shape[1:]}; name a file of this model"
            )
    return np.concatenate([given, w[len(given) :]]) if given else w


def mixing(gan: Gan, variables: Variables, label: np.ndarray | None) -> Callable[[], np.ndarray]:
    """Returns what draws the grid; labels [N, K] are those of the sources, again and again."""
    count = 2 * FLAGS.mix
    latent = draw_latents(gan, count, seed=FLAGS.seed)
    label = None if label is None else np.resize(label, (count, label.shape[-1]))
    cutoff = FLAGS.truncation_cutoff
    w = with_given(style.map_latents(gan, variables, latent, label, psi=psi(), cutoff=cutoff))
    rows, columns = np.split(w, 2)
    crossover = FLAGS.mix_layers or min(_COARSE, w.shape[1] // 2)
    style.check_crossover(crossover, w.shape[1])
    return lambda: style.mixing_grid(gan, variables, rows, columns, crossover)


def projecting(gan: Gan, variables: Variables, spec: DataSpec) -> Callable[[], np.ndarray]:
    """Returns what draws the picture that is looked for, the way to it, and says how near it is."""
    target, change = given.read_picture(FLAGS.project, spec.size, spec.channels)
    if change:
        print(f"note: {change}")
    classifier = classifier_path(spec, data_flags.cache_dir())
    network = None
    if FLAGS.features or classifier.exists():
        network = readers.network(spec, FLAGS.features, cache_dir=data_flags.cache_dir())
    read = None if network is None else features_of(network)
    label = np.zeros((1, len(spec.label_names)), np.float32) if gan.conditional else None
    latent = draw_latents(gan, 1)
    (start,) = style.map_latents(gan, variables, latent, label, psi=0.0)

    def draw() -> np.ndarray:
        found = project.project(
            gan, variables, target, start, features=read, steps=FLAGS.project_steps
        )
        kept = pathlib.Path(FLAGS.out).with_suffix(".npz")
        with files.whole(kept, "wb") as file:
            np.savez(file, w=found.w)
        print(f"w: {kept}")
        by = "pixels" if network is None else f"pixels and features ({network.name})"
        print(f"distance by {by}: {found.distance:.4f}")
        strip = np.concatenate([target[None], found.pictures])
        return pictures.grid(pictures.enlarged(strip), len(strip))

    return draw
