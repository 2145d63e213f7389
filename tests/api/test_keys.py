"""Keys: how they are made and ended, what they may hold, and what is written down of what they do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.api.conftest import Api
from tests.api.keys import OWN, Held, hold
from tests.api.work import claim, succeed
from trsp_jobs import service
from trsp_jobs.access_models import ApiKey
from trsp_jobs.leases import WorkerOffer
from trsp_jobs.scopes import ALL, DEFAULT, Scope


def create(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/keys", json={"name": "a key", **body})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


def submit(api: Api, held: Held) -> Any:
    return api.client.post("/v1/jobs", json=api.spec, headers=held.bearer)


def entries(api: Api, **query: Any) -> list[dict[str, Any]]:
    return list(api.client.get("/v1/audit", params=query).json()["items"])


def test_a_key_is_shown_once_and_stored_nowhere(api: Api) -> None:
    made = create(api, owner="team", max_queued=3)
    assert made["key"].startswith(made["hint"])
    assert set(made["scopes"]) == set(DEFAULT)
    shown = api.client.get(f"/v1/keys/{made['id']}").text
    listed = api.client.get("/v1/keys").text
    with api.services.session() as session:
        (row,) = session.scalars(select(ApiKey))
        stored = repr([getattr(row, column.key) for column in ApiKey.__table__.columns])
    for text in (shown, listed, stored):
        assert made["id"] in text
        assert made["key"] not in text
        assert made["key"][len(made["hint"]) :] not in text


def test_a_revoked_key_ends_at_once(api: Api) -> None:
    held = hold(api)
    assert api.client.get("/v1/jobs", headers=held.bearer).status_code == 200
    assert api.client.delete(f"/v1/keys/{held.id}").status_code == 204
    assert api.client.get("/v1/jobs", headers=held.bearer).status_code == 401
    ended = api.client.get(f"/v1/keys/{held.id}").json()["revoked_at"]
    assert api.client.delete(f"/v1/keys/{held.id}").status_code == 204
    assert api.client.get(f"/v1/keys/{held.id}").json()["revoked_at"] == ended


def test_nobody_gives_what_they_lack(api: Api) -> None:
    maker = hold(api, {Scope.KEYS_ADMIN, Scope.JOBS_READ}).bearer
    refused = (
        ({"scopes": ["jobs:write"]}, "jobs:write"),
        ({"scopes": ["jobs:read", "owners:all"]}, "owners:all"),
        ({"scopes": ["jobs:read"], "owner": "others"}, "others"),
    )
    for body, said in refused:
        answer = api.client.post("/v1/keys", json={"name": "k", **body}, headers=maker)
        assert (answer.status_code, said in answer.json()["detail"]) == (403, True)
    given = api.client.post("/v1/keys", json={"name": "k", "scopes": ["jobs:read"]}, headers=maker)
    assert given.json()["owner"] == "team"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"scopes": ["jobs:raed"]}, "/scopes/0"),
        ({"scopes": []}, "/scopes"),
        ({"owner": "A Team"}, "/owner"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "/expires_at"),
        ({"max_queued": -1}, "/max_queued"),
        ({"max_runing": 1}, "/max_runing"),
    ],
)
def test_a_wrong_field_is_named(api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = api.client.post("/v1/keys", json={"name": "a key", **body})
    assert answer.status_code == 422
    assert [item["pointer"] for item in answer.json()["errors"]] == [pointer]


def test_keys_of_one_owner_share_and_others_see_nothing(api: Api) -> None:
    first, second, other = hold(api), hold(api), hold(api, owner="other")
    made = submit(api, first).json()["id"]
    for held, count in ((first, 1), (second, 1), (other, 0)):
        assert len(api.client.get("/v1/jobs", headers=held.bearer).json()["items"]) == count
    assert api.client.post(f"/v1/jobs/{made}/cancel", headers=second.bearer).status_code == 200


def test_a_full_queue_is_429_until_a_job_has_begun(api: Api) -> None:
    held = hold(api, max_queued=2)
    first, second, third = (submit(api, held) for _ in range(3))
    assert (first.status_code, second.status_code) == (202, 202)
    assert (third.status_code, third.json()["type"]) == (429, "/problems/quota-exceeded")
    assert int(third.headers["retry-after"]) > 0
    assert "2 jobs queued; 2 are allowed" in third.json()["detail"]
    claim(api, first.json()["id"])
    fourth = submit(api, held)
    assert fourth.status_code == 202
    address = f"/v1/jobs/{fourth.json()['id']}"
    assert api.client.post(f"{address}/cancel", headers=held.bearer).status_code == 200
    assert submit(api, held).status_code == 202
    assert api.client.post(f"{address}/retry", headers=held.bearer).status_code == 429
    assert submit(api, hold(api)).status_code == 202


def test_stored_files_count(api: Api, tmp_path: Path) -> None:
    held = hold(api, max_stored_bytes=1000)
    succeed(api, claim(api, submit(api, held).json()["id"]), tmp_path / "made")
    refused = submit(api, held)
    assert (refused.status_code, "1000 are allowed" in refused.json()["detail"]) == (429, True)


def test_a_key_with_enough_at_work_waits_and_lets_others_pass(api: Api) -> None:
    held = hold(api, max_running=1)
    first, second = (submit(api, held).json()["id"] for _ in range(2))
    claim(api, first)
    with api.services.session() as session:
        assert service.pick(session, second, WorkerOffer("cpu", 2**40)) is None
        assert service.claim(session, second, owner="w", lease_seconds=30) is None
    with api.services.session() as session:
        service.see_worker(session, service.WorkerFacts("w", "w", "cpu", 2**40), seconds=30)
    reason = api.client.get(f"/v1/jobs/{second}").json()["reason"]
    assert reason == "waiting: its key has as many jobs at work as it may"
    other = submit(api, hold(api)).json()["id"]
    with api.services.session() as session:
        assert service.pick(session, second, WorkerOffer("cpu", 2**40)) == other


def test_every_change_is_written_down_with_who_and_which_request(api: Api) -> None:
    held = hold(api)
    headers = {**held.bearer, "X-Request-ID": "request-7"}
    made = api.client.post("/v1/jobs", json=api.spec, headers=headers).json()["id"]
    api.client.post(f"/v1/jobs/{made}/cancel", headers=headers)
    api.client.post("/v1/jobs/validate", json=api.spec, headers=headers)
    api.client.get(f"/v1/jobs/{made}", headers=headers)
    assert api.client.post(f"/v1/jobs/{made}/cancel", headers=headers).status_code == 200
    found = [item for item in entries(api) if item["key_id"] == held.id]
    assert [item["action"] for item in reversed(found)][:2] == ["jobs.create", "jobs.cancel"]
    assert {item["subject"] for item in found} == {made}
    assert {item["request_id"] for item in found} == {"request-7"}
    assert "jobs.validate" not in {item["action"] for item in found}
    key = create(api)
    api.client.delete(f"/v1/keys/{key['id']}")
    said = [(item["action"], item["key_id"]) for item in entries(api, subject=key["id"])]
    assert said == [("keys.revoke", None), ("keys.create", None)]


def test_what_is_refused_is_no_change(api: Api) -> None:
    held = hold(api, max_queued=0)
    assert submit(api, held).status_code == 429
    assert api.client.post("/v1/jobs", json={**api.spec, "sparsity": 2}).status_code == 422
    assert entries(api) == []


def test_the_audit_comes_in_pages(api: Api) -> None:
    for _ in range(3):
        api.submit()
    first = api.client.get("/v1/audit", params={"limit": 2}).json()
    rest = api.client.get("/v1/audit", params={"limit": 2, "after": first["next_cursor"]}).json()
    ids = [item["id"] for item in (*first["items"], *rest["items"])]
    assert (len(ids), ids) == (3, sorted(ids, reverse=True))
    assert rest["next_cursor"] is None


def test_usage_is_counted_for_each_key(api: Api, tmp_path: Path) -> None:
    held = hold(api)
    done = submit(api, held).json()["id"]
    submit(api, held)
    report = succeed(api, claim(api, done), tmp_path / "made")
    api.submit()
    rows = {item["key_id"]: item for item in api.client.get("/v1/usage").json()["items"]}
    assert set(rows) == {held.id, None}
    row = rows[held.id]
    assert (row["jobs"], row["succeeded"], row["owner"]) == (2, 1, "team")
    assert row["gradient_tokens"] == report["resources"]["gradient_tokens"]
    files = api.client.get(f"/v1/jobs/{done}/artifacts").json()["items"]
    assert row["stored_bytes"] == sum(item["size"] for item in files)
    assert row["device_seconds"] > 0
    assert rows[None]["stored_bytes"] == 0
    own = api.client.get("/v1/usage", headers=held.bearer).json()["items"]
    assert [item["key_id"] for item in own] == [held.id]


def test_a_stored_admin_key_is_enough_to_start(make_api: Callable[..., Api]) -> None:
    first = make_api()
    admin = hold(first, ALL)
    second = make_api(api_key=None)
    assert second.client.get("/v1/keys").status_code == 401
    assert second.client.get("/v1/keys", headers=admin.bearer).status_code == 200


def test_a_key_ends_by_itself(api: Api) -> None:
    past, future = datetime.now(UTC) - timedelta(minutes=1), datetime.now(UTC) + timedelta(minutes=1)
    assert api.client.get("/v1/jobs", headers=hold(api, OWN, expires_at=past).bearer).status_code == 401
    assert api.client.get("/v1/jobs", headers=hold(api, OWN, expires_at=future).bearer).status_code == 200
