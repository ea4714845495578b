"""A signal to one of several processes ends all of them at one step."""

import signal

import jax
import pytest

from jaxgan.training import signals
from jaxgan.training.signals import Abandoned, GracefulStop


@pytest.fixture
def jax_hears(monkeypatch):
    """Makes this process one of two, in which `jax_hears` lists what JAX's handler was sent."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    yield heard
    signal.signal(signal.SIGTERM, before)


def _agreed_at(turn, monkeypatch):
    def reached(asked):
        turns.append(asked)
        return asked == turn

    turns = []
    monkeypatch.setattr(signals.multihost_utils, "reached_preemption_sync_point", reached)
    return turns


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_handed_on_and_the_end_is_where_all_agree(number, jax_hears, monkeypatch):
    turns = _agreed_at(3, monkeypatch)
    with GracefulStop() as stop:
        stop.hear_interrupts()
        assert not stop.reached()
        signal.raise_signal(number)
        assert jax_hears == [signal.SIGTERM]
        assert not stop.reached()
        assert stop.reached()
        assert stop.requested == number
        with pytest.raises(Abandoned) as end:
            signal.raise_signal(number)
        assert end.value.code == 128 + number
    assert turns == [1, 2, 3]


def test_sigterm_stays_with_jax(jax_hears, monkeypatch):
    _agreed_at(1, monkeypatch)
    with GracefulStop() as stop:
        stop.hear_interrupts()
        signal.raise_signal(signal.SIGTERM)
        assert jax_hears == [signal.SIGTERM]
        assert stop.requested is None
        assert stop.reached()
        assert stop.requested == signal.SIGTERM


def test_nohup_is_left_alone():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with GracefulStop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.reached()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_what_they_were():
    numbers = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    before = [signal.getsignal(number) for number in numbers]
    with GracefulStop() as stop:
        stop.hear_interrupts()
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before
