"""What can be said of a run's batches before its first step, also of stages that are days away."""

from __future__ import annotations

import functools

import jax
import numpy as np

from jaxgan import devices
from jaxgan.core import AXIS, Context, example_keys, init_state, normalize
from jaxgan.data import Dataset, DataSpec, check_batch
from jaxgan.errors import UsageError
from jaxgan.stages import Stages


def check_batches(
    stages: Stages, dataset: Dataset, micro_batches: int = 1, count: int | None = None
) -> None:
    """Checks that the batch of every stage can be divided, before the first one begins.

    `count` is of devices that are not this run's.

    Raises:
      UsageError: if there are more examples in it than pictures, or it cannot be divided among the
        devices, into pieces, or what a device looks at into the groups of a layer.
    """
    count = count or jax.device_count()
    for stage in stages:
        devices.check_divisible(stage.batch_size, micro_batches, count)
        check_batch(dataset, stage.batch_size)
    # The first stage's layers meet a whole batch at once, when its program is made.
    for stage in stages if micro_batches > 1 else stages[1:]:
        size = stage.batch_size // count // micro_batches
        try:
            jax.eval_shape(functools.partial(_scores, stage.gan), examples(dataset.spec, size))
        except UsageError as error:
            pieces = f", {micro_batches} pieces by gradient accumulation" * (micro_batches > 1)
            raise UsageError(
                f"{stage.size} px: of a batch of {stage.batch_size} a device looks at {size} at a "
                f"time (devices: {count}{pieces}): {error}"
            ) from None


def _scores(gan, batch):
    """What a new discriminator says of a batch [1, B, ...]."""
    rng = jax.random.key(0)
    state = init_state(gan, rng)

    def score(batch):
        context = Context(state.step, example_keys(rng, batch["index"]), state.memory, train=True)
        batch = gan.prepare({**batch, "image": normalize(batch["image"])}, context)
        variables = state.variables["discriminator"]
        return gan.score(variables, batch["image"], batch.get("label"), context)[0]

    return jax.vmap(score, axis_name=AXIS)(batch)


def examples(spec: DataSpec, size: int, count: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes [count, size, ...] of a batch on so many devices."""
    shapes = {"image": (spec.size, spec.size, spec.channels), "index": ()}
    kinds = {"image": np.uint8, "index": np.int32, "label": np.float32}
    if spec.label_kind is not None:
        shapes["label"] = (len(spec.label_names),)
    return {
        name: jax.ShapeDtypeStruct((count, size, *shape), kinds[name])
        for name, shape in shapes.items()
    }
