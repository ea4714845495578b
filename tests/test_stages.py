"""Growing: which stage is played when, what is carried over, and a resume in any of them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import DISCRIMINATOR, GENERATOR, SEED, TOY, first_state, on_host, toy_dataset

from jaxgan import core, files
from jaxgan.core import Stage
from jaxgan.errors import UsageError
from jaxgan.models.growing import Fade
from jaxgan.sampling.draw import draw, generator_variables
from jaxgan.stages import (
    as_stages,
    carry_over,
    gan_at,
    images_drawn,
    next_stage,
    saved_stage,
    spans,
    steps_drawing,
    template,
)
from jaxgan.training.checkpoint import Checkpointer
from jaxgan.training.dry_run import dry_run
from jaxgan.training.loop import train
from jaxgan.training.record import Schedule

DATA = toy_dataset(10)
SCHEDULE = Schedule(log_every=1, sample_every=2, checkpoint_every=100, keep=9, num_samples=4)


def _remember(view):
    return view.on_real.source.mean(), {"calls": view.memory["calls"] + 1}


SMALL = TOY._replace(
    updates=(
        DISCRIMINATOR._replace(
            repeat=2, objective=DISCRIMINATOR.objective | {"seen": (0.0, _remember)}
        ),
        GENERATOR,
    ),
    optimizers={"generator": optax.adam(0.01, 0.5), "discriminator": optax.adam(0.02, 0.5)},
    memory={"calls": jnp.zeros((), jnp.int32)},
    ema=lambda step: 0.7,
)


def _larger(fade):
    """SMALL with one more parameter that fades in."""

    def init(rng):
        variables = SMALL.init(rng)
        generator = variables["generator"]
        new = {"new": jax.random.normal(jax.random.fold_in(rng, 7), (2, 2, 1))}
        generator = {**generator, "params": generator["params"] | new}
        return {**variables, "generator": generator}

    def generate(variables, batch, context):
        fake, stats = SMALL.generate(variables, batch, context)
        image = fake.image + fade.alpha(context.step) * variables["params"]["new"]
        return fake._replace(image=image), stats

    return SMALL._replace(init=init, generate=generate)


# Stages of 3, 2, 0 and more steps; the second has less pictures a batch.
STAGES = (
    Stage(SMALL, 1, 8, 0),
    Stage(_larger(Fade(3, 4, 8.0)), 2, 4, 3),
    Stage(SMALL, 2, 4, 5),
    Stage(_larger(Fade(5, 8, 16.0)), 2, 8, 5),
)


def test_a_gan_is_one_stage():
    assert as_stages(TOY, 2, 8) == (Stage(TOY, 2, 8, 0),)
    assert as_stages(STAGES, 2, 8) is STAGES
    assert gan_at(as_stages(TOY, 2, 8), 5) is TOY


def test_a_checkpoint_at_the_end_of_a_stage_is_that_stages():
    assert [next_stage(STAGES, step) for step in range(7)] == [0, 0, 0, 1, 1, 3, 3]
    assert [saved_stage(STAGES, step) for step in range(7)] == [0, 0, 0, 0, 1, 1, 3]
    assert gan_at(STAGES, 3) is STAGES[0].gan and gan_at(STAGES, 4) is STAGES[1].gan


def test_spans_leave_out_stages_of_no_length():
    def numbers(first, end):
        return [(number, start, stop) for number, _, start, stop in spans(STAGES, first, end)]

    assert numbers(0, 9) == [(0, 0, 3), (1, 3, 5), (3, 5, 9)]
    assert numbers(4, 5) == [(1, 4, 5)]
    assert numbers(3, 4) == [(1, 3, 4)]
    assert numbers(7, 7) == []


def test_images_are_those_of_each_stages_batches():
    drawn = [images_drawn(STAGES, step) for step in range(8)]
    assert drawn == [0, 16, 32, 48, 56, 64, 80, 96]
    assert [steps_drawing(STAGES, images) for images in drawn] == [*range(8)]
    assert [steps_drawing(STAGES, images - 0.5) for images in drawn[1:]] == [*range(7)]
    assert [steps_drawing(as_stages(SMALL, 2, 8), x) for x in (15, 16, 33)] == [0, 1, 2]


def test_lazy_updates_are_counted_where_they_run():
    lazy = SMALL._replace(updates=(*SMALL.updates, GENERATOR._replace(every=3, fresh=True)))
    stages = (Stage(lazy, 1, 8, 0), Stage(lazy, 1, 4, 4))
    # It runs in steps 0, 3 and 6.
    assert images_drawn(stages, 4) == 4 * 16 + 2 * 8
    assert images_drawn(stages, 7) == images_drawn(stages, 4) + 3 * 8 + 4


def test_what_fits_is_carried_over_and_the_rest_begins_anew():
    gan, rng = STAGES[1].gan, jax.random.key(9)
    old = first_state(SMALL)
    old = jax.tree.map(
        lambda x: x + jnp.arange(1, x.size + 1).reshape(x.shape).astype(x.dtype), old
    )
    new, fresh = carry_over(old, gan, rng), core.init_state(gan, rng)
    params = new.variables["generator"]["params"]
    np.testing.assert_array_equal(params["w"], old.variables["generator"]["params"]["w"])
    np.testing.assert_array_equal(params["new"], fresh.variables["generator"]["params"]["new"])
    np.testing.assert_array_equal(new.ema["params"]["w"], old.ema["params"]["w"])
    np.testing.assert_array_equal(new.ema["params"]["new"], params["new"])
    for field in ("step", "memory", "skipped"):
        chex.assert_trees_all_equal(getattr(new, field), getattr(old, field))
    chex.assert_trees_all_equal(new.variables["discriminator"], old.variables["discriminator"])
    chex.assert_trees_all_equal(new.opt, fresh.opt)


def test_a_leaf_of_another_shape_is_not_carried_over():
    old = first_state(TOY)
    larger = jnp.ones((3, 5))
    generator = {**old.variables["generator"], "params": {"w": larger}}
    old = old.replace(variables={**old.variables, "generator": generator})
    new = carry_over(old, TOY, jax.random.key(0))
    assert new.variables["generator"]["params"]["w"].shape == (3, 4)


# Through the loop


def _train(workdir, steps, stages=STAGES):
    return on_host(
        train(
            stages,
            DATA,
            batch_size=8,
            steps=steps,
            seed=SEED,
            workdir=workdir,
            schedule=SCHEDULE,
            progress=False,
        )
    )


def _metrics(workdir):
    times = ("seconds", "images_per_second")
    lines = files.read_json_lines(workdir / "metrics.jsonl")
    return [{name: x for name, x in line.items() if name not in times} for line in lines]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run of seven steps, and where it is."""
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    return _train(workdir, 7), workdir


