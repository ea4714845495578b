"""The one pure step that trains a GAN, and what ends an iteration."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxgan.core import AXIS, Context, Gan, View, counts, example_keys, seen


def _play_round(gan, player, variables, state, batch, rng):
    """Returns the view and both players' refreshed statistics."""
    prepare, generate, score, terms = (
        example_keys(key, batch["index"]) for key in jax.random.split(rng, 4)
    )
    # Real and generated examples get keys of their own, so that no dropout mask ties them.
    on_real_keys, on_fake_keys = jax.vmap(jax.random.split, out_axes=1)(score)
    context = Context(state.step, prepare, state.memory, train=True)
    batch = gan.prepare(seen(batch), context)
    judged = context._replace(rng=on_real_keys)
    g, d = variables["generator"], variables["discriminator"]

    asked = batch
    if gan.targets is not None:
        asked = {**batch, "label": gan.targets(batch["label"], generate)}
    fake, g_stats = gan.generate(
        g, asked, context._replace(rng=generate, refresh=player == "generator")
    )
    on_real, d_stats = gan.score(
        d, batch["image"], batch.get("label"), judged._replace(refresh=player == "discriminator")
    )
    # Statistics that will not be kept must not tie the passes together: a generator's update that
    # does not look at real images is then without D's pass on them.
    judge = {**d, **d_stats} if player == "discriminator" else d
    on_fake, d_stats = gan.score(judge, fake.image, fake.label, judged._replace(rng=on_fake_keys))

    view = View(
        batch,
        fake,
        on_real,
        on_fake,
        generate=lambda batch, rng: gan.generate(g, batch, context._replace(rng=rng))[0],
        score=lambda image, label=None: gan.score(d, image, label, judged)[0],
        variables=variables,
        memory=state.memory,
        step=state.step,
        rng=terms,
        style=gan.style,
    )
    return view, {"generator": g_stats, "discriminator": d_stats}


def _evaluate(update, view):
    """Returns the weighted sum of the terms, the new memory and the metrics."""
    total, memory, metrics = jnp.zeros(()), dict(view.memory), {}
    for name, (weight, term) in update.objective.items():
        value = term(view)
        if isinstance(value, tuple):
            value, remembered = value
            memory.update(remembered)
        metrics[f"{update.player}/{name}"] = value
        if counts(weight):
            total += weight * value
    return total, memory, metrics


def _all_finite(tree):
    # A sum is finite only if its terms are, and adding is faster than testing each of them.
    sums = [jnp.sum(x, dtype=jnp.float32) for x in jax.tree.leaves(tree)]
    return jnp.isfinite(jnp.stack(sums)).all()


def _like(new, old):
    # The mean over the devices makes floats of integers: they become what they were.
    return jax.tree.map(lambda n, o: n.astype(o.dtype), new, old)


def _select(condition, new, old):
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), _like(new, old), old)


def _pieces(batch, count):
    """Cuts a batch into contiguous pieces of equal size."""
    size = len(batch["index"])
    if size % count:
        raise ValueError(f"{size} examples cannot be cut into {count} equal pieces")
    return [
        {name: x[start : start + size // count] for name, x in batch.items()}
        for start in range(0, size, size // count)
    ]


def update_step(gan: Gan, number: int, micro_batches: int = 1) -> Callable:
    """Builds the pure step (state, batch, rng) -> (state, metrics) of update `number`.

    It runs per device, with the axis `AXIS` in scope: the batch is the device's part, state, key
    and results are the same everywhere. The key must be the run's, folded with the repeat. The
    update changes its player's variables and optimizer state, the memory, and the skip counter. A
    loss, gradient or new statistic that is not finite on any device undoes all but the counter.

    Metrics are `{player}/{term}`, and from a player's first update `{player}/loss`, the sum that it
    minimizes.

    The part is played in `micro_batches` equal pieces, one after the other, whose gradients are
    averaged: more pieces take less memory. What depends on a whole batch, such as batch
    normalization, then depends on a piece.
    """
    update = gan.updates[number]
    player, tx = update.player, gan.optimizers[update.player]
    first = [each.player for each in gan.updates].index(player)

    def loss(params, state, batch, rng):
        variables = {**state.variables, player: {**state.variables[player], "params": params}}
        view, stats = _play_round(gan, player, variables, state, batch, rng)
        total, memory, metrics = _evaluate(update, view)
        return total, (stats[player], memory, metrics)

    def piece_gradients(state, batch, rng):
        params = state.variables[player]["params"]
        value, grads = jax.value_and_grad(loss, has_aux=True)(params, state, batch, rng)
        (total, (stats, memory, metrics)), grads = jax.lax.pmean((value, grads), AXIS)
        return (total, grads, metrics), (stats, memory)

    def gradients(state, batch, rng):
        pieces = _pieces(batch, micro_batches)
        sums, (stats, memory) = piece_gradients(state, pieces[0], rng)
        for piece in pieces[1:]:
            # No piece before its predecessor is done, or all would need their memory at once.
            piece, sums = jax.lax.optimization_barrier((piece, sums))
            moved = {**stats, "params": state.variables[player]["params"]}
            variables = {**state.variables, player: _like(moved, state.variables[player])}
            state = state.replace(variables=variables, memory=_like(memory, dict(state.memory)))
            more, (stats, memory) = piece_gradients(state, piece, rng)
            sums = jax.tree.map(jnp.add, sums, more)
        return jax.tree.map(lambda x: x / micro_batches, sums), (stats, memory)

    def step(state, batch, rng):
        rng = jax.random.fold_in(jax.random.fold_in(rng, number), state.step)
        old = dict(state.variables[player])
        (total, grads, metrics), (stats, memory) = gradients(state, batch, rng)
        delta, opt = tx.update(grads, state.opt[player], old["params"])
        new = {**stats, "params": optax.apply_updates(old["params"], delta)}
        # Not the new parameters: their sums would take the optimizer through memory twice.
        finite = _all_finite((total, grads, stats))
        go = finite if update.when is None else finite & update.when(state.memory)
        new, opt = _select(go, (new, opt), (old, state.opt[player]))
        row = jnp.where(finite, 0, state.skipped["row"][number] + 1)
        skipped = {
            "row": state.skipped["row"].at[number].set(row),
            "total": state.skipped["total"] + ~finite,
        }
        if number == first:
            metrics[f"{player}/loss"] = total
        metrics |= {"skipped": skipped["total"], "skipped_in_row": skipped["row"].max()}
        return state.replace(
            variables={**state.variables, player: new},
            opt={**state.opt, player: opt},
            memory=_select(finite, memory, dict(state.memory)),
            skipped=skipped,
        ), metrics

    return step


def end_step(gan: Gan) -> Callable:
    """Builds the pure end of an iteration, state -> state: averages the generator, counts it."""
    averaged = ("params", "batch_stats")

    def end(state):
        decay = gan.ema(state.step)
        ema = {
            name: optax.incremental_update(tree, state.ema[name], 1.0 - decay)
            if name in averaged
            else tree
            for name, tree in state.variables["generator"].items()
        }
        return state.replace(ema=ema, step=state.step + 1)

    return end
