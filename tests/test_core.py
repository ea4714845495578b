"""The game itself, played by hand-made Gans: who moves when, what is seen, drawn and kept."""

import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    DISCRIMINATOR,
    GENERATOR,
    SEED,
    TOY,
    first_state,
    float_batch,
    noise_images,
    on_host,
    small_model,
    toy_dataset,
    virtual,
)

from jaxgan import devices, losses
from jaxgan.core import (
    PLAYERS,
    GanState,
    Update,
    draws,
    example_keys,
    images_drawn,
    init_state,
    normalize,
)
from jaxgan.data import batches
from jaxgan.step import end_step
from jaxgan.training.loop import Program, compile_program, init, iterate

KEY = jax.random.key(7)


def _mean_real(view):
    """A number that tells which pictures a term saw."""
    return view.batch["image"].mean()


def _mean_number(view):
    """A number that tells which keys a term was given."""
    return jax.vmap(jax.random.uniform)(view.rng).mean()


def _mean_generated(view):
    """A number that tells which pictures were generated."""
    return view.fake.image.mean()


MEASURES = {
    "real": (0.0, _mean_real),
    "number": (0.0, _mean_number),
    "generated": (0.0, _mean_generated),
}
MEASURED = TOY._replace(
    updates=tuple(
        update._replace(objective={**update.objective, **MEASURES}) for update in TOY.updates
    )
)
play_measured = virtual(MEASURED, 0), virtual(MEASURED, 1)
discriminate, generate = virtual(TOY, 0), virtual(TOY, 1)


class Call(NamedTuple):
    step: int
    update: int
    batch: int
    key: tuple[int, ...]


def _schedule(updates, steps):
    """Lets the loop run these updates, which do nothing but note when they are called, and on what.

    Returns the calls and, for each iteration, the batches taken by then and its metrics.
    """
    calls, taken, after = [], itertools.count(), []

    def note(number):
        def run(state, batch, rng):
            key = tuple(jax.random.key_data(rng).tolist())
            calls.append(Call(state.step, number, int(batch["image"].max()), key))
            return state, {f"update {number}": state.step}

        return run

    gan = TOY._replace(updates=updates)
    program = Program(
        tuple(note(number) for number in range(len(updates))),
        lambda state: state.replace(step=state.step + 1),
    )
    data = ({"image": np.full((8, 2, 2, 1), number)} for number in taken)
    iterations = iterate(gan, program, GanState(0, {}, {}, {}, {}, {}), data, SEED)
    for _, _, metrics in itertools.islice(iterations, steps):
        after.append((1 + max(call.batch for call in calls), metrics))
    return calls, after


# Keys, pictures, the first state


def test_an_examples_key_depends_on_its_index_alone():
    keys = jax.random.key_data(example_keys(KEY, jnp.arange(8)))
    np.testing.assert_array_equal(
        jax.random.key_data(example_keys(KEY, jnp.arange(4, 8))), keys[4:]
    )
    assert len(np.unique(keys, axis=0)) == 8
    other = jax.random.key_data(example_keys(jax.random.key(8), jnp.arange(8)))
    assert not (keys == other).all(1).any()


def test_bytes_become_floats_in_range_and_floats_pass():
    image = jax.jit(normalize)(jnp.arange(256, dtype=jnp.uint8))
    assert image.dtype == jnp.float32
    assert image[0] == -1 and image[255] == 1
    np.testing.assert_array_equal(image, -image[::-1])
    np.testing.assert_allclose(np.diff(image), 2 / 255, rtol=1e-4)
    np.testing.assert_array_equal(normalize(jnp.array([-3.5, 0.25])), [-3.5, 0.25])


def test_the_first_state():
    state = first_state(TOY._replace(memory={"p": 0.5}))
    assert state.step == 0 and state.step.dtype == jnp.int32
    assert state.memory["p"] == 0.5 and not state.memory["p"].weak_type  # or all compiles again
    np.testing.assert_array_equal(state.skipped["row"], [0, 0])
    chex.assert_trees_all_equal(state.ema, state.variables["generator"])
    averaged, trained = jax.tree.leaves(state.ema), jax.tree.leaves(state.variables["generator"])
    for copy, original in zip(averaged, trained, strict=True):
        # An aliased buffer cannot be donated.
        assert copy.unsafe_buffer_pointer() != original.unsafe_buffer_pointer()


