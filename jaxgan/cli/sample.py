"""Draws pictures from a trained GAN.

python experiments/sample.py --workdir=DIR --num=64 --out=grid.png
python experiments/sample.py --workdir=DIR --num=8 --interpolate=10 --out=strips.png
python experiments/sample.py --workdir=DIR --num=6 --interpolate=20 --out=walk.gif
python experiments/sample.py --workdir=DIR --labels="red cube,blue sphere;gray cylinder"
python experiments/sample.py --workdir=DIR --truncation=0.7 --mix=6 --out=mixed.png
python experiments/sample.py --workdir=DIR --project=face.png --out=found.png
python experiments/sample.py --workdir=DIR --w=found.npz --num=4 --interpolate=20 --out=walk.mp4
python experiments/sample.py --workdir=DIR --input=face.png --labels="blonde;green"

A model that was trained with labels draws --num pictures for each condition, in a row beside its
names. --out=FOLDER/ writes single PNGs, and labels.csv beside them; --out=FILE.npz the array
`images` [num, H, W, C] uint8, and `labels` [num, K]; --out=FILE.gif a walk from each of --num
pictures to the next and back to the first, as FILE.mp4 does. --truncation, --mix, --project and
--w are for models with intermediate latents w, along which these interpolate. A model that
translates draws what each condition makes of --input, a picture or a folder of them, or else of
pictures held out of the training: a row for each, which begins with the picture itself, and a
column for each condition.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from jaxgan import data
from jaxgan.cli import data_flags, features, machine, style_flags
from jaxgan.core import Gan, Variables
from jaxgan.errors import UsageError
from jaxgan.files import whole
from jaxgan.runs.run import Run, open_run
from jaxgan.runs.settings import pictures_of, spec_of
from jaxgan.sampling import given, pictures, style
from jaxgan.sampling.draw import Rows, Translations, draw, draw_latents
from jaxgan.sampling.paths import lerp, slerp, walk

FLAGS = flags.FLAGS

WALKS = (".gif", ".mp4")


def define_flags() -> None:
    """Defines the flags of drawing."""
    machine.define_flags()
    features.define_features_flag()
    style_flags.define_flags()
    flags.declare_key_flag("compilation_cache")
    flags.declare_key_flag("cache_dir")
    flags.adopt_module_key_flags(features)
    flags.adopt_module_key_flags(style_flags)
    flags.DEFINE_string("workdir", None, "The training's folder.", required=True)
    flags.DEFINE_integer(
        "num",
        None,
        "How many pictures, or strips. Default: 64, or 8 for each condition.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "labels",
        None,
        "What to draw: conditions separated by ;, the tags of one by commas. Default: what the "
        "training's sample grids show.",
    )
    flags.DEFINE_string(
        "input",
        None,
        "A picture, or a folder of them, for a model that translates. Default: held-out ones.",
    )
    flags.DEFINE_string("labels_file", None, "What to draw: a table, a line for each condition.")
    flags.DEFINE_string(
        "out", "samples.png", "FILE.png (a grid), FILE.npz, FILE.gif, FILE.mp4 or a folder."
    )
    flags.DEFINE_integer("seed", 0, "Chooses the latents.", lower_bound=0, upper_bound=2**32 - 1)
    flags.DEFINE_integer("interpolate", 0, "Pictures in each strip between two latents.")
    flags.DEFINE_bool("raw", False, "The last weights in place of their moving average.")
    flags.DEFINE_string("checkpoint", "last", "A step, 'last', or 'best' as jaxgan evaluate found.")
    flags.DEFINE_alias("step", "checkpoint")
    flags.DEFINE_integer("batch_size", 64, "Pictures computed at a time.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    with machine.started(argv):
        out = _checked_out()
        machine.start_machine()
        run = open_run(FLAGS.workdir, checkpoint=FLAGS.checkpoint, raw=FLAGS.raw)
        gan, variables, settings = run.gan, run.variables, run.settings
        style_flags.check(gan)
        _check_input(gan)
        conditions = _conditions(settings, gan.conditional)
        rows = label = None
        if conditions is not None and gan.targets is None:
            rows = Rows.of(conditions, run.spec.label_names, FLAGS.num or 8)
            label = rows.label
        # What draws the images, once all that it needs has been found.
        if FLAGS.mix is not None:
            each = None if rows is None else label[:: rows.columns]
            make, write = style_flags.mixing(gan, variables, each), pictures.save_image
        elif FLAGS.project is not None:
            spec = run.spec
            make, write = style_flags.projecting(gan, variables, spec), pictures.save_image
        elif gan.targets is not None:
            make, write = _translating(run, conditions, as_picture=out.suffix == ".png")
        else:
            num = FLAGS.num or len(style_flags.given_w()) or 64
            make = _drawing(gan, variables, num if rows is None else len(label), label)
            write = functools.partial(_write, rows=rows)
        with _naming_out():  # before the work, which would be lost
            (out.parent if out.suffix else out).mkdir(parents=True, exist_ok=True)
        with _naming_out():
            images = make()
            write(out, images)
        print(out)


def _checked_out() -> pathlib.Path:
    """Returns --out; raises UsageError if flags do not go together."""
    if FLAGS.interpolate == 1 or FLAGS.interpolate < 0:
        raise UsageError(f"--interpolate={FLAGS.interpolate} must be at least 2 pictures")
    out = pathlib.Path(FLAGS.out)
    if not FLAGS.out or out.suffix not in ("", ".png", ".npz", *WALKS):
        kinds = "FILE.png, FILE.npz, FILE.gif, FILE.mp4 or a folder"
        raise UsageError(f"--out={FLAGS.out} must be {kinds}")
    if out.suffix == ".mp4":
        pictures.check_video()
    if _is_walk() and not FLAGS.interpolate:
        raise UsageError(f"--out={FLAGS.out} is a walk: say by --interpolate in how many steps")
    given = [name for name in ("mix", "project") if FLAGS[name].value is not None]
    given += ["interpolate"] * bool(FLAGS.interpolate)
    if len(given) > 1:
        raise UsageError(f"--{' and --'.join(given)} ask for different pictures; give one of them")
    if given and given[0] != "interpolate" and out.suffix != ".png":
        raise UsageError(f"--{given[0]} draws one picture: --out={FLAGS.out} must be FILE.png")
    return out


def _check_input(gan: Gan) -> None:
    """Raises UsageError if pictures are given to a model that makes them of noise, or paths between
    latents are asked of one that translates."""
    if gan.targets is None and FLAGS.input is not None:
        raise UsageError(
            f"--input={FLAGS.input} is for a model that translates pictures, and that of "
            f"{FLAGS.workdir} makes them of noise; leave it out"
        )
    if gan.targets is not None and FLAGS.interpolate:
        raise UsageError(
            f"--interpolate={FLAGS.interpolate} walks between latents, and the model of "
            f"{FLAGS.workdir} translates pictures; leave it out"
        )


def _translating(
    run: Run, conditions: np.ndarray, *, as_picture: bool
) -> tuple[Callable[[], np.ndarray], Callable[[pathlib.Path, np.ndarray], None]]:
    """Returns what draws what the conditions make of some pictures, and what writes it."""
    spec, images = run.spec, _inputs(run)
    asked = Translations.of(images, conditions, spec.label_names)
    drawn = functools.partial(draw, run.gan, run.variables, batch_size=FLAGS.batch_size)
    if as_picture:
        return functools.partial(asked.sheet, drawn), pictures.save_image
    rows = Rows.of(np.tile(conditions, (len(images), 1)), spec.label_names, 1)

    def each() -> np.ndarray:
        made = asked.drawn(drawn)[:, 1:]
        return made.reshape(-1, *made.shape[2:])

    return each, functools.partial(_write, rows=rows)


def _inputs(run: Run) -> np.ndarray:
    """Returns the pictures of --input, or held-out ones, [N, H, W, C] uint8."""
    spec = run.spec
    if FLAGS.input is not None:
        images, change = given.read_pictures(FLAGS.input, spec.size, spec.channels)
        if change:
            print(f"note: {change}")
        return images[: FLAGS.num]
    try:
        there = pictures_of(run.settings, split="holdout", cache_dir=data_flags.cache_dir())
    except data.DataError as error:
        raise UsageError(
            f"there are no held-out pictures to translate: {error}; or give pictures by --input"
        ) from None
    return there.images[: FLAGS.num or 8]


def _drawing(
    gan: Gan, variables: Variables, num: int, label: np.ndarray | None
) -> Callable[[], np.ndarray]:
    """Returns what draws `num` images, or the images of as many strips, or of a walk."""
    drawn = functools.partial(draw, seed=FLAGS.seed, batch_size=FLAGS.batch_size)
    cutoff = FLAGS.truncation_cutoff
    if not FLAGS.interpolate and FLAGS.w:
        latent = draw_latents(gan, num, seed=FLAGS.seed)
        w = style.map_latents(gan, variables, latent, label, psi=style_flags.psi(), cutoff=cutoff)
        w = style_flags.with_given(w)
        return functools.partial(drawn, style.from_w(gan), variables, num, w=w)
    if not FLAGS.interpolate:
        gan = gan if FLAGS.truncation is None else style.truncated(gan, FLAGS.truncation, cutoff)
        return functools.partial(drawn, gan, variables, num, label=label)
    if gan.style is None:
        latent, label = _latent_path(gan, num, label)
        return functools.partial(drawn, gan, variables, len(latent), label=label, latent=latent)
    w = _w_path(gan, variables, num, label)
    return functools.partial(drawn, style.from_w(gan), variables, len(w), w=w)


def _ends(gan: Gan, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the latents [num, Z] at which strips, or the parts of a walk, begin and end."""
    if _is_walk():
        starts = draw_latents(gan, num, seed=FLAGS.seed)
        return starts, np.roll(starts, -1, 0)
    starts, ends = np.split(draw_latents(gan, 2 * num, seed=FLAGS.seed), 2)
    return starts, ends


