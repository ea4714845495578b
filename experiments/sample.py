"""Draws pictures from a trained GAN.

python experiments/sample.py --workdir=DIR --num=64 --out=grid.png
python experiments/sample.py --workdir=DIR --num=8 --interpolate=10 --out=strips.png

--out=FOLDER/ writes single PNGs, --out=FILE.npz the array `images` [num, H, W, C] uint8.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import shared
from absl import app, flags
from tqdm import tqdm

import jaxgan.workdir
from jaxgan import plot, sample
from jaxgan.checkpoint import Checkpointer
from jaxgan.core import Plan
from jaxgan.errors import UsageError
from jaxgan.train import init

FLAGS = flags.FLAGS

flags.DEFINE_string("workdir", None, "The training's folder.", required=True)
flags.DEFINE_integer("num", 64, "How many pictures, or strips.", lower_bound=1)
flags.DEFINE_string("out", "samples.png", "FILE.png (a grid), FILE.npz, or a folder.")
flags.DEFINE_integer("seed", 0, "Chooses the latents.")
flags.DEFINE_integer("interpolate", 0, "Pictures in each strip between two latents.")
flags.DEFINE_bool("raw", False, "The last weights in place of their moving average.")
flags.DEFINE_integer("step", None, "Which checkpoint. Default: the last good one.")
flags.DEFINE_integer("batch_size", 64, "Pictures computed at a time.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    with shared.plain_errors():
        if FLAGS.interpolate == 1 or FLAGS.interpolate < 0:
            raise UsageError(f"--interpolate={FLAGS.interpolate} must be at least 2 pictures")
        shared.start()
        images = _draw()
        _write(pathlib.Path(FLAGS.out), images)
        print(FLAGS.out)


def _draw() -> np.ndarray:
    settings = jaxgan.workdir.read(FLAGS.workdir)
    gan = shared.make_gan(settings, Plan(settings["batch_size"], settings["steps"]))
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
    return sample.draw(
        gan, variables, num, seed=FLAGS.seed, latent=latent, batch_size=FLAGS.batch_size
    )


def _write(out: pathlib.Path, images: np.ndarray) -> None:
    if out.suffix == ".npz":
        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(out, images=images)
    elif out.suffix:
        plot.save_image(out, plot.grid(images, FLAGS.interpolate or None))
    else:
        for number, image in enumerate(tqdm(images, unit="picture")):
            plot.save_image(out / f"{number:06d}.png", image)


if __name__ == "__main__":
    app.run(main)