def test_the_seed_decides_the_first_state():
    chex.assert_trees_all_equal(first_state(), first_state())
    other = init_state(TOY, jax.random.key(SEED + 1)).variables["generator"]["params"]["w"]
    assert not (other == first_state().variables["generator"]["params"]["w"]).any()


def _squared_scores(batch):
    """The mean squared score of real pictures in the first state, without the core."""
    x, params = batch["image"].reshape(8, 4), first_state().variables["discriminator"]["params"]
    return np.square(np.tanh((x - x.mean(0)) @ params["u"]) + x @ params["v"]).mean()


# Law 1: an update changes one player


@pytest.mark.parametrize(("number", "other"), [(0, "generator"), (1, "discriminator")])
def test_an_update_changes_its_player_and_no_one_else(number, other):
    state = first_state()
    after, _ = (discriminate, generate)[number](state, float_batch(), KEY)
    (player,) = {"generator", "discriminator"} - {other}
    for field in ("variables", "opt"):
        chex.assert_trees_all_equal(getattr(after, field)[other], getattr(state, field)[other])
    chex.assert_trees_all_equal(
        (after.ema, after.step, after.memory, after.skipped),
        (state.ema, state.step, state.memory, state.skipped),
    )
    for new, old in zip(
        jax.tree.leaves(after.variables[player]),
        jax.tree.leaves(state.variables[player]),
        strict=True,
    ):
        assert not np.array_equal(new, old)


def test_real_and_generated_pictures_are_normalized_as_two_batches():
    def mean_score(view):
        return view.on_real.source.mean()

    objective = {
        **DISCRIMINATOR.objective,
        "score": (0.0, mean_score),
        "generated": (0.0, _mean_generated),
    }
    gan = TOY._replace(updates=(DISCRIMINATOR._replace(objective=objective),))
    state, batch = first_state(), float_batch()
    after, metrics = virtual(gan)(state, batch, KEY)
    x = batch["image"].reshape(8, 4)
    params = state.variables["discriminator"]["params"]
    real = np.tanh((x - x.mean(0)) @ params["u"]) + x @ params["v"]
    np.testing.assert_allclose(metrics["discriminator/score"], real.mean(), rtol=1e-5)
    # The running mean takes the real batch in first, and then the generated one.
    mean = np.asarray(after.variables["discriminator"]["batch_stats"]["mean"])
    generated = (mean - 0.9 * (0.1 * x.mean(0))) / 0.1
    np.testing.assert_allclose(generated.mean(), metrics["discriminator/generated"], atol=1e-5)


def test_a_terms_own_passes_do_not_change_the_statistics():
    def scores(view):
        made = view.generate(view.batch, view.rng)
        return view.score(made.image + 5).source.mean() + view.score(view.batch["image"]).source[0]

    def statistics(objective):
        gan = TOY._replace(updates=(DISCRIMINATOR._replace(objective=objective),))
        after, _ = virtual(gan)(first_state(), float_batch(), KEY)
        return after.variables["discriminator"]["batch_stats"]

    chex.assert_trees_all_equal(
        statistics(DISCRIMINATOR.objective),
        statistics({**DISCRIMINATOR.objective, "scores": (0.0, scores)}),
    )


def _counting_refreshes():
    """The toy, whose players count the passes in which they are to refresh."""

    def init(rng):
        return {
            player: {**variables, "spectral": {"count": jnp.zeros(())}}
            for player, variables in TOY.init(rng).items()
        }

    def counting(function):
        def call(variables, *inputs):
            out, stats = function(variables, *inputs)
            count = variables["spectral"]["count"] + inputs[-1].refresh
            return out, {**stats, "spectral": {"count": count}}

        return call

    return TOY._replace(init=init, generate=counting(TOY.generate), score=counting(TOY.score))


@pytest.mark.parametrize(("number", "player"), [(0, "discriminator"), (1, "generator")])
def test_slow_statistics_advance_once_in_an_update_of_their_player(number, player):
    gan = _counting_refreshes()
    after, _ = virtual(gan, number)(first_state(gan), float_batch(), KEY)
    counts = {name: int(after.variables[name]["spectral"]["count"]) for name in after.variables}
    assert counts == {**dict.fromkeys(counts, 0), player: 1}