def _latent_path(gan, num, label):
    """Returns the latents, and the labels, of strips or a walk."""
    path = walk(slerp, *_ends(gan, num), FLAGS.interpolate + _is_walk())
    return _joined(path), None if label is None else np.repeat(label, FLAGS.interpolate, 0)


def _w_path(gan, variables, num, label):
    """Returns the w of strips or a walk, which has a label's picture at the label's turn."""
    next_label = np.roll(label, -1, 0) if _is_walk() and label is not None else label
    how = {"psi": style_flags.psi(), "cutoff": FLAGS.truncation_cutoff}
    ends = [
        style.map_latents(gan, variables, z, asked, **how)
        for z, asked in zip(_ends(gan, num), (label, next_label), strict=True)
    ]
    starts, ends = np.split(style_flags.with_given(np.concatenate(ends)), 2)
    if _is_walk():
        ends = np.roll(starts, -1, 0)
    return _joined(walk(lerp, starts, ends, FLAGS.interpolate + _is_walk()))


def _is_walk() -> bool:
    return pathlib.Path(FLAGS.out).suffix in WALKS


def _joined(path):
    """The parts one after the other; the end of a walk's part is the start of the next."""
    path = path[:, : FLAGS.interpolate]
    return path.reshape(-1, *path.shape[2:])


