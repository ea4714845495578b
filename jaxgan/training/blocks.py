"""The device's own loop: whole iterations, many a call, inside one program.

An accelerator is done with an update of a small network sooner than the host is with calling the
next. Here one call plays a block of iterations with all their updates, repeats and lazy terms, and
the pictures lie on the device: what the host sends is where each draw's examples lie, and which of
them are mirrored. Pictures that do not fit there are sent a block ahead instead.

How long a block is is an argument of the program: one compilation serves all, and where a run is
cut into blocks does not change a bit of it. On a CPU the host's loop is faster, since XLA runs
convolutions inside of loops on one thread.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgan import devices, processes
from jaxgan.core import Array, Batch, Gan, GanState, draws
from jaxgan.data import Dataset, coin_flips, indices, shown
from jaxgan.step import end_step, update_step

RESIDENT_SHARE = 0.25
"""Of a device's memory; a data set that takes more is sent in blocks."""
STREAMED_BYTES = 64 << 20
"""Of pictures in one block, for each device; two blocks are there at a time."""
MOST = 1024
"""Iterations in a block."""
BLOCK_SECONDS = 0.5
"""About what a block lasts, and so how late a signal is heard."""


class Feed(NamedTuple):
    """What the draws of an iteration hold."""

    examples: tuple[Array, ...]  # [draws, b] int32, places among each of the data on the device
    mirrored: Array | None  # [draws, b] bool; None mirrors none


def _take(data: tuple[Mapping[str, Array], ...], feed: Feed, index: Array) -> Batch:
    batch = {"index": index}
    for arrays, example in zip(data, feed.examples, strict=True):
        batch |= {name: x[example] for name, x in arrays.items()}
    return batch if feed.mirrored is None else batch | {"mirrored": feed.mirrored}


def whole_iteration(gan: Gan, micro_batches: int = 1) -> Callable:
    """Builds the pure (state, latest, batch_of, rng) -> (state, metrics) of one iteration.

    `batch_of` gives the batch of a draw's number. `latest` are the metrics so far; those of an
    update that is not due stay what they were.
    """
    steps = [update_step(gan, number, micro_batches) for number in range(len(gan.updates))]
    end = end_step(gan)

    def play(state, latest, batch_of, rng):
        drawn = 0
        for number, (update, step) in enumerate(zip(gan.updates, steps, strict=True)):
            fresh = draws(gan, number)
            first, drawn = drawn, drawn + update.repeat * fresh

            def once(repeat, carry, step=step, fresh=fresh, first=first):
                state, latest = carry
                batch = batch_of(first + repeat if fresh else first - 1)
                state, found = step(state, batch, jax.random.fold_in(rng, repeat))
                return state, latest | {n: x.astype(latest[n].dtype) for n, x in found.items()}

            def turns(carry, update=update, once=once):
                return lax.fori_loop(0, update.repeat, once, carry)

            carry, due = (state, latest), state.step % update.every == 0
            state, latest = (
                turns(carry) if update.every == 1 else lax.cond(due, turns, tuple, carry)
            )
        return end(state), latest

    return play


def iterations(gan: Gan, micro_batches: int = 1) -> Callable:
    """Builds the pure (state, feed, index, data, count, rng) -> (state, metrics) of a block.

    It runs per device, as an update does, and plays the first `count` of the feed's iterations.
    The feed has an axis of iterations in front, `index` [b] is the batch's, `data` are the arrays
    that `shown` gives, on the device. The metrics are the last ones of each update.
    """
    play = whole_iteration(gan, micro_batches)

    def run(state, feed, index, data, count, rng):
        def at(number):
            return jax.tree.map(lambda x: x[number], feed)

        def one(number, carry):
            now = at(number)
            return play(
                *carry, lambda d: _take(data, jax.tree.map(lambda x: x[d], now), index), rng
            )

        batch, none = _take(data, jax.tree.map(lambda x: x[0], at(0)), index), {}
        for number in range(len(gan.updates)):
            found = jax.eval_shape(update_step(gan, number, micro_batches), state, batch, rng)[1]
            none |= {name: jnp.zeros(x.shape, x.dtype) for name, x in found.items()}
        return lax.fori_loop(0, count, one, (state, none))

    return run