def test_a_terms_own_passes_do_not_refresh():
    def score_of_generated(view):
        made = view.generate(view.batch, view.rng)
        return view.score(made.image).source.mean()

    refreshes = []
    gan = _counting_refreshes()
    recording = gan._replace(
        generate=lambda v, b, c: refreshes.append(c.refresh) or gan.generate(v, b, c),
        score=lambda v, x, y, c: refreshes.append(c.refresh) or gan.score(v, x, y, c),
        updates=(DISCRIMINATOR._replace(objective={"score": (1.0, score_of_generated)}),),
    )
    virtual(recording)(first_state(recording), float_batch(), KEY)
    # The fake, the real and the fake pass; then the term's two.
    assert refreshes == [False, True, False, False, False]


def test_a_term_of_weight_zero_is_measured_and_moves_nothing():
    for plain, measured, player in zip(
        (discriminate, generate), play_measured, ("discriminator", "generator"), strict=True
    ):
        expected, _ = plain(first_state(), float_batch(), KEY)
        actual, metrics = measured(first_state(), float_batch(), KEY)
        chex.assert_trees_all_equal(actual, expected)
        assert metrics.keys() >= {f"{player}/{name}" for name in ("loss", "adversarial", *MEASURES)}


def test_weights_scale_the_terms():
    def score(view):
        return view.on_real.source.mean()

    def squared(view):
        return jnp.square(view.on_real.source).mean()

    def both(view):
        return 2 * score(view) + 3 * squared(view)

    def after(objective):
        play = virtual(TOY._replace(updates=(Update("discriminator", objective),)))
        state, metrics = play(first_state(), float_batch(), KEY)
        return state.variables["discriminator"]["params"], metrics

    separate, metrics = after({"a": (2.0, score), "b": (3.0, squared)})
    together, _ = after({"both": (1.0, both)})
    chex.assert_trees_all_close(separate, together, rtol=1e-5)
    np.testing.assert_allclose(  # what is logged is the term itself
        metrics["discriminator/b"], _squared_scores(float_batch()), rtol=1e-5
    )
    total = 2 * metrics["discriminator/a"] + 3 * metrics["discriminator/b"]
    np.testing.assert_allclose(metrics["discriminator/loss"], total, rtol=1e-5)


def test_only_a_players_first_update_measures_its_loss():
    lazy = Update("discriminator", {"adversarial": (5.0, losses.real_score)})
    gan = TOY._replace(updates=(*TOY.updates, lazy))
    _, metrics = virtual(gan, 2)(first_state(gan), float_batch(), KEY)
    assert "discriminator/loss" not in metrics and "discriminator/adversarial" in metrics


# Law 2: what is drawn


def test_every_step_update_and_repeat_draws_anew():
    state, drawn = first_state(), set()
    keys = [jax.random.fold_in(KEY, repeat) for repeat in range(2)]
    for play, player in zip(play_measured, ("discriminator", "generator"), strict=True):
        for key, step in itertools.product(keys, (0, 1)):
            _, metrics = play(state.replace(step=jnp.int32(step)), float_batch(), key)
            drawn |= {float(metrics[f"{player}/{name}"]) for name in ("number", "generated")}
            _, again = play(state.replace(step=jnp.int32(step)), float_batch(), key)
            chex.assert_trees_all_equal(metrics, again)
    assert len(drawn) == 2 * 2 * 2 * 2


# Who moves when, and which pictures are seen


def test_repeat_takes_a_batch_each_time_and_later_updates_see_the_last():
    calls, _ = _schedule((DISCRIMINATOR._replace(repeat=3), GENERATOR), 2)
    assert [(c.step, c.update, c.batch) for c in calls] == [
        (0, 0, 0),
        (0, 0, 1),
        (0, 0, 2),
        (0, 1, 2),
        (1, 0, 3),
        (1, 0, 4),
        (1, 0, 5),
        (1, 1, 5),
    ]
    # A key for each repeat; the step and the update are folded in by the update itself.
    assert len({c.key for c in calls}) == 3
    assert [c.key for c in calls[:4]] == [c.key for c in calls[4:]]


