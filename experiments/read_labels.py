"""Says how many generated pictures a classifier trained on real ones reads as what was asked for.

python experiments/sample.py --workdir=DIR --num=100 --out=samples.npz
python experiments/read_labels.py --dataset=mnist --data_dir=DIR --samples=samples.npz

The classifier is a small convolutional one; what it gets right of the real held-out pictures is
said, too. With tags, as many of the largest answers count as a picture has tags.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import shared
from absl import app, flags
from flax import linen as nn
from tqdm import trange

from jaxgan import data
from jaxgan.core import normalise
from jaxgan.errors import UsageError
from jaxgan.layers.conv import Conv
from jaxgan.losses import label_loss

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(shared)

flags.DEFINE_string("dataset", "mnist", f"One of {', '.join(data.DATASETS)}.")
flags.DEFINE_string("data_dir", None, "Where the pictures are.")
flags.DEFINE_string("samples", None, "What sample.py wrote: images and labels.", required=True)
flags.DEFINE_float("holdout", 0.1, "Of sets without a held-out part, the part kept apart.")
flags.DEFINE_float("epochs", 5, "How often each picture is seen.")
flags.DEFINE_integer("batch_size", 100, "Pictures a batch.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of weights and order.", lower_bound=0)


class Classifier(nn.Module):
    """Images [B, H, W, C] in [-1, 1] to logits [B, labels]."""

    labels: int

    @nn.compact
    def __call__(self, x):
        for width in (32, 64, 128):
            x = nn.relu(Conv(width, 3, stride=2, padding=1)(x))
        return nn.Dense(self.labels)(nn.relu(nn.Dense(256)(x.reshape(len(x), -1))))


def fit(dataset):
    """Trains on a labelled Dataset; returns images uint8 [B, H, W, C] -> logits [B, K]."""
    classifier = Classifier(len(dataset.spec.label_names))
    shape = (1, dataset.spec.size, dataset.spec.size, dataset.spec.channels)
    params = classifier.init(jax.random.key(FLAGS.seed), jnp.zeros(shape))
    steps = max(1, int(FLAGS.epochs * len(dataset) / FLAGS.batch_size))
    adam = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
    state = (params, adam.init(params))

    @jax.jit
    def step(state, batch):
        def loss(params):
            logits = classifier.apply(params, normalise(batch["image"]))
            return label_loss(logits, batch["label"], kind=dataset.spec.label_kind)

        params, moments = state
        updates, moments = adam.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, updates), moments

    batches = data.batches(dataset, seed=FLAGS.seed, batch_size=FLAGS.batch_size)
    with contextlib.closing(batches):
        for _ in trange(steps, unit="step", disable=None):
            state = step(state, next(batches))
    return jax.jit(lambda image: classifier.apply(state[0], normalise(image)))


def share_read(read, images, labels) -> float:
    """The share of the labels [N, K] that are among the largest answers, as many as there are."""
    hits = 0.0
    for start in range(0, len(images), 500):
        part = slice(start, start + 500)
        order = np.argsort(-np.asarray(read(images[part])), -1)
        found = np.take_along_axis(labels[part], order, -1)
        asked = labels[part].sum(-1, keepdims=True)
        hits += (found * (np.arange(labels.shape[-1]) < asked)).sum()
    return hits / labels.sum()


def _load(split, size):
    return data.load(
        FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        image_size=size,
        split=split,
        holdout=FLAGS.holdout,
    )


def main(argv: Sequence[str]) -> None:
    with shared.plain_errors():
        shared.refuse_arguments(argv)
        shared.start()
        samples = np.load(FLAGS.samples)
        if "labels" not in samples:
            raise UsageError(f"{FLAGS.samples} has no labels; draw it from a conditional model")
        images, labels = samples["images"], samples["labels"]
        train, held_out = (_load(split, images.shape[1]) for split in ("train", "holdout"))
        data.require_labels(train.spec)
        if images.shape[1:] != train.images.shape[1:] or labels.shape[1:] != train.labels.shape[1:]:
            raise UsageError(
                f"{FLAGS.samples} holds pictures {images.shape[1:]} with {labels.shape[1]} labels, "
                f"and {FLAGS.dataset} {train.images.shape[1:]} with {train.labels.shape[1]}; name "
                "the data set of the training"
            )
        read = fit(train)
        real = share_read(read, held_out.images, held_out.labels)
        made = share_read(read, images, labels)
        print(f"real, held out: {real:.2%} of {len(held_out)} read right")
        print(f"generated:      {made:.2%} of {len(images)} read as asked")


if __name__ == "__main__":
    app.run(main)
