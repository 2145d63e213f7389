"""A database that the first release filled: brought to this one, while its worker works, and used from then on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, inspect
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from api.deps import Services
from api.main import create_app
from migrations import online
from tests.api.conftest import BEARER, KEY, SECRET
from tests.servers import Postgres
from trsp_core.config import CompressionSpec
from trsp_core.progress import Progress
from trsp_jobs import db, service
from trsp_jobs.leases import Claim
from trsp_jobs.lifecycle import ACTIVE, RETRYABLE, Status
from trsp_jobs.models import Job
from trsp_jobs.settings import Settings
from trsp_jobs.testing import MemoryStore, RecordingDispatcher

pytestmark = pytest.mark.integration

DUMP = Path(__file__).with_name("database_0001.sql")
NAME = "release_0001"
LEASE_SECONDS = 30.0


def plain(postgres: Postgres) -> str:
    """Address of the old database, as psycopg takes it."""
    url = postgres.url.set(drivername="postgresql", database=NAME)
    return url.render_as_string(hide_password=False)


@pytest.fixture
def old(postgres: Postgres) -> Iterator[str]:
    """SQLAlchemy URL of a database as the first release left it."""
    url = postgres.create(NAME)
    with psycopg.connect(plain(postgres)) as connection:
        connection.execute(DUMP.read_bytes())
    yield url
    postgres.drop(NAME)


@pytest.fixture
def engine(old: str) -> Iterator[Engine]:
    engine = db.make_engine(old)
    yield engine
    engine.dispose()


@pytest.fixture
def upgraded(old: str, engine: Engine) -> sessionmaker[Session]:
    db.upgrade(old)
    return db.session_factory(engine)


@pytest.fixture
def client(old: str, upgraded: sessionmaker[Session], tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(
        database_url=old,
        broker_url="redis://127.0.0.1:1/0",
        store_url=(tmp_path / "store").as_uri(),
        data_dir=tmp_path / "data",
        secret=SecretStr(SECRET),
        api_key=SecretStr(KEY),
    )
    app = create_app(settings, Services(settings, upgraded, MemoryStore(), RecordingDispatcher()))
    with TestClient(app, base_url="http://localhost", headers=BEARER) as found:
        yield found


def jobs(sessions: sessionmaker[Session]) -> dict[str, Job]:
    """The old jobs by their label."""
    with db.session_scope(sessions) as session:
        return {job.labels["is"]: job for job in service.list_jobs(session, limit=100).items}


def test_every_job_is_listed_and_shown_with_what_belongs_to_it(
    client: TestClient, upgraded: sessionmaker[Session]
) -> None:
    items = client.get("/v1/jobs", params={"limit": 100}).json()["items"]
    assert {item["status"] for item in items} == set(Status)
    for item in items:
        shown = client.get(f"/v1/jobs/{item['id']}").json()
        assert (shown["status"], shown["memory_bytes"]) == (item["status"], None)
        assert CompressionSpec.from_dict(shown["spec"]).model == "demo:smollm2-135m"
        events = client.get(f"/v1/jobs/{item['id']}/events").json()["items"]
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        attempts = client.get(f"/v1/jobs/{item['id']}/attempts").json()["items"]
        assert len(attempts) == shown["attempt"]
    done = jobs(upgraded)["succeeded"]
    files = client.get(f"/v1/jobs/{done.id}/artifacts").json()["items"]
    assert {file["path"]: file["missing_since"] for file in files} == {
        "model/model.safetensors": None,
        "report.json": None,
    }
    assert client.get("/v1/jobs", params={"status": "failed", "sort": "finished_at"}).json()["items"]


def test_jobs_that_waited_are_claimed(upgraded: sessionmaker[Session]) -> None:
    for label in ("queued", "queued again"):
        job = jobs(upgraded)[label]
        with db.session_scope(upgraded) as session:
            claim = service.claim(session, job.id, owner="new", lease_seconds=LEASE_SECONDS)
        assert claim is not None
        assert (claim.attempt, claim.fresh_after) == (job.attempt + 1, 0)


@pytest.mark.parametrize("label", ["starting", "running", "finalizing", "canceling"])
def test_the_attempts_that_were_under_way_go_on(upgraded: sessionmaker[Session], label: str) -> None:
    job = jobs(upgraded)[label]
    assert job.status in ACTIVE
    held = Claim(job.id, job.attempt, f"host-1/{label}", job.spec)
    with db.session_scope(upgraded) as session:
        orders = service.heartbeat(session, held, lease_seconds=LEASE_SECONDS)
        assert orders.cancel == (label == "canceling")
        service.record_progress(session, held, [Progress("stage2", 1, 2, 0.5)])
        service.hand_over(session, held)
    expected = Status.CANCELED if label == "canceling" else Status.QUEUED
    assert jobs(upgraded)[label].status == expected


def test_those_that_ended_are_retried_and_deleted(
    client: TestClient, upgraded: sessionmaker[Session]
) -> None:
    found = jobs(upgraded)
    ended = [found[status] for status in RETRYABLE]
    for job in ended:
        assert client.post(f"/v1/jobs/{job.id}/retry", json={"from_scratch": True}).status_code == 202
        assert client.post(f"/v1/jobs/{job.id}/cancel").json()["status"] == "canceled"
    for job in (*ended, found["succeeded"]):
        assert client.delete(f"/v1/jobs/{job.id}").status_code == 204
        assert client.get(f"/v1/jobs/{job.id}").status_code == 404
    assert len(jobs(upgraded)) == len(found) - len(ended) - 1


def test_the_way_back_and_up_again_loses_no_job(
    old: str, engine: Engine, upgraded: sessionmaker[Session]
) -> None:
    before = {label: (job.id, job.status, job.last_event) for label, job in jobs(upgraded).items()}
    db.downgrade(old, "0001")
    names = {index["name"] for index in inspect(engine).get_indexes("jobs")}
    assert {"ix_jobs_model", "ix_jobs_status_id"} <= names
    assert "ix_jobs_owner_id" not in names
    db.upgrade(old)
    command.check(db.alembic_config(old))
    assert {label: (job.id, job.status, job.last_event) for label, job in jobs(upgraded).items()} == before


class OldWorker:
    """Says what the first release's worker says of the job that it holds, and how long each word took."""

    RENEW = (
        "UPDATE jobs SET lease_until = now() + interval '30 seconds' WHERE id = %(id)s"
        " AND attempt = 1 AND lease_owner = 'host-1/running' AND status = 'running'"
    )
    NUMBER = "UPDATE jobs SET last_event = last_event + 1, version = version + 1 WHERE id = %(id)s"
    TELL = (
        "INSERT INTO events (job_id, sequence, attempt, kind, data)"
        " SELECT id, last_event, 1, 'progress', '{}' FROM jobs WHERE id = %(id)s"
    )

    def __init__(self, address: str, job_id: str) -> None:
        self._address = address
        self._job_id = job_id
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.took: list[float] = []
        self.errors: list[psycopg.Error] = []

    def __enter__(self) -> OldWorker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        with psycopg.connect(self._address) as connection:
            while not self._ended.is_set():
                began = time.monotonic()
                try:
                    for statement in (self.RENEW, self.NUMBER, self.TELL):
                        assert connection.execute(statement, {"id": self._job_id}).rowcount == 1
                    connection.commit()
                except psycopg.Error as error:
                    self.errors.append(error)
                    return
                self.took.append(time.monotonic() - began)
                self._ended.wait(0.01)