def test_an_iteration_in_one_program_is_its_updates_one_after_another():
    program, ends = compile_program(TOY), []
    for variant in (program, program._replace(whole=None)):
        with batches(toy_dataset(), seed=SEED, batch_size=8, place=devices.shard) as data:
            iterations = iterate(TOY, variant, init(TOY, SEED), data, SEED)
            *_, (step, state, metrics) = itertools.islice(iterations, 3)
        ends.append((step, on_host(state), on_host(metrics)))
    chex.assert_trees_all_close(*ends, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [{"repeat": 2}, {"fresh": True}, {"every": 2}])
def test_iterations_that_differ_or_draw_twice_are_no_single_program(change):
    gan = TOY._replace(updates=(DISCRIMINATOR, GENERATOR._replace(**change)))
    assert compile_program(gan).whole is None


def test_fresh_draws_its_own_batch():
    updates = (DISCRIMINATOR, GENERATOR._replace(fresh=True), GENERATOR)
    calls, _ = _schedule(updates, 2)
    assert [(c.update, c.batch) for c in calls] == [(0, 0), (1, 1), (2, 1), (0, 2), (1, 3), (2, 3)]


def test_every_runs_on_the_steps_divisible_by_it():
    calls, after = _schedule((DISCRIMINATOR, DISCRIMINATOR._replace(every=3), GENERATOR), 5)
    assert [c.step for c in calls if c.update == 1] == [0, 3]
    assert [c.step for c in calls if c.update == 2] == [0, 1, 2, 3, 4]
    assert [metrics.get("update 1") for _, metrics in after] == [0, None, None, 3, None]


@pytest.mark.parametrize(
    "updates",
    [
        (DISCRIMINATOR, GENERATOR),
        (DISCRIMINATOR._replace(repeat=2), GENERATOR),
        (DISCRIMINATOR, GENERATOR._replace(fresh=True, repeat=2)),
        (DISCRIMINATOR, DISCRIMINATOR._replace(every=3), GENERATOR._replace(every=2, fresh=True)),
        (GENERATOR, DISCRIMINATOR._replace(every=2, repeat=3, fresh=True)),
    ],
)
def test_images_drawn_is_what_the_loop_draws(updates):
    _, after = _schedule(updates, 7)
    expected = [0, *(8 * batches for batches, _ in after)]
    gan = TOY._replace(updates=updates)
    assert [images_drawn(gan, 8, steps) for steps in range(8)] == expected


def test_only_the_first_update_and_fresh_ones_draw():
    gan = TOY._replace(updates=(DISCRIMINATOR, GENERATOR, GENERATOR._replace(fresh=True)))
    assert [draws(gan, number) for number in range(3)] == [True, False, True]


def test_a_lazy_first_update_is_refused():
    gan = TOY._replace(updates=(DISCRIMINATOR._replace(every=2), GENERATOR))
    with pytest.raises(ValueError, match="the first update .* every=2"):
        first_state(gan)


def test_when_keeps_a_player_still_and_lets_the_memory_go_on():
    def count(view):
        return jnp.zeros(()), {"calls": view.memory["calls"] + 1}

    update = Update(
        "discriminator",
        {**DISCRIMINATOR.objective, "calls": (0.0, count)},
        when=lambda memory: memory["calls"] >= 2,
    )
    gan = TOY._replace(updates=(update,), memory={"calls": 0.0})
    play, state, moved = virtual(gan), first_state(gan), []
    for _ in range(4):
        after, _ = play(state, float_batch(), KEY)
        before = state.variables["discriminator"]
        moved.append(
            not all(
                jax.tree.leaves(
                    jax.tree.map(np.array_equal, after.variables["discriminator"], before)
                )
            )
        )
        state = after
    assert moved == [False, False, True, True]
    assert state.memory["calls"] == 4
    assert state.skipped["total"] == 0  # staying put is no accident


