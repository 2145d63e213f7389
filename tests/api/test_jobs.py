"""Jobs over HTTP: create, try out, list, show, cancel, retry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.api.conftest import KEY, SECRET, SPEC, Api
from tests.api.work import claim, fail, work_until
from tests.servers import Postgres
from trsp_jobs.leases import JobError


def test_a_job_of_three_fields_is_accepted_and_rung(api: Api) -> None:
    answer = api.client.post("/v1/jobs", json=api.spec)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["status"], job["progress"], job["attempt"]) == ("queued", 0, 0)
    assert job["spec"]["target"] == {"sparsity": 0.25}
    assert job["spec"]["method"]["name"] == "trsp"
    assert api.dispatcher.rung == [job["id"]]


def test_labels_priority_and_deadlines_are_kept(api: Api) -> None:
    job = api.submit(labels={"team": "research"}, priority=7, queue_deadline=60, run_deadline=3600.5)
    shown = api.client.get(f"/v1/jobs/{job['id']}").json()
    assert shown["labels"] == {"team": "research"}
    assert (shown["priority"], shown["queue_deadline"], shown["run_deadline"]) == (7, 60, 3600.5)


def test_a_broker_that_is_down_does_not_matter_to_the_client(api: Api) -> None:
    api.dispatcher.down = True
    job = api.submit()
    assert api.client.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"


def test_a_database_that_is_down_is_503_and_nothing_is_rung(api: Api, postgres: Postgres) -> None:
    with postgres.outage():
        answer = api.client.post("/v1/jobs", json=api.spec)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["type"] == "/problems/database-unavailable"
    assert api.dispatcher.rung == []
    assert api.client.get("/v1/jobs").json()["items"] == []


def test_every_wrong_field_is_named_at_once(api: Api) -> None:
    body = {
        "model": "demo:smollm2-135m",
        "sparsty": 0.2,
        "target": {"sparsity": 1.5},
        "calibration": {"set": "python-doc"},
        "method": {"name": "trsp", "gate": "rezidual"},
        "priority": 1000,
    }
    answer = api.client.post("/v1/jobs", json=body)
    problem = answer.json()
    assert answer.status_code == 422
    assert problem["type"] == "/problems/invalid-spec"
    found = {item["pointer"]: item for item in problem["errors"]}
    assert set(found) >= {"/sparsty", "/target/sparsity", "/calibration/set", "/method/gate", "/priority"}
    assert found["/sparsty"]["suggestion"] == "sparsity"
    assert found["/calibration/set"]["suggestion"] == "python-docs"
    assert found["/method/gate"]["allowed"] == ["residual", "output"]
    assert api.client.get("/v1/jobs").json()["items"] == []


REFUSED: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"model": "demo:smollm3"}, "model-refused", "smollm2-135m"),
    ({"model": "/etc"}, "model-refused", ""),
    ({"sparsity": 0.99}, "invalid-spec", "at most 28"),
    ({"calibration": {"set": "python-docs", "sequence_length": 100_000}}, "invalid-spec", "8192"),
    ({"calibration": "text:/etc/passwd"}, "", ""),
)


def test_what_cannot_be_done_is_refused_before_anything_is_stored(api: Api) -> None:
    for change, slug, words in REFUSED:
        answer = api.client.post("/v1/jobs", json={**api.spec, **change})
        assert answer.status_code == 422, change
        assert slug in answer.json()["type"], change
        assert words in answer.json()["detail"].replace(",", ""), change
    assert api.client.get("/v1/jobs").json()["items"] == []


UNSTORABLE: tuple[dict[str, Any], ...] = (
    {"labels": {"a": "x\u0000y"}},
    {"labels": {"a b": "x"}},
    {"labels": {"a": 1}},
    {"labels": ["a"]},
    {"model": "x\ud800"},
    {"method": "\ud800"},
    {"queue_deadline": 0},
    {"run_deadline": "soon"},
    {"priority": 1.5},
    {"device": "cuda:0\u0000"},
    {"sparsity": float("nan")},
)


def test_what_the_database_could_not_hold_is_refused(api: Api) -> None:
    for change in UNSTORABLE:
        content = json.dumps({**api.spec, **change})
        answer = api.client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, change
        assert answer.json()["errors"], change


def test_validate_says_what_would_happen_and_stores_nothing(api: Api) -> None:
    found = api.client.post("/v1/jobs/validate", json=api.spec).json()
    assert found["layers_to_remove"] == 8
    assert found["decided_by_measurement"] is False
    assert found["model"]["layers"] == 30
    assert found["memory_bytes"] > 1e8
    assert found["spec"]["calibration"]["set"] == "python-docs"
    assert api.client.get("/v1/jobs").json()["items"] == []
    open_ended = {key: value for key, value in api.spec.items() if key != "sparsity"}
    measured = api.client.post("/v1/jobs/validate", json={**open_ended, "target": {"speedup": 1.2}}).json()
    assert (measured["layers_to_remove"], measured["decided_by_measurement"]) == (28, True)
    refused = api.client.post("/v1/jobs/validate", json={**api.spec, "sparsity": 0})
    assert refused.status_code == 422


def test_an_etag_spares_an_unchanged_job(api: Api) -> None:
    job = api.submit()
    address = f"/v1/jobs/{job['id']}"
    first = api.client.get(address)
    again = api.client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    claim(api, job["id"])
    changed = api.client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status_code, changed.json()["status"]) == (200, "starting")


def test_the_list_is_newest_first_and_stable_under_inserts(api: Api) -> None:
    made = []
    for _ in range(5):
        made.append(api.submit()["id"])
        time.sleep(0.002)
    first = api.client.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in first["items"]] == made[:2:-1]
    api.submit()
    second = api.client.get("/v1/jobs", params={"limit": 2, "after": first["next_cursor"]}).json()
    third = api.client.get("/v1/jobs", params={"limit": 2, "after": second["next_cursor"]}).json()
    assert [job["id"] for job in second["items"] + third["items"]] == made[2::-1]
    assert third["next_cursor"] is None


def test_the_list_is_filtered_by_status_model_and_label(api: Api) -> None:
    kept = api.submit(labels={"team": "a"})
    other = api.submit(labels={"team": "b"})
    api.client.post(f"/v1/jobs/{other['id']}/cancel")

    def ids(**params: str) -> list[str]:
        return [job["id"] for job in api.client.get("/v1/jobs", params=params).json()["items"]]

    assert ids(status="queued") == [kept["id"]]
    assert ids(label="team=b") == [other["id"]]
    assert set(ids(label="team", model=SPEC["model"])) == {kept["id"], other["id"]}
    assert ids(model="other") == []


WRONG_PARAMETERS: tuple[tuple[dict[str, str], str], ...] = (
    ({"status": "runing"}, "/query/status"),
    ({"limit": "0"}, "/query/limit"),
    ({"after": "x'--"}, "/query/after"),
    ({"model": "\x00"}, "/query/model"),
    ({"label": "a\x00"}, "/query/label"),
    ({"sort": "-created"}, "/query/sort"),
    ({"created_after": "2026-01-01T00:00:00"}, "/query/created_after"),
    ({"created_before": "soon"}, "/query/created_before"),
    ({"stauts": "failed"}, "/query/stauts"),
)


def test_wrong_parameters_are_named(api: Api) -> None:
    for params, pointer in WRONG_PARAMETERS:
        answer = api.client.get("/v1/jobs", params=params)
        assert answer.status_code == 422, params
        assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]


def test_a_misspelt_status_gets_a_suggestion(api: Api) -> None:
    error = api.client.get("/v1/jobs", params={"status": "runing"}).json()["errors"][0]
    assert error["suggestion"] == "running"


def test_cancel_is_idempotent_and_refused_after_the_end(api: Api) -> None:
    waiting, running = api.submit(), api.submit()
    held = claim(api, running["id"])
    work_until(api, held, "stage1")
    for _ in range(2):
        assert api.client.post(f"/v1/jobs/{waiting['id']}/cancel").json()["status"] == "canceled"
        assert api.client.post(f"/v1/jobs/{running['id']}/cancel").json()["status"] == "canceling"
    failed = api.submit()
    fail(api, claim(api, failed["id"]), JobError("out_of_memory", "no memory", suggestion="less"))
    answer = api.client.post(f"/v1/jobs/{failed['id']}/cancel")
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/illegal-transition"


def test_retry_queues_a_failed_job_again_and_rings(api: Api) -> None:
    job = api.submit()
    fail(api, claim(api, job["id"]), JobError("out_of_memory", "no memory", suggestion="less"))
    shown = api.client.get(f"/v1/jobs/{job['id']}").json()
    assert (shown["status"], shown["error"]["suggestion"]) == ("failed", "less")
    answer = api.client.post(f"/v1/jobs/{job['id']}/retry")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert api.dispatcher.rung == [job["id"], job["id"]]
    assert api.client.post(f"/v1/jobs/{job['id']}/retry").status_code == 409


def test_attempts_tell_how_each_try_ended(api: Api) -> None:
    job = api.submit()
    fail(api, claim(api, job["id"]), JobError("out_of_memory", "no memory"))
    items = api.client.get(f"/v1/jobs/{job['id']}/attempts").json()["items"]
    assert [(item["number"], item["outcome"], item["reason"]) for item in items] == [
        (1, "failed", "no memory")
    ]


@pytest.mark.parametrize("job_id", ["job_" + "0" * 26, "job_1", "job_" + "0" * 25 + "'"])
def test_an_unknown_job_is_404_everywhere(api: Api, job_id: str) -> None:
    for rest in (
        "",
        "/events",
        "/events/stream",
        "/logs",
        "/report",
        "/artifacts",
        "/artifacts/x",
        "/attempts",
    ):
        answer = api.client.get(f"/v1/jobs/{job_id}{rest}")
        assert answer.status_code == 404, rest
        assert answer.json()["type"] == "/problems/job-not-found"
    for verb in ("cancel", "retry"):
        assert api.client.post(f"/v1/jobs/{job_id}/{verb}").status_code == 404


def test_a_waiting_job_says_what_it_waits_for(api: Api) -> None:
    assert api.submit()["reason"] == "waiting: no worker online"


def test_the_api_never_imports_torch(settings: Any) -> None:
    code = """
import sys
from fastapi.testclient import TestClient
from api.main import create_app
from trsp_jobs.settings import Settings
settings = Settings()
key = settings.api_key.get_secret_value()
client = TestClient(create_app(settings), base_url="http://localhost", headers={"Authorization": f"Bearer {key}"})
answer = client.post("/v1/jobs/validate", json={"model": "demo:smollm2-135m", "sparsity": 0.25,
                                                "calibration": "python-docs"})
assert answer.status_code == 200, answer.text
print(sorted({"torch", "transformers", "worker", "trsp_cli"} & set(sys.modules)))
"""
    environment = {
        **os.environ,
        "TRSP_DATABASE_URL": settings.database_url,
        "TRSP_BROKER_URL": settings.broker_url,
        "TRSP_STORE_URL": settings.store_url,
        "TRSP_DATA_DIR": str(settings.data_dir),
        "TRSP_SECRET": SECRET,
        "TRSP_API_KEY": KEY,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
