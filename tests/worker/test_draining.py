from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from worker.draining import DrainFlag, TermHeld


def test_the_flag_is_seen_after_a_fork() -> None:
    flag = DrainFlag()
    assert not flag.is_set()
    child = os.fork()
    if child == 0:
        flag.set()
        os._exit(0)
    os.waitpid(child, 0)
    assert flag.is_set()


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Signals that reach the process."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_a_signal_to_end_is_held_back_until_the_work_is_over(heard: list[int]) -> None:
    term = TermHeld()
    with term.hold():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (term.told, heard) == (True, [])
    assert (term.told, heard) == (False, [signal.SIGTERM])
    with term.hold():
        assert not term.told
    assert heard == [signal.SIGTERM]


def test_it_is_not_forgotten_when_the_work_breaks_off(heard: list[int]) -> None:
    with pytest.raises(RuntimeError), TermHeld().hold():
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("broken")
    assert heard == [signal.SIGTERM]
