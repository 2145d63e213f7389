from __future__ import annotations

import signal
from pathlib import Path

import pytest

from trsp_jobs.leases import AttemptEnd, JobError
from worker.ending import Ending, Outcome, Scene, Stop, judge, out_of_memory_kills

SAID = JobError("model_refused", "no")


def ending(
    code: int | None, stop: Stop | None = None, said: JobError | None = None, out_of_memory: bool = False
) -> Ending:
    return judge(AttemptEnd(code), stop, said, Scene(killed=out_of_memory))


@pytest.mark.parametrize(
    ("code", "stop", "said", "expected"),
    [
        (0, None, None, Outcome.DONE),
        (0, Stop.DEADLINE, None, Outcome.DONE),
        (0, Stop.SHUTDOWN, None, Outcome.DONE),
        (0, Stop.CANCEL, None, Outcome.CANCELED),
        (0, Stop.LEASE_LOST, None, Outcome.ABANDONED),
        (130, Stop.CANCEL, None, Outcome.CANCELED),
        (130, Stop.DEADLINE, None, Outcome.TIMED_OUT),
        (130, Stop.SHUTDOWN, None, Outcome.HANDED_OVER),
        (-9, Stop.CANCEL, None, Outcome.CANCELED),
        (-9, Stop.DEADLINE, None, Outcome.TIMED_OUT),
        (-9, Stop.SHUTDOWN, None, Outcome.HANDED_OVER),
        (-15, Stop.SHUTDOWN, None, Outcome.HANDED_OVER),
        (2, None, SAID, Outcome.FAILED),
        (2, Stop.SHUTDOWN, SAID, Outcome.FAILED),
        (2, Stop.CANCEL, SAID, Outcome.CANCELED),
        (2, None, None, Outcome.CRASHED),
        (1, None, JobError("numerical_failure", "NaN"), Outcome.FAILED),
        (1, None, JobError("round_trip_failed", "differs"), Outcome.FAILED),
        (1, None, JobError("out_of_memory", "CUDA"), Outcome.CRASHED),
        (1, None, JobError("storage_full", "disk"), Outcome.CRASHED),
        (70, None, JobError("internal_error", "KeyError"), Outcome.CRASHED),
        (130, None, None, Outcome.CRASHED),
        (-9, None, None, Outcome.CRASHED),
        (-11, None, None, Outcome.CRASHED),
        (3, None, None, Outcome.CRASHED),
    ],
)
def test_each_ending_is_told_apart(
    code: int, stop: Stop | None, said: JobError | None, expected: Outcome
) -> None:
    found = ending(code, stop, said)
    assert found.outcome is expected
    assert (found.error is not None) == (expected in (Outcome.FAILED, Outcome.CRASHED))


def test_a_kill_that_nobody_asked_for_is_named_as_want_of_memory() -> None:
    guess = ending(-signal.SIGKILL).error
    sure = ending(-signal.SIGKILL, out_of_memory=True).error
    assert guess is not None
    assert sure is not None
    assert guess.code == sure.code == "out_of_memory"
    assert "most likely" in guess.message
    assert "most likely" not in sure.message
    assert "sequence_length" in str(guess.suggestion)


def test_other_signals_are_named() -> None:
    error = ending(-signal.SIGSEGV).error
    assert error is not None
    assert "SIGSEGV" in error.message


@pytest.mark.parametrize(
    "words",
    ["memory allocation of 12 bytes failed", "MemoryError", "PanicException: ThreadPoolBuildError { … }"],
)
def test_last_words_tell_want_of_memory_and_the_limit_is_said(words: str) -> None:
    scene = Scene(last_words=f"step 3\n{words}\n", memory_limit=1000)
    error = judge(AttemptEnd(-signal.SIGABRT), None, None, scene).error
    assert error is not None
    assert error.code == "out_of_memory"
    assert error.message.endswith(f"it got no memory: {words}")
    assert str(error.suggestion).endswith("TRSP_CHILD_MEMORY_BYTES=1000")


def test_advice_is_added_where_the_child_gave_none() -> None:
    given = ending(1, said=JobError("numerical_failure", "NaN", suggestion="my own")).error
    added = ending(1, said=JobError("numerical_failure", "NaN")).error
    assert given is not None
    assert added is not None
    assert given.suggestion == "my own"
    assert "learning_rate" in str(added.suggestion)


def test_the_kernels_count_is_read(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 5\noom 2\noom_kill 3\n")
    assert out_of_memory_kills(events) == 3
    assert out_of_memory_kills(tmp_path / "missing") is None
    events.write_text("nonsense")
    assert out_of_memory_kills(events) is None