class _Layout(NamedTuple):
    """What says how a block's draws lie in memory."""

    gan: Gan
    rows: tuple[Mapping[str, np.ndarray], ...]  # as `shown` gives them, without empty ones
    batch_size: int
    seed: int
    flip: bool
    resident: bool  # the whole data set lies on every device
    most: int  # iterations that a feed has room for

    def block(self, step: int, count: int, start: int) -> tuple[Feed, tuple | None, int]:
        """Returns the feed of `count` iterations from `step` on, pictures and labels unless they
        are resident, all as [local devices, ...], and where the next block's draws begin.

        A draw that is not due repeats the one before, at which later updates then look.
        """
        part = devices.process_part(self.batch_size)
        starts, rows = [], []
        for now in range(step, step + count):
            for update in self._drawing():
                for _ in range(update.repeat):
                    if now % update.every == 0:
                        starts.append(start)
                        start += self.batch_size
                    rows.append(len(starts) - 1)
        rows = np.reshape(rows, (count, -1))

        def drawn(numbers):
            """What the draws hold, [draws, local devices, b]."""
            each = [numbers(begin, self.batch_size)[part] for begin in starts]
            return np.stack(each).reshape(len(starts), jax.local_device_count(), -1)

        examples, data = [], []
        for arrays in self.rows:
            total = len(next(iter(arrays.values())))
            chosen = drawn(functools.partial(indices, self.seed, total))
            size = chosen.shape[-1]
            if self.resident:
                example = chosen[rows]
            else:
                example = rows[..., None, None] * size + np.arange(size)
                example = np.broadcast_to(example, (*rows.shape, *chosen.shape[1:]))
                room = self.most * rows.shape[1] * size
                data.append({name: self._sent(x, chosen, room) for name, x in arrays.items()})
            examples.append(self._split(example.astype(np.int32)))
        mirrored = None
        if self.flip:
            mirrored = self._split(drawn(functools.partial(coin_flips, self.seed))[rows])
        return Feed(tuple(examples), mirrored), None if self.resident else tuple(data), start

    def room(self, count: int) -> int:
        """Returns how many iterations of pictures may be sent to `count` devices at once."""
        drawn = self.draws() * self.batch_size
        return max(1, STREAMED_BYTES * count // (drawn * self.rows[0]["image"][0].nbytes))

    def draws(self) -> int:
        """Returns how many draws an iteration has room for."""
        return sum(update.repeat for update in self._drawing())

    def _drawing(self):
        return [u for number, u in enumerate(self.gan.updates) if draws(self.gan, number)]

    def _split(self, x):
        """[count, draws, local devices, b] -> [local devices, most, draws, b]."""
        x = np.moveaxis(x, 2, 0)
        return np.pad(x, [(0, 0), (0, self.most - x.shape[1]), (0, 0), (0, 0)])

    @staticmethod
    def _sent(x, chosen, room):
        """Rows of x by `chosen` [draws, local devices, b], as [local devices, room, ...]."""
        chosen = np.moveaxis(chosen, 1, 0).reshape(chosen.shape[1], -1)
        sent = np.zeros((len(chosen), room, *x.shape[1:]), x.dtype)
        sent[:, : chosen.shape[1]] = x[chosen]
        return sent


def blocks(
    gan: Gan,
    state: GanState,
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    flip: bool,
    start: int,
    pause: Callable[[int], int],
    micro_batches: int = 1,
    length: int | None = None,
    resident: bool | None = None,
) -> Iterator[tuple[int, GanState, Mapping[str, Array]]]:
    """Yields (finished steps, state, metrics) after each block.

    The buffers of a state are given away when the next one is asked for. The metrics are those of
    the updates that ran in the block, each the last one's.

    Args:
      gan: the method.
      state: where to go on, replicated.
      dataset: the pictures.
      batch_size: over all devices.
      seed: the run's.
      flip: whether to mirror pictures at random.
      start: how many examples were drawn before.
      pause: step -> the next one at which the caller looks; a block ends there at the latest. The
        step itself ends the run.
      micro_batches: in how many pieces a device looks at its part of a batch.
      length: iterations a block; None finds what lasts about `BLOCK_SECONDS`.
      resident: whether the data lie on the devices; None asks how much memory they have.
    """
    rows = _rows(dataset, seed)
    if resident is None:
        resident = _bytes(rows) <= RESIDENT_SHARE * devices.memory()
    layout = _Layout(gan, rows, batch_size, seed, flip, resident, length or MOST)
    if not resident:
        layout = layout._replace(most=min(layout.most, layout.room(jax.device_count())))
    run = devices.pmap_block(iterations(gan, micro_batches), resident)
    data = devices.replicate(rows) if resident else None
    index = np.arange(batch_size, dtype=np.int32)[devices.process_part(batch_size)]
    index = devices.shard({"index": index})["index"]
    _, key = jax.random.split(jax.random.key(seed))
    step, pace = int(state.step), _Pace(length, layout.most)

    def prepared(step, start):
        if (count := min(pace.length, pause(step) - step)) == 0:
            return 0, None, None, start
        feed, sent, start = layout.block(step, count, start)
        return count, devices.place(feed), data if resident else devices.place(sent), start

    count, feed, pictures, start = prepared(step, start)
    while count:
        pace.begins()
        state, metrics = run(state, feed, index, pictures, np.int32(count), key)
        now = range(step, step := step + count)
        pace.ends(count, metrics)
        # The devices are at work meanwhile.
        count, feed, pictures, start = prepared(step, start)
        yield step, state, _of_due(gan, metrics, now)


def lower(
    gan: Gan,
    state: GanState,
    dataset: Dataset,
    *,
    batch_size: int,
    memory: int,
    micro_batches: int = 1,
    on: Sequence[jax.Device] | None = None,
) -> jax.stages.Lowered:
    """Lowers the program of a block, as `blocks` runs it; allocates nothing.

    Args:
      gan: the method.
      state: its shapes.
      dataset: the pictures.
      batch_size: over all devices.
      memory: bytes a device, which say where the pictures lie.
      micro_batches: in how many pieces a device looks at its part of a batch.
      on: devices that are not this run's.
    """
    count, local = (len(on),) * 2 if on else (jax.device_count(), jax.local_device_count())
    rows = _rows(dataset, 0)
    resident = _bytes(rows) <= RESIDENT_SHARE * memory
    layout = _Layout(gan, rows, batch_size, 0, False, resident, MOST)
    if not resident:
        layout = layout._replace(most=min(MOST, layout.room(count)))
    shape = (local, layout.most, layout.draws(), batch_size // count)
    feed, index, key = jax.eval_shape(
        lambda: (
            Feed((jnp.zeros(shape, jnp.int32),) * len(rows), None),
            jnp.zeros((shape[0], shape[-1]), jnp.int32),
            jax.random.key(0),
        )
    )
    sent = (local, math.prod(shape[1:]))
    data = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape if resident else (*sent, *x.shape[1:]), x.dtype),
        rows,
    )
    run: Any = devices.pmap_block(iterations(gan, micro_batches), resident, on)
    return run.lower(state, feed, index, data, np.int32(1), key)


