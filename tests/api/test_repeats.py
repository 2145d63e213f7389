"""Requests that are sent again, and changes that know what they change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api
from tests.api.keys import hold
from tests.api.work import claim, fail
from trsp_jobs.leases import JobError


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