def test_memory_is_what_terms_return_and_keeps_its_type():
    def remember(view):
        mean = view.on_real.source.mean()
        return mean, {"count": view.memory["count"] + 2, "mean": jax.lax.stop_gradient(mean)}

    objective = {"adversarial": (1.0, remember)}
    gan = TOY._replace(
        updates=(Update("discriminator", objective),),
        memory={"count": jnp.zeros((), jnp.int32), "mean": 0.0, "other": 4.0},
    )
    state, play = first_state(gan), virtual(gan, devices=4)
    for _ in range(2):
        state, metrics = play(state, float_batch(), KEY)
    assert state.memory["count"] == 4 and state.memory["count"].dtype == jnp.int32
    assert state.memory["mean"] == metrics["discriminator/loss"]  # the mean over the devices
    assert state.memory["other"] == 4


def test_prepare_changes_what_the_discriminator_sees():
    def prepare(batch, context):
        noise = jax.vmap(jax.random.uniform)(context.rng)[:, None, None, None]
        return {**batch, "image": 0 * batch["image"] + noise}

    play, batch = virtual(MEASURED._replace(prepare=prepare)), float_batch()
    state, metrics = play(first_state(), batch, KEY)
    other, same = play(first_state(), {**batch, "image": batch["image"] + 1}, KEY)
    chex.assert_trees_all_equal((state, metrics), (other, same))
    seen = metrics["discriminator/real"]
    assert 0.1 < seen < 0.9
    assert not np.isclose(seen, metrics["discriminator/number"])  # keys of its own


def test_prepare_is_given_floats_in_range():
    def prepare(batch, context):
        assert batch["image"].dtype == jnp.float32
        return batch

    image = np.full((8, 2, 2, 1), 255, np.uint8)
    play = virtual(MEASURED._replace(prepare=prepare))
    _, metrics = play(first_state(), {**float_batch(), "image": image}, KEY)
    assert metrics["discriminator/real"] == 1


# What is not finite


def _poisoned():
    batch = float_batch()
    batch["image"][5, 0, 0, 0] = np.nan
    return batch


def test_a_batch_with_nan_leaves_nothing_but_a_count():
    gan = TOY._replace(memory={"mean": 0.5})
    state = first_state(gan)
    after, metrics = virtual(gan)(state, _poisoned(), KEY)
    np.testing.assert_array_equal(after.skipped["row"], [1, 0])
    assert after.skipped["total"] == 1 == metrics["skipped"] == metrics["skipped_in_row"]
    assert np.isnan(metrics["discriminator/loss"])
    chex.assert_trees_all_equal(after.replace(skipped=state.skipped), state)


def test_the_player_that_does_not_look_at_the_batch_moves_on():
    state = first_state()
    after, metrics = generate(state, _poisoned(), KEY)
    clean, _ = generate(state, float_batch(), KEY)
    chex.assert_trees_all_equal(after, clean)
    assert metrics["skipped"] == 0


def test_skips_are_counted_in_a_row_and_in_all():
    state, rows = first_state(), []
    for batch in (_poisoned(), _poisoned(), float_batch(), _poisoned()):
        state, metrics = discriminate(state, batch, KEY)
        rows.append(int(metrics["skipped_in_row"]))
        # A generator that moves does not hide that the discriminator is stuck.
        state, metrics = generate(state, batch, KEY)
        assert metrics["skipped_in_row"] == rows[-1]
    assert rows == [1, 2, 0, 1]
    assert state.skipped["total"] == 3


def test_memory_of_an_undone_update_is_forgotten():
    def remember(view):
        return view.on_real.source.mean(), {"p": view.memory["p"] + 1}

    gan = TOY._replace(
        updates=(Update("discriminator", {"adversarial": (1.0, remember)}),), memory={"p": 0.0}
    )
    state, _ = virtual(gan)(first_state(gan), _poisoned(), KEY)
    assert state.memory["p"] == 0


def test_a_gradient_that_is_not_finite_is_enough():
    def root(view):
        score = view.on_real.source - view.on_real.source
        return jnp.sqrt(jnp.square(score)).mean()  # 0, with a gradient that is NaN

    gan = TOY._replace(updates=(Update("discriminator", {"adversarial": (1.0, root)}),))
    state, metrics = virtual(gan)(first_state(gan), float_batch(), KEY)
    assert metrics["discriminator/loss"] == 0
    assert metrics["skipped"] == 1
    chex.assert_trees_all_equal(state.variables, first_state(gan).variables)


