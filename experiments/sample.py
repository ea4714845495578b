"""Draws pictures from a trained GAN.

python experiments/sample.py --workdir=DIR --num=64 --out=grid.png
python experiments/sample.py --workdir=DIR --num=8 --interpolate=10 --out=strips.png

--out=FOLDER/ writes single PNGs, --out=FILE.npz the array `images` [num, H, W, C] uint8.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import shared
from absl import app, flags
from tqdm import tqdm

import jaxgan.workdir
from jaxgan import plot, sample
from jaxgan.checkpoint import Checkpointer
from jaxgan.errors import UsageError
from jaxgan.train import init

FLAGS = flags.FLAGS
flags.declare_key_flag("compilation_cache")

flags.DEFINE_string("workdir", None, "The training's folder.", required=True)
flags.DEFINE_integer("num", 64, "How many pictures, or strips.", lower_bound=1)
flags.DEFINE_string("out", "samples.png", "FILE.png (a grid), FILE.npz, or a folder.")
flags.DEFINE_integer("seed", 0, "Chooses the latents.", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_integer("interpolate", 0, "Pictures in each strip between two latents.")
flags.DEFINE_bool("raw", False, "The last weights in place of their moving average.")
flags.DEFINE_integer("step", None, "Which checkpoint. Default: the last good one.")
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
        draw = _drawing()
        with _naming_out():  # before the work, lest it be for nothing
            (out.parent if out.suffix else out).mkdir(parents=True, exist_ok=True)
        images = draw()
        with _naming_out():
            _write(out, images)
        print(out)


def _drawing() -> Callable[[], np.ndarray]:
    """Returns what draws the images, once all that it needs has been found."""
    settings = jaxgan.workdir.read(FLAGS.workdir)
    gan = shared.make_gan(settings)
    folder = pathlib.Path(FLAGS.workdir) / "checkpoints"
    with Checkpointer(folder, read_only=True) as checkpointer:
        restored = checkpointer.restore(init(gan, settings["seed"]), FLAGS.step)
    if restored is None:
        raise UsageError(f"{FLAGS.workdir} has no checkpoint yet; let the training save one")
    variables = sample.generator_variables(restored.state, raw=FLAGS.raw)

    num, latent = FLAGS.num, None
    if FLAGS.interpolate:
        ends = sample.draw_latents(gan, 2 * num, seed=FLAGS.seed)
        latent = sample.interpolate(ends[:num], ends[num:], FLAGS.interpolate)
        latent = latent.reshape(-1, latent.shape[-1])
        num = len(latent)
    return functools.partial(
        sample.draw,
        gan,
        variables,
        num,
        seed=FLAGS.seed,
        latent=latent,
        batch_size=FLAGS.batch_size,
    )


@contextlib.contextmanager
def _naming_out() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"--out={FLAGS.out} cannot be written: {error.strerror}") from None


def _write(out: pathlib.Path, images: np.ndarray) -> None:
    if out.suffix == ".npz":
        np.savez_compressed(out, images=images)
    elif out.suffix:
        plot.save_image(out, plot.grid(images, FLAGS.interpolate or None))
    else:
        for number, image in enumerate(tqdm(images, unit="picture")):
            plot.save_image(out / f"{number:06d}.png", image)


if __name__ == "__main__":
    app.run(main)
