"""Many workers at one queue: every job is claimed, by one of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from trsp_core.config import CompressionSpec
from trsp_jobs import db, service
from trsp_jobs.callers import OPERATOR, Caller
from trsp_jobs.leases import WorkerOffer
from trsp_jobs.scopes import Scope
from trsp_jobs.settings import Settings
from worker.claiming import claim_next

pytestmark = pytest.mark.integration
CLAIMERS, JOBS = 16, 96
SPEC = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}


@pytest.fixture
def sessions(postgres_url: str) -> Iterator[sessionmaker[Session]]:
    engine = db.make_engine(postgres_url, pool_size=CLAIMERS)
    yield db.session_factory(engine)
    engine.dispose()


def submit(sessions: sessionmaker[Session], url: str, folder: Path, caller: Caller) -> list[str]:
    settings = Settings(
        database_url=url, broker_url="redis://127.0.0.1:1/0", store_url=folder.as_uri(), data_dir=folder
    )
    spec = CompressionSpec.from_dict(SPEC)
    with db.session_scope(sessions) as session:
        return [service.submit(session, spec, caller=caller, settings=settings).id for _ in range(JOBS)]


def answer(sessions: sessionmaker[Session], name: str, rings: list[str]) -> list[str]:
    claims = (
        claim_next(
            sessions, rung, worker_id=name, owner=name, offer=WorkerOffer("cpu", 2**40), lease_seconds=600
        )
        for rung in rings
    )
    return [claim.job_id for claim in claims if claim is not None]


def race(sessions: sessionmaker[Session], jobs: list[str]) -> list[str]:
    """Ring every job twice, at two of sixteen claimers; return what they claimed."""
    rings = [[*jobs[place::CLAIMERS], *jobs[place - 1 :: CLAIMERS]] for place in range(CLAIMERS)]
    names = [f"worker-{place}" for place in range(CLAIMERS)]
    with ThreadPoolExecutor(CLAIMERS) as pool:
        return list(chain.from_iterable(pool.map(answer, [sessions] * CLAIMERS, names, rings)))


def test_sixteen_claimers_lose_and_double_nothing(
    sessions: sessionmaker[Session], postgres_url: str, tmp_path: Path
) -> None:
    jobs = submit(sessions, postgres_url, tmp_path, OPERATOR)
    assert sorted(race(sessions, jobs)) == sorted(jobs)
    with db.session_scope(sessions) as session:
        assert {service.get_job(session, job_id).attempt for job_id in jobs} == {1}


def test_a_quota_on_running_jobs_holds_among_sixteen_claimers(
    sessions: sessionmaker[Session], postgres_url: str, tmp_path: Path
) -> None:
    wanted = service.KeyRequest(
        name="limited", owner="team", scopes=frozenset({Scope.JOBS_WRITE}), max_running=5
    )
    with db.session_scope(sessions) as session:
        key, _ = service.create_key(session, wanted, secret="0" * 16, maker=OPERATOR)
        caller = Caller(key.id, key.name, key.owner, wanted.scopes)
    jobs = submit(sessions, postgres_url, tmp_path, caller)
    assert len(race(sessions, jobs)) == 5


def test_a_job_that_somebody_holds_is_passed_over_and_waited_for_if_it_is_the_last(
    sessions: sessionmaker[Session], postgres_url: str, tmp_path: Path
) -> None:
    first, *others = submit(sessions, postgres_url, tmp_path, OPERATOR)
    with db.session_scope(sessions) as held, ThreadPoolExecutor(1) as pool:
        service.mark_rung(held, first)
        assert sorted(answer(sessions, "worker", [first] * len(others))) == sorted(others)
        last = pool.submit(answer, sessions, "worker", [first])
        with pytest.raises(TimeoutError):
            last.result(0.2)
        held.commit()
        assert last.result(30) == [first]
