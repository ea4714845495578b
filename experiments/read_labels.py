"""Says how many generated pictures a classifier reads as what was asked for.

python experiments/train_classifier.py --dataset=mnist --data_dir=DIR --out=mnist.npz
python experiments/sample.py --workdir=DIR --num=100 --out=samples.npz
python experiments/read_labels.py --classifier=mnist.npz --samples=samples.npz

What the classifier got right of real pictures is said, too. With tags, as many of the largest
answers count as a picture has tags.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shared
from absl import app, flags

from jaxgan.errors import UsageError
from jaxgan.metrics import classifier

FLAGS = flags.FLAGS
flags.declare_key_flag("compilation_cache")

flags.DEFINE_string("classifier", None, "What train_classifier.py wrote.", required=True)
flags.DEFINE_string("samples", None, "What sample.py wrote: images and labels.", required=True)


def main(argv: Sequence[str]) -> None:
    with shared.plain_errors():
        shared.refuse_arguments(argv)
        shared.start()
        images, labels = _samples()
        about, variables = classifier.read_file(FLAGS.classifier)
        if labels.shape[1] != len(about.label_names):
            raise UsageError(
                f"{FLAGS.samples} has {labels.shape[1]} labels and {FLAGS.classifier} reads "
                f"{len(about.label_names)}; use a classifier of the training's data set"
            )
        logits = classifier.read_logits(classifier.network(about, variables), images)
        if about.accuracy is not None:
            print(f"real, held out: {about.accuracy:.2%} read right")
        made = classifier.share_right(logits, labels)
        print(f"generated:      {made:.2%} of {len(images)} read as asked")


def _samples() -> tuple[np.ndarray, np.ndarray]:
    try:
        samples = np.load(FLAGS.samples)
    except OSError as error:
        raise UsageError(f"--samples={FLAGS.samples} cannot be read: {error.strerror}") from None
    if "labels" not in samples:
        raise UsageError(f"{FLAGS.samples} has no labels; draw it from a conditional model")
    return samples["images"], samples["labels"]


if __name__ == "__main__":
    app.run(main)
