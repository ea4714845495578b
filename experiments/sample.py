"""Draws pictures from a trained GAN.

python experiments/sample.py --workdir=DIR --num=64 --out=grid.png
python experiments/sample.py --workdir=DIR --num=8 --interpolate=10 --out=strips.png
python experiments/sample.py --workdir=DIR --num=6 --interpolate=20 --out=walk.gif
python experiments/sample.py --workdir=DIR --labels="red cube,blue sphere;gray cylinder"
python experiments/sample.py --workdir=DIR --truncation=0.7 --mix=6 --out=mixed.png
python experiments/sample.py --workdir=DIR --project=face.png --out=found.png

A model that was trained with labels draws --num pictures for each condition, in a row beside its
names. --out=FOLDER/ writes single PNGs, and labels.csv beside them; --out=FILE.npz the array
`images` [num, H, W, C] uint8, and `labels` [num, K]; --out=FILE.gif a walk from each of --num
pictures to the next and back to the first. --truncation, --mix and --project are for models with
intermediate latents w, along which these interpolate.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import shared
import style_flags
from absl import app, flags
from tqdm import tqdm

import jaxgan.workdir
from jaxgan import data, plot, sample, style
from jaxgan.checkpoint import Checkpointer
from jaxgan.core import Gan, Variables
from jaxgan.errors import UsageError
from jaxgan.stages import gan_at, pinned, template

FLAGS = flags.FLAGS
flags.declare_key_flag("compilation_cache")
flags.declare_key_flag("features")
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
flags.DEFINE_string("labels_file", None, "What to draw, as a JSON list of lists of names.")
flags.DEFINE_string("out", "samples.png", "FILE.png (a grid), FILE.npz, FILE.gif or a folder.")
flags.DEFINE_integer("seed", 0, "Chooses the latents.", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_integer("interpolate", 0, "Pictures in each strip between two latents.")
flags.DEFINE_bool("raw", False, "The last weights in place of their moving average.")
flags.DEFINE_string("checkpoint", "last", "A step, 'last', or 'best' as evaluate.py found.")
flags.DEFINE_alias("step", "checkpoint")
flags.DEFINE_integer("batch_size", 64, "Pictures computed at a time.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    with shared.plain_errors():
        shared.refuse_arguments(argv)
        out = _checked_out()
        shared.start()
        settings = jaxgan.workdir.read(FLAGS.workdir)
        gan, variables = _generator(settings)
        rows = _rows(settings, gan.conditional)
        label = None if rows is None else rows.label
        # What draws the images, once all that it needs has been found.
        if FLAGS.mix is not None:
            each = None if rows is None else label[:: rows.columns]
            draw, write = style_flags.mixing(gan, variables, each), plot.save_image
        elif FLAGS.project is not None:
            spec = shared.data_spec(settings)
            draw, write = style_flags.projecting(gan, variables, spec), plot.save_image
        else:
            draw = _drawing(gan, variables, FLAGS.num or 64 if rows is None else len(label), label)
            write = functools.partial(_write, rows=rows)
        with _naming_out():  # before the work, lest it be for nothing
            (out.parent if out.suffix else out).mkdir(parents=True, exist_ok=True)
        images = draw()
        with _naming_out():
            write(out, images)
        print(out)


def _checked_out() -> pathlib.Path:
    """Returns --out; raises UsageError if flags do not go together."""
    if FLAGS.interpolate == 1 or FLAGS.interpolate < 0:
        raise UsageError(f"--interpolate={FLAGS.interpolate} must be at least 2 pictures")
    out = pathlib.Path(FLAGS.out)
    if not FLAGS.out or out.suffix not in ("", ".png", ".npz", ".gif"):
        raise UsageError(f"--out={FLAGS.out} must be FILE.png, FILE.npz, FILE.gif or a folder")
    if out.suffix == ".gif" and not FLAGS.interpolate:
        raise UsageError(f"--out={FLAGS.out} is a walk: say by --interpolate in how many steps")
    given = [name for name in ("mix", "project") if FLAGS[name].value is not None]
    given += ["interpolate"] * bool(FLAGS.interpolate)
    if len(given) > 1:
        raise UsageError(f"--{' and --'.join(given)} ask for different pictures; give one of them")
    if given and given[0] != "interpolate" and out.suffix != ".png":
        raise UsageError(f"--{given[0]} draws one picture: --out={FLAGS.out} must be FILE.png")
    return out


def _generator(settings: Mapping) -> tuple[Gan, Variables]:
    """Returns the run's method, and the generator's variables of the chosen checkpoint."""
    made = shared.make_gan(settings)
    style_flags.check(gan_at(made, 0))
    folder = pathlib.Path(FLAGS.workdir) / "checkpoints"
    with Checkpointer(folder, read_only=True) as checkpointer:
        step = shared.chosen_step(FLAGS.workdir, FLAGS.checkpoint, checkpointer.steps())
        restored = checkpointer.restore(template(made), step)
    if restored is None:
        raise UsageError(f"{FLAGS.workdir} has no checkpoint yet; let the training save one")
    gan = pinned(gan_at(made, restored.step), restored.step)
    return gan, sample.generator_variables(restored.state, raw=FLAGS.raw)


def _drawing(
    gan: Gan, variables: Variables, num: int, label: np.ndarray | None
) -> Callable[[], np.ndarray]:
    """Returns what draws `num` images, or the images of as many strips, or of a walk."""
    latent = None
    if FLAGS.interpolate:
        gan, latent, label = _path(gan, variables, num, label)
        num = len(latent)
    elif FLAGS.truncation is not None:
        gan = style.truncated(gan, FLAGS.truncation)
    return functools.partial(
        sample.draw,
        gan,
        variables,
        num,
        seed=FLAGS.seed,
        label=label,
        latent=latent,
        batch_size=FLAGS.batch_size,
    )


def _path(gan, variables, num, label):
    """Returns the Gan, latents and labels that draw strips, or a walk through `num` pictures."""
    walk = pathlib.Path(FLAGS.out).suffix == ".gif"
    starts = sample.draw_latents(gan, num if walk else 2 * num, seed=FLAGS.seed)
    ends = np.roll(starts, -1, 0)
    if not walk:
        starts, ends = starts[:num], starts[num:]
    # The end of a walk's part is the start of the next.
    count = FLAGS.interpolate + walk
    if gan.style is None:
        latent = sample.interpolate(starts, ends, count)
        label = None if label is None else np.repeat(label, FLAGS.interpolate, 0)
    else:
        next_label = np.roll(label, -1, 0) if walk and label is not None else label
        starts, ends = (
            style.intermediate(gan, variables, z, asked, psi=style_flags.psi())
            for z, asked in ((starts, label), (ends, next_label))
        )
        latent, gan, label = style.lerp(starts, ends, count), style.from_w(gan), None
    latent = latent[:, : FLAGS.interpolate]
    return gan, latent.reshape(-1, *latent.shape[2:]), label


def _rows(settings: Mapping, conditional: bool) -> sample.Rows | None:
    """Returns what the flags ask to be drawn, None if the model takes no labels."""
    asked = FLAGS.labels is not None or FLAGS.labels_file is not None
    if not conditional:
        if asked:
            raise UsageError(f"{FLAGS.workdir} was trained without labels; leave --labels out")
        return None
    spec = shared.data_spec(settings)
    if FLAGS.labels is not None and FLAGS.labels_file is not None:
        raise UsageError("--labels and --labels_file both say what to draw; give one of them")
    if FLAGS.labels_file is not None:
        conditions = data.load_conditions(FLAGS.labels_file, spec.label_names)
    elif FLAGS.labels is not None:
        conditions = data.parse_labels(FLAGS.labels, spec)
    else:
        shown = settings["data"]["conditions"]
        conditions = np.array([[n in row for n in spec.label_names] for row in shown], np.float32)
    return sample.Rows.of(conditions, spec.label_names, FLAGS.num or 8)


@contextlib.contextmanager
def _naming_out() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"--out={FLAGS.out} cannot be written: {error.strerror}") from None


def _write(out: pathlib.Path, images: np.ndarray, rows: sample.Rows | None) -> None:
    per_label = FLAGS.interpolate or 1
    if out.suffix == ".gif":
        plot.save_animation(out, images)
    elif out.suffix == ".npz":
        labels = {} if rows is None else {"labels": np.repeat(rows.label, per_label, 0)}
        np.savez_compressed(out, images=images, **labels)
    elif out.suffix:
        columns = FLAGS.interpolate or (None if rows is None else rows.columns)
        grid = plot.grid(images, columns)
        if rows is not None:
            captions = rows.captions
            if FLAGS.interpolate:
                captions = [text for text in captions for _ in range(rows.columns)]
            grid = plot.captioned(grid, captions)
        plot.save_image(out, grid)
    else:
        files = [f"{number:06d}.png" for number in range(len(images))]
        for file, image in zip(tqdm(files, unit="picture"), images, strict=True):
            plot.save_image(out / file, image)
        if rows is not None:
            each = len(files) // len(rows.asked)
            with open(out / "labels.csv", "w", newline="") as table:
                for number, file in enumerate(files):
                    csv.writer(table).writerow([file, *rows.asked[number // each]])


if __name__ == "__main__":
    app.run(main)