@pytest.mark.parametrize("stops", [(3,), (1, 4, 5)], ids=str)
def test_a_run_that_stops_anywhere_ends_with_the_same_bits(tmp_path, unbroken, stops):
    expected, whole = unbroken
    for steps in stops:
        assert _train(tmp_path / "run", steps).step == steps
    chex.assert_trees_all_equal(_train(tmp_path / "run", 7), expected)
    assert _metrics(tmp_path / "run") == _metrics(whole)
    for step in (2, 4, 6, 7):
        name = f"samples/step_{step:08d}.png"
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_the_log_counts_images_through_the_stages(unbroken):
    lines = _metrics(unbroken[1])
    assert [line["images"] for line in lines] == [16, 32, 48, 56, 64, 80, 96]
    assert unbroken[0].memory["calls"] == 14


def test_each_stage_ends_with_a_checkpoint_of_its_own(unbroken):
    with Checkpointer(unbroken[1] / "checkpoints", read_only=True) as checkpointer:
        assert checkpointer.steps() == [3, 5, 7]
        old, new = (checkpointer.restore(template(STAGES), step).state for step in (3, 5))
    assert "new" not in old.variables["generator"]["params"]
    assert "new" in new.variables["generator"]["params"]


def test_a_damaged_checkpoint_is_passed_over_for_one_of_an_older_stage(tmp_path, unbroken):
    _train(tmp_path / "run", 4)
    for path in (tmp_path / "run" / "checkpoints" / "4").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    chex.assert_trees_all_equal(_train(tmp_path / "run", 7), unbroken[0])


def test_optimizers_start_anew_with_each_stage(unbroken):
    counts = [x for x in jax.tree.leaves(unbroken[0].opt) if x.shape == ()]
    assert sorted(map(int, counts)) == [2, 4]  # of the last two steps, the critic's twice


def test_samples_have_the_alpha_of_their_step(unbroken):
    variables = generator_variables(unbroken[0])
    gan = STAGES[3].gan
    none, half, whole = (draw(gan, variables, 4, step=s).astype(int) for s in (5, 6, 7))
    np.testing.assert_array_equal(none, draw(SMALL, variables, 4))
    far, near = np.abs(whole - none).max(), np.abs(half - none).max()
    assert far > near > 0


def test_every_stages_batch_must_be_divisible_among_the_devices():
    if jax.device_count() != 4:
        pytest.skip("written for the four CPU devices of conftest.py")
    with pytest.raises(UsageError, match="a batch of 6 cannot be divided"):
        _train(None, 1, (STAGES[0], STAGES[1]._replace(batch_size=6)))


def test_a_dry_run_shows_the_stages_that_are_reached():
    lines = [*dry_run(STAGES, DATA, 6, SEED)]
    heads = [line for line in lines if line.startswith("stage")]
    assert heads == [
        "stage 1 of 4: 1 px, batch 8, steps 0 to 3",
        "stage 2 of 4: 2 px, batch 4, steps 3 to 5",
        "stage 4 of 4: 2 px, batch 8, steps 5 to 6",
    ]
    assert sum(" s/kimg on " in line for line in lines) == 3
    assert lines[-1].startswith("6 steps take about")
    assert not any(
        line.startswith("stage") for line in dry_run(as_stages(TOY, 2, 8), DATA, 1, SEED)
    )
