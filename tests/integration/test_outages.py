"""The real API, workers and housekeeping while the broker or the database is away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import update

from tests.api.conftest import KEY, SECRET
from tests.integration.conftest import Stack
from tests.servers import Postgres, Valkey, free_port, wait_for_port
from tests.trsp_core.conftest import save_tiny
from trsp_cli.client import Client
from trsp_jobs import db, service
from trsp_jobs.callers import OPERATOR
from trsp_jobs.models import Job
from trsp_jobs.scopes import ALL
from trsp_jobs.settings import Settings

pytestmark = pytest.mark.integration

ANSWER_SECONDS = 10
"""A request is answered by then, whatever is away."""


@pytest.fixture
def stack_settings(stack_settings: Settings, tmp_path: Path) -> Settings:
    models = tmp_path / "models"
    save_tiny(models / "ok", "llama")
    own = {
        "secret": SecretStr(SECRET),
        "api_key": SecretStr(KEY),
        "file_roots": [models],
        "port": free_port(),
    }
    return stack_settings.model_copy(update=own)


@contextlib.contextmanager
def serving(stack: Stack) -> Iterator[str]:
    with stack.program("api", "-m", "api"):
        wait_for_port(stack.settings.port, 60)
        yield f"http://127.0.0.1:{stack.settings.port}"


def job(stack: Stack, steps: int = 2) -> dict[str, object]:
    calibration = {"set": "python-docs", "sequences": steps, "sequence_length": 32}
    return {"model": str(stack.settings.file_roots[0] / "ok"), "sparsity": 0.25, "calibration": calibration}


def let_an_hour_pass(stack: Stack) -> None:
    """Move every time that waiting is judged by an hour back."""
    hour = timedelta(hours=1)
    with db.session_scope(stack.sessions) as session:
        moved = {
            "created_at": Job.created_at - hour,
            "queued_at": Job.queued_at - hour,
            "rung_at": Job.rung_at - hour,
        }
        session.execute(update(Job).where(Job.status == "queued").values(moved))


def test_what_is_accepted_while_the_broker_is_away_for_an_hour_runs_when_it_is_back(
    stack: Stack, valkey: Valkey
) -> None:
    with contextlib.ExitStack() as parts:
        client = parts.enter_context(Client(parts.enter_context(serving(stack)), KEY))
        before = [client.submit(job(stack))["id"] for _ in range(3)]
        assert all(stack.job(job_id).rung_at for job_id in before)
        valkey.stop()
        try:
            parts.enter_context(stack.housekeeping())
            parts.enter_context(stack.worker())
            began = time.monotonic()
            during = [client.submit(job(stack))["id"] for _ in range(5)]
            assert time.monotonic() - began < 5 * ANSWER_SECONDS
            assert not any(stack.job(job_id).rung_at for job_id in during)
            let_an_hour_pass(stack)
            time.sleep(3)
            assert {stack.job(job_id).status for job_id in before + during} == {"queued"}
        finally:
            valkey.start()
        for job_id in before + during:
            stack.wait_for_status(job_id, "succeeded", seconds=90)
    for job_id in before + during:
        assert (stack.job(job_id).attempt, stack.numbers_are_whole(job_id)) == (1, True)


def test_without_the_database_every_address_says_when_to_come_back(stack: Stack, postgres: Postgres) -> None:
    wanted = service.KeyRequest(name="ci", owner="ci", scopes=ALL)
    with db.session_scope(stack.sessions) as session:
        _, made = service.create_key(session, wanted, secret=SECRET, maker=OPERATOR)
    with serving(stack) as url, Client(url, KEY) as client:
        job_id = client.submit(job(stack))["id"]
        requests = [
            ("GET", "/v1/jobs"),
            ("GET", f"/v1/jobs/{job_id}"),
            ("GET", f"/v1/jobs/{job_id}/events"),
            ("GET", "/v1/workers"),
            ("POST", f"/v1/jobs/{job_id}/cancel"),
            ("DELETE", f"/v1/jobs/{job_id}"),
        ]
        with postgres.outage(), httpx.Client(base_url=url, timeout=ANSWER_SECONDS) as http:
            for bearer in (KEY, made):
                for method, path in requests:
                    answer = http.request(method, path, headers={"Authorization": f"Bearer {bearer}"})
                    shown = (
                        answer.status_code,
                        answer.headers["content-type"],
                        answer.headers["retry-after"],
                    )
                    assert shown == (503, "application/problem+json", "5"), (method, path, answer.text)
                    assert answer.json()["type"] == "/problems/database-unavailable"
        assert client.get(job_id)["status"] == "queued"
