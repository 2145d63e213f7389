"""Health, readiness, version, methods, workers, OpenAPI."""

from __future__ import annotations

import json

import pytest

from api.write_openapi import OPENAPI_PATH, text
from tests.api.conftest import SPEC, Api
from tests.servers import Postgres
from trsp_core.registry import METHODS
from trsp_jobs import service
from trsp_jobs.errors import StoreUnavailable
from trsp_jobs.service import WorkerFacts


def test_healthy_and_ready(api: Api) -> None:
    assert api.client.get("/healthz").json() == {"status": "ok"}
    ready = api.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


def test_without_the_broker_the_service_is_degraded(api: Api) -> None:
    api.dispatcher.down = True
    ready = api.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["checks"]["broker"]["status"] == "down"


def test_without_the_database_it_is_unready(api: Api, postgres: Postgres) -> None:
    with postgres.outage():
        ready = api.client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["database"]["status"]) == (503, "down")
        assert api.client.get("/healthz").status_code == 200


def test_without_the_store_it_is_unready(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(api.store, "stat", broken, raising=False)
    ready = api.client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["store"]["status"]) == (503, "down")


def test_version(api: Api) -> None:
    assert api.client.get("/version").json()["name"] == "trsp"


def test_methods_tell_their_options(api: Api) -> None:
    items = {item["name"]: item for item in api.client.get("/v1/methods").json()["items"]}
    assert set(items) == set(METHODS)
    assert items["trsp"]["options"]["properties"]["lambda1"]["default"] == 0.005


def test_workers_are_shown(api: Api) -> None:
    assert api.client.get("/v1/workers").json() == {"items": []}
    with api.services.session() as session:
        service.see_worker(session, WorkerFacts("host-1", "host", "cpu", 1000), seconds=30)
    items = api.client.get("/v1/workers").json()["items"]
    assert [(item["id"], item["device"], item["current_job"]) for item in items] == [("host-1", "cpu", None)]


def test_the_committed_openapi_document_is_the_served_one(api: Api) -> None:
    committed = OPENAPI_PATH.read_text(encoding="utf-8")
    assert committed == text(), "run: python -m api.write_openapi"
    assert api.client.get("/openapi.json").json() == json.loads(committed)


def test_openapi_shows_the_job_spec_with_ranges_and_examples() -> None:
    found = json.loads(text())
    request = found["components"]["schemas"]["JobRequest"]
    assert request["properties"]["sparsity"]["anyOf"][0]["exclusiveMaximum"] == 1
    assert {"labels", "priority", "queue_deadline", "run_deadline"} <= set(request["properties"])
    body = found["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert SPEC in [example["value"] for example in body["examples"].values()]
    assert "text/event-stream" in str(found["paths"]["/v1/jobs/{job_id}/events/stream"])
    answers = found["paths"]["/v1/jobs"]["post"]["responses"]
    assert set(answers) == {
        "202",
        *["400", "401", "403", "408", "409", "413", "415", "421", "422", "429", "500", "503"],
    }
    shared = answers["422"]["$ref"].rpartition("/")[2]
    assert set(found["components"]["responses"][shared]["content"]) == {"application/problem+json"}
