from __future__ import annotations

import pytest

from trsp_jobs.errors import IllegalTransition
from trsp_jobs.lifecycle import ACTIVE, FINAL, RETRYABLE, TRANSITIONS, Status, check


def test_every_status_has_its_ways_and_all_are_reached_from_queued() -> None:
    assert set(TRANSITIONS) == set(Status)
    reached, frontier = {Status.QUEUED}, [Status.QUEUED]
    while frontier:
        new = TRANSITIONS[frontier.pop()] - reached
        reached |= new
        frontier += new
    assert reached == set(Status)


def test_a_success_is_never_left_and_other_ends_only_by_a_retry() -> None:
    assert TRANSITIONS[Status.SUCCEEDED] == frozenset()
    assert all(TRANSITIONS[status] == {Status.QUEUED} for status in RETRYABLE)
    assert RETRYABLE | {Status.SUCCEEDED} == FINAL


def test_each_active_status_can_be_left_without_its_worker() -> None:
    assert all(TRANSITIONS[status] & {Status.QUEUED, Status.CANCELED} for status in ACTIVE)


def test_refusal_names_status_and_verb() -> None:
    with pytest.raises(IllegalTransition, match="succeeded does not allow 'cancel'") as caught:
        check(Status.SUCCEEDED, Status.CANCELING, "cancel")
    assert (caught.value.status, caught.value.verb) == ("succeeded", "cancel")
