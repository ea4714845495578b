"""Trains a classifier on a labelled data set, whose features evaluate what a GAN generates.

python experiments/train_classifier.py --dataset=mnist --data_dir=DIR
python experiments/train_classifier.py --dataset=iclevr --data_dir=DIR \
    --torch_weights=classifier_weight.pth

The second stores what PyTorch has trained, the evaluator of the i-CLEVR exercise. Either says how
much of the held-out pictures the classifier reads right.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import shared
from absl import app, flags
from tqdm import tqdm

from jaxgan import data, parallel
from jaxgan.core import AXIS, example_keys, normalise
from jaxgan.errors import UsageError
from jaxgan.evaluate import in_batches, read_pictures
from jaxgan.losses import label_loss
from jaxgan.metrics import classifier
from jaxgan.metrics.accuracy import hits

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(shared)

flags.DEFINE_string("dataset", "mnist", f"One of {', '.join(data.DATASETS)}.")
flags.DEFINE_string(
    "data_dir",
    None,
    "Where the pictures are. Default: $JAXGAN_DATA, else a folder in your cache.",
)
flags.DEFINE_integer("image_size", None, "Side in pixels. Default: the data set's own.")
flags.DEFINE_integer(
    "num_examples",
    None,
    "Pictures that a synthetic set draws, or the first of another.",
    lower_bound=1,
)
flags.DEFINE_string(
    "tags",
    None,
    "Labels of --dataset=folder: 'folders' for a class per folder, or a .csv or .json of tags.",
)
flags.DEFINE_float(
    "holdout", 0.1, "The part that is kept apart, of sets without a held-out part of their own."
)
flags.DEFINE_string(
    "out", None, "The file to write, a .npz. Default: where evaluate.py looks for it."
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
    with shared.plain_errors():
        shared.refuse_arguments(argv)
        shared.start()
        if FLAGS.out is not None and not FLAGS.out.endswith(".npz"):
            raise UsageError(f"--out={FLAGS.out} must be a FILE.npz")
        train = _load("train", FLAGS.num_examples)
        held_out = _load("holdout", FLAGS.num_examples if train.spec.synthetic else None)
        data.require_labels(train.spec)
        out = pathlib.Path(FLAGS.out or shared.classifier_path(train.spec)).expanduser()
        try:  # before the work, lest it be for nothing
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{out} cannot be written: {error.strerror}") from None
        about, variables = _stored(train.spec) if FLAGS.torch_weights else fit(train)
        pictures = in_batches(held_out.images, min(500, len(held_out)))
        network = classifier.network(about, variables)
        logits = read_pictures(network, pictures, len(held_out)).logits
        accuracy = hits(logits, held_out.labels).accuracy()
        if parallel.is_main():
            classifier.save(out, dataclasses.replace(about, accuracy=accuracy), variables)
            print(f"{accuracy:.2%} of {len(held_out)} held-out pictures read right: {out}")


def fit(dataset: data.Dataset) -> tuple[classifier.About, classifier.Variables]:
    """Trains on a labelled data set as the flags say."""
    spec = dataset.spec
    about = classifier.About(
        FLAGS.architecture or classifier.default_architecture(spec.size),
        spec.size,
        spec.channels,
        spec.label_names,
        spec.label_kind,
        spec.name,
        dataset.fingerprint,
    )
    network, rng = classifier.module(about), jax.random.key(FLAGS.seed)
    steps = _steps(len(dataset))
    adam = optax.adam(
        optax.warmup_cosine_decay_schedule(0.0, FLAGS.learning_rate, steps // 5, steps)
    )
    pictures = jnp.zeros((1, spec.size, spec.size, spec.channels))
    # Compiled, so that the pictures' way through the network is left out.
    variables = jax.jit(functools.partial(network.init, train=False))(rng, pictures)
    state = parallel.replicate(State(variables, adam.init(variables["params"]), jnp.zeros((), int)))
    step = parallel.pmap(_step(network, adam, spec.label_kind))
    batches = data.batches(
        dataset,
        seed=FLAGS.seed,
        batch_size=FLAGS.batch_size,
        flip=FLAGS.flip,
        part=parallel.process_part(FLAGS.batch_size),
    )
    with contextlib.closing(batches), _bar(steps) as bar:
        for number in bar:
            state, loss = step(state, parallel.shard(next(batches)), rng)
            if number % 20 == 0:
                bar.set_postfix(loss=f"{float(loss):.4f}", refresh=False)
    return about, jax.device_get(state.variables)


class State(NamedTuple):
    """What a step changes."""

    variables: classifier.Variables
    moments: optax.OptState
    step: jax.Array


def _step(network, optimizer, kind):
    """Returns (state, batch, rng) -> (state, loss), for `parallel.pmap`."""

    def step(state, batch, rng):
        keys = example_keys(jax.random.fold_in(rng, state.step), batch["index"])
        images = normalise(_shifted(batch["image"], keys))

        def loss(params):
            (_, logits), rest = network.apply(
                {**state.variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return label_loss(logits, batch["label"], kind=kind), rest

        params = state.variables["params"]
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        value, gradients = jax.lax.pmean((value, gradients), AXIS)
        updates, moments = optimizer.update(gradients, state.moments)
        variables = {**rest, "params": optax.apply_updates(params, updates)}
        return State(variables, moments, state.step + 1), value

    return step


def _shifted(images, keys):
    """Moves each picture by some pixels; what comes in repeats its edge."""
    _, height, width, channels = images.shape
    most = height // 14 if FLAGS.shift is None else FLAGS.shift
    wide = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")

    def cut(image, key):
        down, across = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return jax.lax.dynamic_slice(image, (down, across, 0), (height, width, channels))

    return jax.vmap(cut)(wide, keys)


def _steps(num_examples):
    parallel.check_divisible(FLAGS.batch_size)
    steps = FLAGS.epochs * num_examples / FLAGS.batch_size
    if not 1 <= steps < math.inf:
        raise UsageError(
            f"--epochs={FLAGS.epochs} of {num_examples} pictures must be at least one batch of "
            f"{FLAGS.batch_size}; raise --epochs or lower --batch_size"
        )
    return int(steps)


def _bar(steps):
    return tqdm(range(steps), unit="step", disable=None if parallel.is_main() else True)


def _stored(spec):
    about, variables = classifier.load_torch_resnet18(
        FLAGS.torch_weights, spec.label_names, size=spec.size, label_kind=spec.label_kind
    )
    return dataclasses.replace(about, data=spec.name), variables


def _load(split, num_examples):
    return data.load(
        FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        image_size=FLAGS.image_size,
        split=split,
        holdout=FLAGS.holdout,
        num_examples=num_examples,
        labels=FLAGS.tags,
    )


if __name__ == "__main__":
    app.run(main)
