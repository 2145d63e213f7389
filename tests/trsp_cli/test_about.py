"""The commands that tell of the service, its slots, keys and webhooks, and of what happened to a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api.work import claim, succeed
from tests.trsp_cli.conftest import Said, Service
from trsp_jobs import service as domain
from trsp_jobs.service import WorkerFacts

Trsp = Callable[..., Said]


def test_the_service_is_told_about(service: Service, trsp: Trsp) -> None:
    status = trsp("--json", "status", url=service.url)
    assert (status.code, status.json["status"], status.json["name"]) == (0, "ready", "trsp")
    assert "broker ok" in trsp("status").out
    assert "no workers online" in trsp("workers").out
    with service.api.services.session() as session:
        domain.see_worker(session, WorkerFacts("host-1", "host", "cpu", 1000), seconds=30)
    assert "host-1" in trsp("workers").out
    assert "shortgpt" in trsp("methods").out
    assert trsp("--json", "methods").json["items"][0]["options"]


def test_a_service_that_cannot_work_ends_with_1(
    service: Service, trsp: Trsp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.system._ask_store", lambda _: unreachable())
    said = trsp("status", url=service.url)
    assert (said.code, "store down" in said.err) == (1, True)


def unreachable() -> None:
    from trsp_jobs.errors import StoreUnavailable

    raise StoreUnavailable("away")


def test_usage_and_audit_are_shown(service: Service, trsp: Trsp) -> None:
    assert "no key has jobs" in trsp("usage", url=service.url).out
    job = service.api.submit()
    assert "operator" in trsp("usage").out
    assert job["id"] in trsp("audit", "--subject", job["id"]).out
    assert trsp("--json", "audit", "--limit", "1").json["items"][0]["action"] == "jobs.create"


def test_a_result_is_published_rolled_back_and_its_history_shown(
    service: Service, trsp: Trsp, tmp_path: Path
) -> None:
    assert "no slots" in trsp("slots", "list", url=service.url).out
    ids = [service.api.submit()["id"] for _ in range(2)]
    for job_id in ids:
        succeed(service.api, claim(service.api, job_id), tmp_path / job_id)
        assert "published" in trsp("slots", "publish", job_id, "small").out
    assert ids[1] in trsp("slots", "list").out
    assert trsp("--json", "slots", "rollback", ids[1]).json["decision"] == "rolled_back"
    assert ids[0] in trsp("slots", "show", "small").out
    assert "rolled_back" in trsp("slots", "history", "small", "--limit", "1").out
    assert "--before" in trsp("slots", "history", "small", "--limit", "1").out
    assert trsp("slots", "show", "other").code == 2


def test_what_happened_to_a_job_is_told(service: Service, trsp: Trsp, tmp_path: Path) -> None:
    job_id = service.api.submit()["id"]
    assert "no attempts yet" in trsp("jobs", "attempts", job_id, url=service.url).out
    assert "no files" in trsp("jobs", "artifacts", job_id).out
    succeed(service.api, claim(service.api, job_id), tmp_path / "made")
    assert "succeeded" in trsp("jobs", "attempts", job_id).out
    lines = trsp("jobs", "events", job_id, "--follow").out.splitlines()
    assert "succeeded" in lines[-1]
    items = trsp("--json", "jobs", "events", job_id, "--after", "1").json["items"]
    assert [item["sequence"] for item in items] == list(range(2, len(lines) + 1))


def test_one_key_one_webhook_and_times_are_shown(service: Service, trsp: Trsp) -> None:
    made = trsp("--json", "keys", "create", "ci", url=service.url).json
    assert "ci" in trsp("keys", "show", made["id"]).out
    assert made["key"] not in trsp("--json", "keys", "show", made["id"]).out
    assert trsp("webhooks", "show", "wh_x").code == 2
    assert len(trsp("schedules", "preview", "0 3 * * MON", "--zone", "Europe/Berlin").out.splitlines()) == 5
    assert trsp("schedules", "history", "sch_x").code == 2
