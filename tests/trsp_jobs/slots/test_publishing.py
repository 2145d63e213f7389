"""Results come into slots and leave them, on real PostgreSQL: one current result, one history."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from tests.trsp_jobs.conftest import Submit
from trsp_jobs import db, service, slots
from trsp_jobs.errors import Conflict, JobNotFound, ResourceNotFound
from trsp_jobs.leases import Claim
from trsp_jobs.models import Job
from trsp_jobs.slots import publishing
from trsp_jobs.slots.rows import SlotDecision

pytestmark = pytest.mark.integration
OFFER = {"slot": "small", "perplexity": 0.01, "perplexity_of": None, "speed": 0.05}


def report(perplexity: float = 10.0) -> dict[str, Any]:
    return {"perplexity": {"ptb": {"dense": 9.0, "pruned": perplexity, "text_sha256": "t"}}}


Finish = Callable[..., str]


@pytest.fixture
def finish(sessions: sessionmaker[Session], submit: Submit, claimed: Callable[..., Claim]) -> Finish:
    """Lets a job succeed with a perplexity and returns its id."""

    def act(perplexity: float = 10.0, publish: Any = OFFER) -> str:
        job_id = submit(publish=publish)
        claim = claimed(job_id)
        with db.session_scope(sessions) as session:
            service.record_progress(session, claim, [])
            service.begin_finalizing(session, claim)
        with db.session_scope(sessions) as session:
            service.succeed(session, claim, report(perplexity), [])
        return job_id

    return act


def current(sessions: sessionmaker[Session], name: str = "small") -> str | None:
    with db.session_scope(sessions) as session:
        top = slots.get_slot(session, name)[1]
        return top.job_id if top else None


def decisions(sessions: sessionmaker[Session], name: str = "small") -> list[SlotDecision]:
    with db.session_scope(sessions) as session:
        return list(reversed(slots.history(session, name, limit=100)[0]))


def act(sessions: sessionmaker[Session], verb: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    with db.session_scope(sessions) as session:
        return verb(session, *arguments, **more)


def test_the_gate_takes_what_is_no_worse_and_keeps_the_rest_out(
    sessions: sessionmaker[Session], finish: Finish
) -> None:
    first, worse = finish(10.0), finish(10.2)
    assert current(sessions) == first
    better = finish(10.05)
    assert current(sessions) == better
    found = decisions(sessions)
    assert [(item.decision, item.job_id, item.current_job) for item in found] == [
        ("published", first, first),
        ("rejected", worse, first),
        ("published", better, better),
    ]
    assert [item.decided_by for item in found] == ["gate"] * 3
    assert found[1].comparison["lines"][0]["new"] == 10.2
    with db.session_scope(sessions) as session:
        shown = service.get_job(session, worse).result
    assert shown is not None
    assert shown["publication"]["decision"] == "rejected"


def test_a_job_that_names_no_slot_touches_none(sessions: sessionmaker[Session], finish: Finish) -> None:
    finish(publish=None)
    assert act(sessions, slots.list_slots).items == []


def test_a_result_and_its_decision_are_one_transaction(
    sessions: sessionmaker[Session],
    submit: Submit,
    claimed: Callable[..., Claim],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_id = submit(publish=OFFER)
    claim = claimed(job_id)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(publishing.repository, "forget_below", broken)
    with pytest.raises(RuntimeError), db.session_scope(sessions) as session:
        service.begin_finalizing(session, claim)
        service.succeed(session, claim, report(), [])
    with db.session_scope(sessions) as session:
        assert service.get_job(session, job_id).status == "starting"
    assert act(sessions, slots.list_slots).items == []


def test_said_again_a_success_publishes_once(
    sessions: sessionmaker[Session], submit: Submit, claimed: Callable[..., Claim]
) -> None:
    claim = claimed(submit(publish=OFFER))
    with db.session_scope(sessions) as session:
        service.begin_finalizing(session, claim)
    for _ in range(2):
        with db.session_scope(sessions) as session:
            service.succeed(session, claim, report(), [])
    assert len(decisions(sessions)) == 1


def test_a_person_publishes_what_the_gate_would_not_take(
    sessions: sessionmaker[Session], finish: Finish
) -> None:
    finish(10.0)
    worse = finish(99.0)
    row = act(sessions, slots.publish, worse, "small", report(99.0), by="me")
    assert (row.decision, row.decided_by, row.comparison["accepted"]) == ("published", "me", False)
    assert current(sessions) == worse
    with pytest.raises(Conflict, match="already"):
        act(sessions, slots.publish, worse, "small", report(99.0), by="me")


def test_only_results_can_be_published(sessions: sessionmaker[Session], submit: Submit) -> None:
    with pytest.raises(Conflict, match="is queued"):
        act(sessions, slots.publish, submit(), "small", report(), by="me")
    with pytest.raises(JobNotFound):
        act(sessions, slots.publish, "job_nobody", "small", report(), by="me")
    with pytest.raises(ResourceNotFound):
        current(sessions)


def test_a_rollback_goes_back_one_result_at_a_time(sessions: sessionmaker[Session], finish: Finish) -> None:
    first, second, third = finish(), finish(), finish()
    with pytest.raises(Conflict, match="is not the current result"):
        act(sessions, slots.rollback, second, "small", by="me")
    act(sessions, slots.rollback, third, None, by="me")
    assert current(sessions) == second
    act(sessions, slots.rollback, second, "small", by="me")
    assert current(sessions) == first
    with pytest.raises(Conflict, match="no result before"):
        act(sessions, slots.rollback, first, "small", by="me")
    assert current(sessions) == first
    assert [item.decision for item in decisions(sessions)][3:] == ["rolled_back", "rolled_back"]


def test_a_slot_may_be_left_out_where_only_one_can_be_meant(
    sessions: sessionmaker[Session], finish: Finish
) -> None:
    finish()
    job_id = finish()
    act(sessions, slots.publish, job_id, "other", report(), by="me")
    with pytest.raises(Conflict, match=r"several slots \(other, small\)"):
        act(sessions, slots.rollback, job_id, None, by="me")
    with pytest.raises(Conflict, match="in no slot"):
        act(sessions, slots.rollback, finish(publish=None), None, by="me")


def test_a_published_result_cannot_be_deleted_until_it_is_out_of_reach(
    sessions: sessionmaker[Session], finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "KEPT", 2)
    ids = [finish(), finish()]
    for job_id in ids:
        with pytest.raises(IntegrityError):
            act(sessions, _delete_job, job_id)
    finish()
    act(sessions, _delete_job, ids[0])
    with pytest.raises(IntegrityError):
        act(sessions, _delete_job, ids[1])
    assert [item.job_id for item in decisions(sessions)][:2] == ids


def _delete_job(session: Session, job_id: str) -> None:
    session.execute(delete(Job).where(Job.id == job_id))


def test_many_at_once_leave_one_current_result_and_a_whole_history(
    sessions: sessionmaker[Session], finish: Finish
) -> None:
    ids = [finish(publish=None) for _ in range(6)]
    threads = [
        threading.Thread(
            target=act, args=(sessions, slots.publish, job_id, "small", report()), kwargs={"by": "me"}
        )
        for job_id in ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = decisions(sessions)
    assert [item.number for item in found] == [1, 2, 3, 4, 5, 6]
    assert sorted(item.job_id for item in found) == sorted(ids)
    assert current(sessions) == found[-1].job_id


def test_lists_come_in_parts(sessions: sessionmaker[Session], finish: Finish) -> None:
    job_id = finish()
    for name in ("b", "a"):
        act(sessions, slots.publish, job_id, name, report(), by="me")
    first = act(sessions, slots.list_slots, limit=2)
    rest = act(sessions, slots.list_slots, after=first.next_cursor, limit=2)
    assert [slot.name for slot, _ in (*first.items, *rest.items)] == ["a", "b", "small"]
    assert all(top.job_id == job_id for _, top in (*first.items, *rest.items))
    finish()
    latest, before = act(sessions, slots.history, "small", limit=1)
    earlier, end = act(sessions, slots.history, "small", before=before, limit=1)
    assert ([latest[0].number, earlier[0].number], end) == ([2, 1], None)
