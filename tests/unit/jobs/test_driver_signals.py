"""What a process makes of SIGTERM and Ctrl-C, and of several of them."""

import signal
from collections.abc import Iterator
from threading import Event

import pytest

from workers.jobs.driver import set_on_signals

BOTH = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def stop() -> Iterator[Event]:
    """Set once this process is asked to leave."""
    before = {number: signal.getsignal(number) for number in BOTH}
    stop = Event()
    set_on_signals(stop)
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_is_a_wish_to_leave(stop: Event, number: signal.Signals) -> None:
    signal.raise_signal(number)

    assert stop.is_set()


@pytest.mark.parametrize("first", BOTH)
def test_a_sigterm_after_the_first_signal_ends_nothing(stop: Event, first: signal.Signals) -> None:
    """Slurm and torchrun between them send each worker two."""
    signal.raise_signal(first)
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    signal.raise_signal(signal.SIGTERM)

    assert stop.is_set()


@pytest.mark.usefixtures("stop")
def test_after_ctrl_c_another_ends_the_process_at_once() -> None:
    signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL
    signal.raise_signal(signal.SIGINT)

    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