def test_statistics_that_are_not_finite_are_not_kept():
    def score(variables, image, label, context):
        scores, stats = TOY.score(variables, image, label, context)
        return scores, jax.tree.map(lambda x: x / 0, stats)

    gan = TOY._replace(score=score)
    state, metrics = virtual(gan)(first_state(), float_batch(), KEY)
    assert np.isfinite(metrics["discriminator/loss"])
    assert metrics["skipped"] == 1
    chex.assert_trees_all_equal(state.variables, first_state().variables)


# The end of an iteration


def test_the_end_of_an_iteration_averages_the_generator_and_counts():
    gan = TOY._replace(ema=lambda step: jnp.where(step < 1, 0.0, 0.75))
    state = first_state()
    state = state.replace(ema=jax.tree.map(lambda x: x + 4, state.ema))
    end = jax.jit(end_step(gan))
    first = end(state)
    chex.assert_trees_all_close(first.ema, state.variables["generator"])  # decay 0: the last
    state = state.replace(step=jnp.int32(1))
    second = end(state)
    expected = jax.tree.map(lambda x: x + 3, state.variables["generator"])
    chex.assert_trees_all_close(second.ema, expected, rtol=1e-6)
    assert second.step == 2
    chex.assert_trees_all_equal(
        second.replace(ema=state.ema, step=state.step), state
    )  # and nothing else


def test_collections_other_than_parameters_and_batch_statistics_are_copied():
    state = first_state()
    generator = {**state.variables["generator"], "spectral": {"u": jnp.arange(3.0)}}
    ema = {**generator, "spectral": {"u": jnp.zeros(3)}}
    state = state.replace(variables={**state.variables, "generator": generator}, ema=ema)
    after = on_host(end_step(TOY._replace(ema=lambda step: 0.9))(state))
    np.testing.assert_array_equal(after.ema["spectral"]["u"], [0, 1, 2])


@pytest.mark.parametrize(("number", "devices"), [(0, 1), (1, 2)])
def test_gradients_of_pieces_average_to_that_of_the_batch(number, devices):
    dataset = noise_images(8, 8)
    gan = small_model("gan", dataset)  # nothing in it looks at the whole batch
    gan = gan._replace(optimizers={player: optax.sgd(0.1) for player in PLAYERS})
    batch = {"image": dataset.images, "index": np.arange(8, dtype=np.int32)}
    state = first_state(gan)
    whole, metrics = virtual(gan, number, devices)(state, batch, KEY)
    for micro_batches in (2, 4):
        pieces, measured = virtual(gan, number, devices, micro_batches)(state, batch, KEY)
        chex.assert_trees_all_close(pieces, whole, rtol=1e-5, atol=1e-6)
        chex.assert_trees_all_close(measured, metrics, rtol=1e-5)


def test_statistics_go_from_piece_to_piece():
    batch = float_batch(8)
    pieces = [{name: x[i : i + 4] for name, x in batch.items()} for i in (0, 4)]
    state = first_state()
    # The toy's generator looks at its latents' mean; without a rate only the statistics move.
    gan = TOY._replace(optimizers={player: optax.sgd(0.0) for player in PLAYERS})
    expected = state
    for piece in pieces:
        expected, _ = virtual(gan, 1)(expected, piece, KEY)
    found, _ = virtual(gan, 1, micro_batches=2)(state, batch, KEY)
    mean = found.variables["generator"]["batch_stats"]["mean"]
    np.testing.assert_allclose(
        mean, expected.variables["generator"]["batch_stats"]["mean"], rtol=1e-6
    )
    assert (mean != state.variables["generator"]["batch_stats"]["mean"]).any()


def test_a_batch_of_unequal_pieces_is_refused():
    with pytest.raises(ValueError, match="8 examples cannot be cut into 3 equal pieces"):
        virtual(TOY, 0, micro_batches=3)(first_state(), float_batch(8), KEY)


def test_a_piece_with_nan_undoes_the_whole_update():
    batch = float_batch(8)
    batch["image"][6, 0, 0, 0] = np.nan
    state = first_state()
    after, _ = virtual(TOY, 0, micro_batches=2)(state, batch, KEY)
    chex.assert_trees_all_equal(after.variables, state.variables)
    assert after.skipped["total"] == 1
