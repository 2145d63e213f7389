"""Requests that are sent again, and changes that know what they change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select

from api.write_openapi import text
from tests.api.conftest import Api
from tests.api.keys import hold
from tests.api.work import claim, fail, succeed
from trsp_jobs.leases import JobError
from trsp_jobs.stored_answers import StoredAnswer


def send(api: Api, address: str, key: str, body: Any, **headers: str) -> Any:
    return api.client.post(address, json=body, headers={"Idempotency-Key": key, **headers})


def count(api: Api) -> int:
    return len(api.client.get("/v1/jobs").json()["items"])


def test_a_job_is_created_once_under_a_key(api: Api) -> None:
    first, second = (send(api, "/v1/jobs", "k-1", api.spec) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert count(api) == 1
    assert api.dispatcher.rung == [first.json()["id"]]


def test_another_body_under_the_key_is_refused(api: Api) -> None:
    send(api, "/v1/jobs", "k-1", api.spec)
    answer = send(api, "/v1/jobs", "k-1", {**api.spec, "priority": 3})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/key-reused")
    assert count(api) == 1


def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    assert send(api, "/v1/jobs", "k-1", {**api.spec, "sparsity": 2}).status_code == 422
    assert send(api, "/v1/jobs", "k-1", api.spec).status_code == 202


def test_each_owner_has_keys_of_its_own(api: Api) -> None:
    held = [hold(api, owner="a"), hold(api, owner="b"), hold(api, owner="a")]
    ids = [send(api, "/v1/jobs", "k", api.spec, **item.bearer).json()["id"] for item in held]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü"])
def test_a_wrong_key_is_named(api: Api, key: str) -> None:
    headers = {"Idempotency-Key": key.encode()}
    answer = api.client.post("/v1/jobs", json=api.spec, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/header/idempotency-key"


def test_a_retry_under_a_key_is_one_retry(api: Api) -> None:
    job_id = api.submit()["id"]
    fail(api, claim(api, job_id), JobError("x", "broken"))
    answers = [send(api, f"/v1/jobs/{job_id}/retry", "r", {"from_scratch": True}) for _ in range(2)]
    assert [item.status_code for item in answers] == [202, 202]
    assert api.dispatcher.rung == [job_id, job_id]
    wrong = api.client.post(f"/v1/jobs/{job_id}/retry", json={"from_scrach": True})
    assert wrong.json()["errors"][0]["suggestion"] == "from_scratch"


def test_a_schedule_and_its_runs_are_made_once_under_a_key(api: Api) -> None:
    body = {"name": "weekly", "cron": "0 3 * * MON", "job": api.spec, "overlap": "allow"}
    first, second = (send(api, "/v1/schedules", "s", body) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert first.headers["etag"] == second.headers["etag"] == '"1"'
    assert len(api.client.get("/v1/schedules").json()["items"]) == 1
    address = f"/v1/schedules/{first.json()['id']}/run-now"
    runs = [send(api, address, "r", None) for _ in range(2)]
    assert [item.status_code for item in runs] == [202, 202]
    assert runs[0].json() == runs[1].json()
    assert runs[0].headers["location"] == runs[1].headers["location"]
    assert api.dispatcher.rung == [runs[0].json()["job_id"]]


def test_a_model_is_registered_once_under_a_key(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"name": "small", "model": api.spec["model"]}
    first = send(api, "/v1/models", "m", body)
    monkeypatch.setattr("trsp_jobs.inputs.registered_models.check_model", None)
    second = send(api, "/v1/models", "m", body)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"


def test_a_result_is_published_and_taken_back_once_under_a_key(api: Api, tmp_path: Any) -> None:
    ids = [api.submit()["id"] for _ in range(2)]
    for job_id in ids:
        succeed(api, claim(api, job_id), tmp_path / job_id)
        answers = [send(api, f"/v1/jobs/{job_id}/publish", job_id, {"slot": "small"}) for _ in range(2)]
        assert [item.status_code for item in answers] == [200, 200]
        assert answers[0].json() == answers[1].json()
    backs = [send(api, f"/v1/jobs/{ids[1]}/rollback", "b", {"slot": "small"}) for _ in range(2)]
    assert [item.status_code for item in backs] == [200, 200]
    assert api.client.get("/v1/slots/small").json()["current"]["job_id"] == ids[0]
    assert api.client.delete(f"/v1/jobs/{ids[0]}").json()["type"] == "/problems/conflict"
    assert api.client.delete(f"/v1/jobs/{ids[1]}").status_code == 204


def test_a_webhook_is_made_once_and_its_secret_is_told_again_but_not_kept(
    make_api: Any, database: Any
) -> None:
    api = make_api(webhook_allow_private=True)
    first, second = (send(api, "/v1/webhooks", "w", {"url": "http://127.0.0.1:9/"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["cache-control"] == "no-store"
    assert first.headers["location"] == second.headers["location"]
    with database() as session:
        (kept,) = session.scalars(select(StoredAnswer.body)).all()
    assert "secret" not in kept
    api.client.post(f"/v1/webhooks/{first.json()['id']}/rotate-secret")
    assert send(api, "/v1/webhooks", "w", {"url": "http://127.0.0.1:9/"}).json() == first.json()


def test_a_new_key_is_refused_a_key(api: Api) -> None:
    answer = send(api, "/v1/keys", "k", {"name": "ci"})
    assert answer.status_code == 422
    (problem,) = answer.json()["errors"]
    assert problem["pointer"] == "/header/idempotency-key"
    assert "secret" in problem["message"]
    assert api.client.get("/v1/keys").json()["items"] == []


def test_every_post_that_creates_takes_a_key_or_says_why_not() -> None:
    creating = {
        f"{method} {path}"
        for path, item in json.loads(text())["paths"].items()
        for method, operation in item.items()
        if {"201", "202"} & set(operation["responses"])
    }
    keyed = {
        f"{method} {path}"
        for path, item in json.loads(text())["paths"].items()
        for method, operation in item.items()
        if "idempotency-key" in {parameter["name"] for parameter in operation.get("parameters", ())}
    }
    made_by_content, sent_again = "post /v1/calibration-sets", "redeliver"
    stored_nowhere = "post /v1/jobs/{job_id}/links"
    without = {name for name in creating - keyed if not name.endswith(sent_again)}
    assert without == {made_by_content, stored_nowhere}


def test_a_change_of_what_has_changed_is_refused(api: Api) -> None:
    address = f"/v1/jobs/{api.submit()['id']}"
    seen = api.client.get(address).headers["etag"]
    claim(api, address.rpartition("/")[2])
    for method, path in (("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")):
        for tag in (seen, '"x"', "W/" + seen):
            answer = api.client.request(method, address + path, headers={"If-Match": tag})
            assert (answer.status_code, answer.json()["type"]) == (412, "/problems/version-conflict")
    known = api.client.get(address).headers["etag"]
    canceled = api.client.post(f"{address}/cancel", headers={"If-Match": f'"x", {known}'})
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceling")
    assert canceled.headers["etag"] == api.client.get(address).headers["etag"]
    assert api.client.post(f"{address}/cancel", headers={"If-Match": "*"}).status_code == 200


def test_an_unchanged_list_is_spared(api: Api) -> None:
    api.submit()
    first = api.client.get("/v1/jobs")
    tag = {"If-None-Match": first.headers["etag"]}
    assert api.client.get("/v1/jobs", headers=tag).status_code == 304
    api.submit()
    assert len(api.client.get("/v1/jobs", headers=tag).json()["items"]) == 2


def test_a_deleted_job_is_gone_with_its_files(api: Api, tmp_path: Any) -> None:
    job_id = api.submit()["id"]
    (tmp_path / "x").write_bytes(b"x")
    api.store.put_file(f"jobs/{job_id}/attempts/1/x", tmp_path / "x")
    assert api.client.delete(f"/v1/jobs/{job_id}").status_code == 409
    api.client.post(f"/v1/jobs/{job_id}/cancel")
    assert api.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert api.client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert api.client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert list(api.store.list(f"jobs/{job_id}")) == []
