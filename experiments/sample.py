"""Draws pictures from a trained GAN.

python experiments/sample.py --workdir=DIR --num=64 --out=grid.png
python experiments/sample.py --workdir=DIR --num=8 --interpolate=10 --out=strips.png
python experiments/sample.py --workdir=DIR --labels="red cube,blue sphere;gray cylinder"

A model that was trained with labels draws --num pictures for each condition, in a row beside its
names. --out=FOLDER/ writes single PNGs, and labels.csv beside them; --out=FILE.npz the array
`images` [num, H, W, C] uint8, and `labels` [num, K].
"""

from __future__ import annotations

import contextlib
import csv
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import shared
from absl import app, flags
from tqdm import tqdm

import jaxgan.workdir
from jaxgan import data, plot, sample
from jaxgan.checkpoint import Checkpointer
from jaxgan.errors import UsageError
from jaxgan.stages import gan_at, template

FLAGS = flags.FLAGS
flags.declare_key_flag("compilation_cache")

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
flags.DEFINE_string("out", "samples.png", "FILE.png (a grid), FILE.npz, or a folder.")
flags.DEFINE_integer("seed", 0, "Chooses the latents.", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_integer("interpolate", 0, "Pictures in each strip between two latents.")
flags.DEFINE_bool("raw", False, "The last weights in place of their moving average.")
flags.DEFINE_string("checkpoint", "last", "A step, 'last', or 'best' as evaluate.py found.")
flags.DEFINE_alias("step", "checkpoint")
flags.DEFINE_integer("batch_size", 64, "Pictures computed at a time.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    with shared.plain_errors():
        shared.refuse_arguments(argv)
        if FLAGS.interpolate == 1 or FLAGS.interpolate < 0:
            raise UsageError(f"--interpolate={FLAGS.interpolate} must be at least 2 pictures")
        out = pathlib.Path(FLAGS.out)
        if not FLAGS.out or out.suffix not in ("", ".png", ".npz"):
            raise UsageError(f"--out={FLAGS.out} must be FILE.png, FILE.npz or a folder")
        shared.start()
        draw, rows = _drawing()
        with _naming_out():  # before the work, lest it be for nothing
            (out.parent if out.suffix else out).mkdir(parents=True, exist_ok=True)
        images = draw()
        with _naming_out():
            _write(out, images, rows)
        print(out)


def _drawing() -> tuple[Callable[[], np.ndarray], sample.Rows | None]:
    """Returns what draws the images, once all that it needs has been found, and their labels."""
    settings = jaxgan.workdir.read(FLAGS.workdir)
    made = shared.make_gan(settings)
    folder = pathlib.Path(FLAGS.workdir) / "checkpoints"
    with Checkpointer(folder, read_only=True) as checkpointer:
        step = shared.chosen_step(FLAGS.workdir, FLAGS.checkpoint, checkpointer.steps())
        restored = checkpointer.restore(template(made), step)
    if restored is None:
        raise UsageError(f"{FLAGS.workdir} has no checkpoint yet; let the training save one")
    gan = gan_at(made, restored.step)
    variables = sample.generator_variables(restored.state, raw=FLAGS.raw)

    rows = _rows(settings, gan.conditional)
    num = FLAGS.num or 64 if rows is None else len(rows.label)
    label, latent = None if rows is None else rows.label, None
    if FLAGS.interpolate:
        ends = sample.draw_latents(gan, 2 * num, seed=FLAGS.seed)
        latent = sample.interpolate(ends[:num], ends[num:], FLAGS.interpolate)
        latent = latent.reshape(-1, latent.shape[-1])
        label = None if label is None else np.repeat(label, FLAGS.interpolate, 0)
        num = len(latent)
    draw = functools.partial(
        sample.draw,
        gan,
        variables,
        num,
        seed=FLAGS.seed,
        label=label,
        latent=latent,
        batch_size=FLAGS.batch_size,
        step=restored.step,
    )
    return draw, rows


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
    if out.suffix == ".npz":
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
