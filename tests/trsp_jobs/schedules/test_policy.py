"""What becomes of times: misfire and overlap, decided from the clock and the rules alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tests.trsp_jobs.schedules.test_cron import crons, moments
from trsp_jobs.schedules import policy
from trsp_jobs.schedules.cron import Cron
from trsp_jobs.schedules.policy import Due, Outcome, decide, look

EVERY_MINUTE = Cron("* * * * *")
NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
RULES = {"misfire": "skip", "overlap": "forbid", "unfinished": None}


def after(seconds: float, cron: Cron = EVERY_MINUTE) -> Due:
    return look(cron, NOON, NOON + timedelta(seconds=seconds), grace_seconds=60)


def outcome(due: Due, **rules: str | None) -> Outcome:
    return decide(due, **{**RULES, **rules}).outcome  # type: ignore[arg-type]


def test_a_time_that_has_just_come_is_on_time() -> None:
    due = after(5)
    assert (due.latest, due.passed, due.late) == (NOON, 1, False)
    assert due.following == NOON + timedelta(minutes=1)
    assert decide(due, misfire="skip", overlap="forbid", unfinished=None).reason == "on time"


def test_the_grace_includes_its_end() -> None:
    hourly = Cron("0 * * * *")
    assert [after(seconds, hourly).late for seconds in (60, 61)] == [False, True]


@pytest.mark.parametrize(("misfire", "expected"), [("skip", Outcome.MISSED), ("run_once", Outcome.FIRED)])
def test_what_nobody_was_there_for_is_skipped_or_run_once(misfire: str, expected: Outcome) -> None:
    due = after(3 * 3600 + 600, Cron("0 * * * *"))
    decision = decide(due, misfire=misfire, overlap="forbid", unfinished=None)
    assert (decision.outcome, due.passed) == (expected, 4)
    assert "4 runs" in decision.reason
    assert due.following == NOON + timedelta(hours=4)


def test_earlier_missed_times_do_not_keep_one_on_time_from_running() -> None:
    decision = decide(after(600), misfire="skip", overlap="forbid", unfinished=None)
    assert decision.outcome == Outcome.FIRED
    assert decision.reason == "on time; 10 runs before it missed"


def test_an_unfinished_run_keeps_the_next_one_out_unless_two_are_allowed() -> None:
    assert outcome(after(1), unfinished="job_1") == Outcome.OVERLAPPED
    assert outcome(after(1), unfinished="job_1", overlap="allow") == Outcome.FIRED


def test_a_run_that_would_be_skipped_does_not_count_as_overlapped() -> None:
    assert outcome(after(7200, Cron("0 12 * * *")), unfinished="job_1") == Outcome.MISSED


def test_more_times_than_are_looked_at_make_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MOST_PASSED", 10)
    due = after(3600)
    assert (due.passed, due.more) == (10, True)
    assert outcome(due, misfire="run_once") == Outcome.MISSED
    assert due.following == NOON + timedelta(minutes=10)


@settings(max_examples=150, deadline=None)
@given(crons, moments, st.timedeltas(timedelta(0), timedelta(days=3)), st.floats(0, 7200))
def test_every_time_is_among_those_that_have_come_or_those_that_follow(
    cron: Cron, start: datetime, waited: timedelta, grace: float
) -> None:
    first = cron.next(start)
    assert first is not None
    now = first + waited
    due = look(cron, first, now, grace)
    assert first <= due.latest <= now
    assert due.following is None or due.following > now
    passed = 1
    while (following := cron.next(first)) is not None and following <= now:
        first, passed = following, passed + 1
    assert (due.latest, due.passed) == (first, passed)
    assert due.late == (now - due.latest > timedelta(seconds=grace))


@given(st.booleans(), st.booleans(), st.sampled_from(policy.MISFIRES), st.sampled_from(policy.OVERLAPS))
def test_a_run_is_made_only_where_no_rule_forbids_it(
    late: bool, busy: bool, misfire: str, overlap: str
) -> None:
    due = Due(NOON, 1, late, more=False, following=None)
    decision = decide(due, misfire=misfire, overlap=overlap, unfinished="job_1" if busy else None)
    forbidden = (late and misfire == "skip") or (busy and overlap == "forbid")
    assert (decision.outcome == Outcome.FIRED) != forbidden
    assert decision.reason