def held_job(address: str) -> str:
    """The job that the old worker works on."""
    with psycopg.connect(address) as connection:
        row = connection.execute("SELECT id FROM jobs WHERE labels ->> 'is' = 'running'").fetchone()
    assert row is not None
    return str(row[0])


def grow(address: str, jobs: int) -> None:
    """Multiply the old jobs."""
    copy = (
        "INSERT INTO jobs SELECT (jsonb_populate_record(jobs, jsonb_build_object('id', 'job_' || lpad(n::text,"
        " 26, '0')))).* FROM jobs, generate_series(1, %(jobs)s) AS n WHERE labels ->> 'is' = 'succeeded'"
    )
    with psycopg.connect(address) as connection:
        connection.execute(copy, {"jobs": jobs})


def test_a_worker_that_works_meanwhile_hardly_waits(postgres: Postgres, old: str) -> None:
    grow(plain(postgres), 20_000)
    with OldWorker(plain(postgres), held_job(plain(postgres))) as worker:
        time.sleep(0.2)
        db.upgrade(old)
        time.sleep(0.2)
    assert worker.errors == []
    assert len(worker.took) > 20
    assert max(worker.took) < 2.5
    command.check(db.alembic_config(old))


def reading(address: str, begun: threading.Event, seconds: float) -> None:
    """Read jobs in a transaction that stays open, as a backup does."""
    with psycopg.connect(address) as connection:
        connection.execute("SELECT count(*) FROM jobs")
        begun.set()
        time.sleep(seconds)


def test_a_long_reader_delays_the_upgrade_and_not_the_workers(postgres: Postgres, old: str) -> None:
    begun = threading.Event()
    reader = threading.Thread(target=reading, args=(plain(postgres), begun, 4))
    with OldWorker(plain(postgres), held_job(plain(postgres))) as worker:
        reader.start()
        begun.wait()
        db.upgrade(old)
        reader.join()
    assert worker.errors == []
    assert max(worker.took) < 2.5
    command.check(db.alembic_config(old))


def test_an_upgrade_that_never_gets_its_lock_says_so_and_leaves_the_old_state(
    postgres: Postgres, old: str, engine: Engine
) -> None:
    holder = psycopg.connect(plain(postgres))
    holder.execute("LOCK TABLE jobs IN ACCESS SHARE MODE")
    with pytest.raises(OperationalError, match="lock timeout"):
        db.upgrade(old, tries=2)
    assert "turns" not in inspect(engine).get_table_names()
    holder.rollback()
    holder.close()
    db.upgrade(old)
    command.check(db.alembic_config(old))


def test_an_index_that_broke_off_is_built_anew(
    postgres: Postgres, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.upgrade(old, "0004")
    real: Callable[..., Any] = online.add_index

    def break_off(name: str, *arguments: Any, **options: Any) -> None:
        real(name, *arguments, **options)
        if name == "ix_jobs_priority_id":
            raise RuntimeError("cut off")

    monkeypatch.setattr("migrations.online.add_index", break_off)
    with pytest.raises(RuntimeError, match="cut off"):
        db.upgrade(old)
    monkeypatch.undo()
    with psycopg.connect(plain(postgres)) as connection:
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_jobs_priority_id'::regclass"
        )
    db.upgrade(old)
    command.check(db.alembic_config(old))
    with psycopg.connect(plain(postgres)) as connection:
        broken = connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()
    assert broken == (0,)