def _conditions(settings: Mapping, conditional: bool) -> np.ndarray | None:
    """Returns what the flags ask to be drawn [M, K], None if the model takes no labels."""
    asked = FLAGS.labels is not None or FLAGS.labels_file is not None
    if not conditional:
        if asked:
            raise UsageError(f"{FLAGS.workdir} was trained without labels; leave --labels out")
        return None
    spec = spec_of(settings)
    if FLAGS.labels is not None and FLAGS.labels_file is not None:
        raise UsageError("--labels and --labels_file both say what to draw; give one of them")
    if FLAGS.labels_file is not None:
        return data.load_conditions(FLAGS.labels_file, spec)
    if FLAGS.labels is not None:
        return data.parse_labels(FLAGS.labels, spec)
    shown = settings["data"].get("conditions", [])
    return np.array([[n in row for n in spec.label_names] for row in shown], np.float32)


@contextlib.contextmanager
def _naming_out() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"--out={FLAGS.out} cannot be written: {error.strerror}") from None


def _write(out: pathlib.Path, images: np.ndarray, rows: Rows | None) -> None:
    per_label = FLAGS.interpolate or 1
    if out.suffix in WALKS:
        pictures.save_animation(out, images)
    elif out.suffix == ".npz":
        arrays: dict[str, Any] = {"images": images}
        if rows is not None:
            arrays["labels"] = np.repeat(rows.label, per_label, 0)
        with whole(out, "wb") as file:
            np.savez_compressed(file, **arrays)
    elif out.suffix:
        columns = FLAGS.interpolate or (None if rows is None else rows.columns)
        grid = pictures.grid(pictures.enlarged(images), columns)
        if rows is not None:
            captions = rows.captions
            if FLAGS.interpolate:
                captions = [text for text in captions for _ in range(rows.columns)]
            grid = pictures.captioned(grid, captions)
        pictures.save_image(out, grid)
    else:
        files = [f"{number:06d}.png" for number in range(len(images))]
        for file, image in zip(tqdm(files, unit="picture", disable=None), images, strict=True):
            pictures.save_image(out / file, image)
        if rows is not None:
            each = len(files) // len(rows.asked)
            with whole(out / "labels.csv") as table:
                lines = csv.writer(table)
                for number, file in enumerate(files):
                    lines.writerow([file, *rows.asked[number // each]])
