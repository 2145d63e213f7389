"""Whatever happens to jobs, in whatever order: the service does what the model of `job_model.py` says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from tests.trsp_jobs.conftest import SPEC
from tests.trsp_jobs.job_model import ENDED, HELD, Lost, Model, Refused, Ticket
from trsp_core.config import CompressionSpec
from trsp_core.progress import Progress
from trsp_jobs import db, service
from trsp_jobs.errors import IllegalTransition, JobNotFound, LeaseLost
from trsp_jobs.leases import Claim, JobError, PublishedFile, WorkerOffer
from trsp_jobs.models import Job, WorkerNode
from trsp_jobs.settings import Settings

LONG = timedelta(days=1)
WORKERS = ("w1", "w2", "w3")
OFFER = WorkerOffer("cpu", 2**40)
ERROR = JobError("crashed", "the process ended with code 3")
COUNTS = st.integers(0, 3)
WAYS = st.sampled_from(["once", "once", "twice", "broken"])
"""How a write goes: well; well, but its answer is lost, so that it is said again; or it is never committed."""


class Broken(Exception):
    """The worker dies before the commit."""


class Jobs(RuleBasedStateMachine):
    """Jobs in the real database beside their models."""

    jobs: Bundle[str] = Bundle("jobs")
    tickets: Bundle[Ticket] = Bundle("tickets")

    def __init__(self, sessions: sessionmaker[Session], own: Settings) -> None:
        super().__init__()
        self._sessions = sessions
        self._settings = own
        self._models: dict[str, Model] = {}
        self._versions: dict[str, int] = {}
        self._touched: set[str] = set()
        self._said = 0

    def _do(self, action: Callable[[Session], Any]) -> Any:
        with db.session_scope(self._sessions) as session:
            return action(session)

    def _both(self, job_id: str, expected: Callable[[Model], Any], action: Callable[[Session], Any]) -> Any:
        """Do the same to the model and to the job, and compare what comes of it."""
        self._touched.add(job_id)
        wanted = self._outcome(lambda: expected(self._models[job_id]))
        found = self._outcome(lambda: self._do(action))
        if isinstance(wanted, type) or isinstance(found, type):
            assert found is wanted
        return found

    @staticmethod
    def _outcome(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (Refused, IllegalTransition):
            return Refused
        except (Lost, LeaseLost):
            return Lost
        except (KeyError, JobNotFound):
            return Lost

    def _write(
        self,
        way: str,
        ticket: Ticket,
        expected: Callable[[Model], Any],
        action: Callable[[Session, Claim], Any],
    ) -> None:
        claim = Claim(ticket.job_id, ticket.attempt, ticket.owner, {})

        def breaking(session: Session) -> None:
            action(session, claim)
            raise Broken

        if way == "broken":
            with pytest.raises((Broken, LeaseLost, IllegalTransition)):
                self._do(breaking)
            self._touched.add(ticket.job_id)
            return
        for _ in range(2 if way == "twice" else 1):
            self._both(ticket.job_id, expected, lambda session: action(session, claim))

    def _age(self, job_id: str, **values: Any) -> None:
        self._do(lambda session: session.execute(update(Job).where(Job.id == job_id).values(**values)))

    @initialize()
    def workers_appear(self) -> None:
        for name in WORKERS:
            facts = service.WorkerFacts(name, "host", "cpu", 1)
            self._do(lambda session, facts=facts: service.see_worker(session, facts, seconds=1000))

    @rule(target=jobs, most_crashes=st.integers(1, 3))
    def submit(self, most_crashes: int) -> str:
        own = self._settings.model_copy(update={"max_attempts": most_crashes})
        spec = CompressionSpec.from_dict(SPEC)
        limits = {"queue_deadline": 1000, "run_deadline": 1000}
        job = self._do(lambda session: service.submit(session, spec, settings=own, **limits))
        self._models[job.id] = Model(job.id, most_crashes)
        self._touched.add(job.id)
        return str(job.id)

    @rule(target=tickets, job=jobs, owner=st.sampled_from(WORKERS))
    def hear_a_ring(self, job: str, owner: str) -> Any:
        """The ring may be one of many for the job, or for one that is gone."""
        waiting = [model.job_id for model in self._models.values() if model.status == "queued"]
        wanted = job if job in waiting else min(waiting, default=None)
        assert self._do(lambda session: service.pick(session, job, OFFER)) == wanted
        return self._claim(wanted or job, owner)

    @rule(target=tickets, job=jobs, owner=st.sampled_from(WORKERS))
    def claim(self, job: str, owner: str) -> Any:
        return self._claim(job, owner)

    def _claim(self, job: str, owner: str) -> Any:
        def take(session: Session) -> Claim | None:
            found = service.claim(session, job, owner=owner, lease_seconds=1000)
            if found is not None:
                service.set_current_job(session, owner, job)
            return found

        ticket = self._models[job].claim(owner) if job in self._models else None
        self._touched.add(job)
        claim = self._do(take)
        assert (claim is None) == (ticket is None)
        if ticket is None:
            return multiple()
        assert (claim.attempt, claim.fresh_after) == (ticket.attempt, self._models[job].fresh_after)
        return ticket

    @rule(ticket=tickets, renew=st.booleans())
    def ask_for_orders(self, ticket: Ticket, renew: bool) -> None:
        claim = Claim(ticket.job_id, ticket.attempt, ticket.owner, {})
        found = self._both(
            ticket.job_id,
            lambda model: model.heartbeat(ticket) if renew else model.orders(ticket),
            lambda session: (
                service.heartbeat(session, claim, lease_seconds=1000)
                if renew
                else service.orders(session, claim)
            ),
        )
        if found is not Lost:
            model = self._models[ticket.job_id]
            assert found.cancel == (model.status == "canceling")
            assert (found.seconds_left < 0) == model.run_late

    @rule(ticket=tickets, way=WAYS, count=st.integers(1, 3))
    def progress(self, ticket: Ticket, way: str, count: int) -> None:
        events = [Progress(stage="stage1", step=step, total=9, overall=step / 9) for step in range(count)]
        self._write(
            way,
            ticket,
            lambda model: model.progress(ticket, count),
            lambda session, claim: service.record_news(session, claim, events, ()),
        )

    @rule(ticket=tickets)
    def explain(self, ticket: Ticket) -> None:
        self._said += 1
        reason = f"reason {self._said}"
        self._write(
            "once",
            ticket,
            lambda model: model.explain(ticket),
            lambda session, claim: service.explain(session, claim, reason),
        )

    @rule(ticket=tickets, way=WAYS)
    def finalize(self, ticket: Ticket, way: str) -> None:
        self._write(way, ticket, lambda model: model.finalize(ticket), service.begin_finalizing)

    @rule(ticket=tickets, way=WAYS, count=COUNTS)
    def succeed(self, ticket: Ticket, way: str, count: int) -> None:
        self._write(
            way,
            ticket,
            lambda model: model.succeed(ticket, count),
            lambda session, claim: service.succeed(session, claim, {}, _files(count)),
        )

    @rule(ticket=tickets, way=WAYS, count=COUNTS)
    def finalize_and_succeed(self, ticket: Ticket, way: str, count: int) -> None:
        self.finalize(ticket, way)
        self.succeed(ticket, way, count)

    @rule(ticket=tickets, way=WAYS, again=st.booleans())
    def fail(self, ticket: Ticket, way: str, again: bool) -> None:
        self._write(
            way,
            ticket,
            lambda model: model.fail(ticket, again),
            lambda session, claim: service.fail(session, claim, ERROR, retryable=again),
        )

    @rule(ticket=tickets, way=WAYS)
    def confirm_the_cancel(self, ticket: Ticket, way: str) -> None:
        self._write(way, ticket, lambda model: model.confirm(ticket), service.acknowledge_cancel)

    @rule(ticket=tickets, way=WAYS, count=COUNTS)
    def time_out(self, ticket: Ticket, way: str, count: int) -> None:
        self._write(
            way,
            ticket,
            lambda model: model.time_out(ticket, count),
            lambda session, claim: service.time_out(session, claim, _files(count)),
        )

    @rule(ticket=tickets, way=WAYS)
    def hand_over(self, ticket: Ticket, way: str) -> None:
        self._write(way, ticket, lambda model: model.hand_over(ticket), service.hand_over)

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        self._both(job, Model.cancel, lambda session: service.cancel(session, job))

    @rule(job=jobs, from_scratch=st.booleans())
    def retry(self, job: str, from_scratch: bool) -> None:
        self._both(
            job,
            lambda model: model.retry(from_scratch),
            lambda session: service.retry(session, job, from_scratch=from_scratch),
        )

    @rule(job=consumes(jobs))
    def remove(self, job: str) -> None:
        if self._both(job, Model.remove, lambda session: service.remove(session, job)) is None:
            self._models.pop(job)

    @rule(job=jobs)
    def let_the_lease_lapse(self, job: str) -> None:
        model = self._models.get(job)
        if model is not None and model.status in HELD:
            model.lapsed = True
            self._age(job, lease_until=func.now() - LONG)

    @rule(job=jobs)
    def let_time_pass(self, job: str) -> None:
        model = self._models.get(job)
        if model is not None and model.started:
            model.run_late = True
            self._age(job, started_at=func.now() - LONG)
        elif model is not None:
            model.queue_late = True
            self._age(job, queued_at=func.now() - LONG)

    @rule()
    def expire_leases(self) -> None:
        wanted = {model.job_id for model in self._models.values() if model.expire()}
        assert set(self._do(service.expire_leases)) == wanted
        self._touched |= wanted

    @rule()
    def time_out_queued(self) -> None:
        wanted = {model.job_id for model in self._models.values() if model.time_out_queued()}
        assert set(self._do(service.time_out_queued)) == wanted
        self._touched |= wanted

    @invariant()
    def jobs_are_as_their_models(self) -> None:
        with db.session_scope(self._sessions) as session:
            for job_id in self._touched & self._models.keys():
                self._compare(session, self._models[job_id])
            busy = session.execute(
                select(WorkerNode.id, Job.status).join(Job, WorkerNode.current_job == Job.id)
            ).all()
        assert {status for _, status in busy} <= set(HELD)
        self._touched.clear()

    def _compare(self, session: Session, model: Model) -> None:
        job = service.get_job(session, model.job_id)
        assert (job.status, job.attempt, job.lease_owner) == (model.status, model.attempt, model.owner)
        assert (job.crashes, job.fresh_after, job.last_event) == (
            model.crashes,
            model.fresh_after,
            model.told,
        )
        assert (job.finished_at is not None) == (model.status in ENDED)
        assert (job.lease_until is not None) == (model.status in HELD)
        assert (job.error is not None) <= (model.status != "canceled" or model.crashes > 0)
        _compare_events(session, model)
        attempts = service.list_attempts(session, model.job_id)
        assert [item.outcome for item in attempts] == model.outcomes
        assert [item.number for item in attempts] == list(range(1, model.attempt + 1))
        assert [item.attempt for item in service.list_artifacts(session, model.job_id)] == model.files
        assert job.version >= self._versions.get(job.id, 0)
        self._versions[job.id] = job.version

    def teardown(self) -> None:
        self._touched = set(self._models)
        self.jobs_are_as_their_models()
        self._do(lambda session: session.execute(delete(WorkerNode)))
        self._do(lambda session: session.execute(delete(Job)))


def _compare_events(session: Session, model: Model) -> None:
    events = service.events_after(session, model.job_id, 0, 10_000)
    assert [event.sequence for event in events] == list(range(1, model.told + 1))
    moves = [(event.data["from"], event.data["to"]) for event in events if event.kind == "status"]
    assert moves == list(zip([None, *model.moves[:-1]], model.moves, strict=True))


def _files(count: int) -> list[PublishedFile]:
    return [PublishedFile(f"file-{number}", 1, "0" * 64) for number in range(count)]


def check(sessions: sessionmaker[Session], own: Settings, *, runs: int, steps: int) -> None:
    chosen = hypothesis_settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(lambda: Jobs(sessions, own), settings=chosen)


def test_any_order_of_events_is_as_the_model_says(
    sessions: sessionmaker[Session], settings: Settings
) -> None:
    check(sessions, settings, runs=30, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_thousand_orders_of_events(sessions: sessionmaker[Session], settings: Settings) -> None:
    check(sessions, settings, runs=2000, steps=20)