def _of_due(gan, metrics, steps):
    """The metrics without those of lazy updates none of which ran in these steps."""
    idle, ran, players = set(), set(), set()
    for player, objective, every, *_ in gan.updates:
        names = {*objective} if player in players else {*objective, "loss"}
        players.add(player)
        due = any(step % every == 0 for step in steps)
        (ran if due else idle).update(f"{player}/{name}" for name in names)
    return {name: value for name, value in metrics.items() if name not in idle - ran}


def _rows(dataset, seed):
    return tuple(filter(None, shown(dataset, seed)))


def _bytes(rows):
    return sum(x.nbytes for arrays in rows for x in arrays.values())


class _Pace:
    """Finds how many iterations last about `BLOCK_SECONDS`: twice as many until they do.

    Process 0 measures, for all.
    """

    def __init__(self, length: int | None, most: int) -> None:
        self.length = min(length or 1, most)
        self._most, self._found = most, length is not None
        self._compiled, self._began = False, 0.0

    def begins(self) -> None:
        self._began = time.monotonic()

    def ends(self, count: int, metrics: Mapping[str, Array]) -> None:
        if self._found:
            return
        jax.block_until_ready(metrics)
        seconds = time.monotonic() - self._began
        if self._compiled and count == self.length:
            longer = processes.from_process_0(lambda: seconds < BLOCK_SECONDS / 2)
            self.length = min(2 * count, self._most) if longer else count
            self._found = not longer or self.length == self._most
        self._compiled = True
