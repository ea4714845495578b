"""Trains a classifier on a labeled data set, whose features evaluate what a GAN generates.

python experiments/train_classifier.py --dataset=mnist --data_dir=DIR
python experiments/train_classifier.py --dataset=iclevr --data_dir=DIR \
    --torch_weights=classifier_weight.pth

The second stores what PyTorch has trained, the evaluator of the i-CLEVR exercise. Either says how
much of the held-out pictures the classifier reads right.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from absl import flags

from jaxgan import data, devices
from jaxgan.cli import data_flags, machine
from jaxgan.errors import UsageError
from jaxgan.evaluation.distances.accuracy import hits
from jaxgan.evaluation.evaluator import in_batches, read_pictures
from jaxgan.evaluation.networks import classifier
from jaxgan.evaluation.networks.fit import fit
from jaxgan.runs.settings import classifier_path

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of a classifier's training."""
    machine.define_flags()
    data_flags.define_flags()
    flags.FLAGS.set_default("dataset", "mnist")
    flags.FLAGS.set_default("holdout", 0.1)
    flags.adopt_module_key_flags(machine)
    flags.adopt_module_key_flags(data_flags)
    flags.DEFINE_string(
        "out", None, "The file to write, a .npz. Default: where jaxgan evaluate looks for it."
    )
    flags.DEFINE_string(
        "architecture",
        None,
        f"One of {', '.join(classifier.ARCHITECTURES)}. Default: by the pictures' size.",
    )
    flags.DEFINE_string(
        "torch_weights", None, "A ResNet18's, saved by PyTorch, to store in place of training."
    )
    flags.DEFINE_float("epochs", 5, "How often each picture is seen.", lower_bound=0)
    flags.DEFINE_integer("batch_size", 100, "Pictures a batch, over all devices.", lower_bound=1)
    flags.DEFINE_float(
        "learning_rate", 2e-3, "Adam's highest; it rises, then falls to nothing.", lower_bound=0
    )
    flags.DEFINE_integer(
        "shift",
        None,
        "Pixels a picture is shifted at most. Default: a 14th of its size.",
        lower_bound=0,
    )
    flags.DEFINE_bool("flip", False, "Mirror pictures at random; not where mirrored means another.")
    flags.DEFINE_integer("seed", 0, "Of weights and order.", lower_bound=0, upper_bound=2**32 - 1)


def main(argv: Sequence[str]) -> None:
    with machine.started(argv):
        machine.start_machine()
        if FLAGS.out is not None and not FLAGS.out.endswith(".npz"):
            raise UsageError(f"--out={FLAGS.out} must be a FILE.npz")
        train = data_flags.load()
        data.require_labels(train.spec)
        held_out = data_flags.load(
            "holdout",
            num_examples=FLAGS.num_examples if train.spec.synthetic else None,
            **data.as_in(train.spec),
        )
        out = pathlib.Path(
            FLAGS.out or classifier_path(train.spec, data_flags.cache_dir())
        ).expanduser()
        try:  # before the work, which would be lost
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{out} cannot be written: {error.strerror}") from None
        about, variables = _stored(train.spec) if FLAGS.torch_weights else _trained(train)
        pictures = in_batches(held_out.images, min(500, len(held_out)))
        network = classifier.network(about, variables)
        logits = read_pictures(network, pictures, len(held_out)).logits
        accuracy = hits(logits, held_out.labels).accuracy()
        if devices.is_main():
            classifier.save(out, dataclasses.replace(about, accuracy=accuracy), variables)
            print(f"{accuracy:.2%} of {len(held_out)} held-out pictures read right: {out}")


def _trained(dataset):
    return fit(
        dataset,
        FLAGS.architecture,
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        learning_rate=FLAGS.learning_rate,
        shift=FLAGS.shift,
        flip=FLAGS.flip,
        seed=FLAGS.seed,
    )


def _stored(spec):
    about, variables = classifier.load_torch_resnet18(
        FLAGS.torch_weights, spec.label_names, size=spec.size, label_kind=spec.label_kind
    )
    return dataclasses.replace(about, data=spec.name), variables
