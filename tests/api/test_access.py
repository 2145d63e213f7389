"""Every route of the OpenAPI document, tried by callers who must not get in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient

from api.access import RULES, authorize, required_scope
from api.authentication import is_open
from api.errors import ApiError
from api.write_openapi import text
from tests.api.conftest import Api
from tests.api.keys import OWN, Held, hold
from tests.api.work import claim, succeed
from trsp_jobs.scopes import ALL, Scope
from trsp_jobs.service import EVENTS

ROUTES = [
    (method.upper(), path, operation["tags"][0])
    for path, item in json.loads(text())["paths"].items()
    for method, operation in item.items()
    if not is_open(path)
]
NO_KEY: dict[str, str] = {}


def job(api: Api, folder: Path) -> str:
    """A job that has succeeded, with files."""
    made = api.submit()
    succeed(api, claim(api, made["id"]), folder / "made")
    return str(made["id"])


def webhook(api: Api, _: Path) -> str:
    """A webhook that has a delivery."""
    answer = api.client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/", "events": EVENTS})
    api.submit()
    return str(answer.json()["id"])


def delivery(api: Api, _: Path) -> str:
    """The delivery of a webhook that was made before."""
    (first,) = api.client.get("/v1/webhooks").json()["items"]
    return str(api.client.get(f"/v1/webhooks/{first['id']}/deliveries").json()["items"][0]["id"])


def schedule(api: Api, _: Path) -> str:
    """A schedule of the operator."""
    body = {"name": "weekly", "cron": "0 3 * * MON", "job": api.spec}
    return str(api.client.post("/v1/schedules", json=body).json()["id"])


def text_set(api: Api, _: Path) -> str:
    """An uploaded text of the operator."""
    params = {"name": "mine", "kind": "text"}
    answer = api.client.post("/v1/calibration-sets", params=params, content=b"Some text of mine. " * 400)
    return str(answer.json()["id"])


def slot_and_model(api: Api, folder: Path) -> str:
    """A slot of the operator, and a model of somebody else under the same name."""
    name = "taken"
    made = api.client.post(f"/v1/jobs/{job(api, folder / 'slot')}/publish", json={"slot": name})
    assert made.status_code == 200, made.text
    body = {"name": name, "model": api.spec["model"]}
    registered = ask(api, "POST", "/v1/models", hold(api, owner="somebody").bearer, body)
    assert registered.status_code == 201, registered.text
    return name


def link(api: Api, _: Path) -> str:
    """The token of a link to a file of a job that was made before."""
    newest = api.client.get("/v1/jobs", params={"status": "succeeded"}).json()["items"][0]["id"]
    answer = api.client.post(f"/v1/jobs/{newest}/links", json={"paths": ["report.json"]})
    return str(answer.json()["items"][0]["url"].split("/")[-2])


FOREIGN: Mapping[str, Callable[[Api, Path], str]] = {
    "job_id": job,
    "webhook_id": webhook,
    "delivery_id": delivery,
    "key_id": lambda api, _: hold(api, owner="somebody").id,
    "schedule_id": schedule,
    "set_id": text_set,
    "name": slot_and_model,
    "path": lambda _, __: "report.json",
    "token": link,
    "file_name": lambda _, __: "report.json",
}
"""How somebody else's resource is made, by the name of the path parameter that it stands at."""


@pytest.fixture
def address(make_api: Callable[..., Api], tmp_path: Path) -> tuple[Api, Callable[[str], str]]:
    """An application with one of each resource, and a function that puts their ids into a path."""
    api = make_api(webhook_allow_private=True)
    ids = {name: make(api, tmp_path) for name, make in FOREIGN.items()}
    return api, lambda path: re.sub(r"\{(\w+)(?::path)?\}", lambda match: ids[match[1]], path)


def test_every_route_has_a_rule_and_every_parameter_a_foreign_resource() -> None:
    assert len(ROUTES) > 20
    assert {tag for _, _, tag in ROUTES} <= set(RULES)
    names = {name for _, path, _ in ROUTES for name in re.findall(r"\{(\w+)", path)}
    assert names <= set(FOREIGN), "say in FOREIGN how such a resource of somebody else is made"


def ask(api: Api, method: str, path: str, headers: Mapping[str, str], content: Mapping[str, Any] = {}) -> Any:
    """Send a request that shows the given headers and no others; the body is JSON where there is one."""
    body = {"json": dict(content)} if method in ("POST", "PUT", "PATCH") else {}
    client = TestClient(api.client.app, base_url="http://localhost")
    return client.request(method, path, headers=dict(headers), **body)  # type: ignore[arg-type]


def test_nobody_gets_in_without_a_valid_key(address: tuple[Api, Callable[[str], str]]) -> None:
    api, fill = address
    expired = hold(api, ALL, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked = hold(api, ALL)
    assert api.client.delete(f"/v1/keys/{revoked.id}").status_code == 204
    mistyped = Held("", expired.key[:-1] + ("0" if expired.key[-1] != "0" else "1"))
    said = {
        "No key": NO_KEY,
        "has expired": expired.bearer,
        "was revoked": revoked.bearer,
        "cut short or mistyped": mistyped.bearer,
        "No key was sent": {"Authorization": "Basic dGVhbTprZXk="},
    }
    for method, path, _ in ROUTES:
        for reason, headers in said.items():
            answer = ask(api, method, fill(path), headers)
            assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized"), path
            assert reason in answer.json()["detail"]
            assert answer.headers["www-authenticate"].startswith("Bearer")


OUTSIDE = [
    *(("HEAD", "/v1/jobs/{job_id}/artifacts/report.json"), ("HEAD", "/v1/jobs/{job_id}/report")),
    *(
        ("GET", "/"),
        ("GET", "/jobs/{job_id}"),
        ("POST", "/jobs/{job_id}/cancel"),
        ("POST", "/jobs/{job_id}/retry"),
    ),
    *(
        ("POST", "/logout"),
        ("GET", "/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/v1/nothing"),
    ),
    *(
        ("GET", "/healthz/"),
        ("GET", "//healthz"),
        ("GET", "/static"),
        ("OPTIONS", "/v1/jobs"),
        ("TRACE", "/v1/jobs"),
    ),
    *(
        ("DELETE", "/v1/jobs"),
        ("GET", "/static%2f..%2fv1%2fjobs"),
        ("GET", "/login/../v1/jobs"),
        ("PUT", "/v1/keys"),
    ),
]
"""What the document does not tell of: pages, other methods, and addresses that lean on an open one."""


def test_what_the_document_does_not_tell_of_needs_a_key_too(
    address: tuple[Api, Callable[[str], str]],
) -> None:
    api, fill = address
    for method, path in OUTSIDE:
        for headers in (NO_KEY, {"Authorization": "Bearer trsp_nobody"}, {"Cookie": "trsp_session=forged"}):
            answer = ask(api, method, fill(path), headers)
            allowed = (404,) if path.startswith("/static%") else (401, 403)
            assert answer.status_code in allowed, (method, path, headers, answer.text)
            assert "items" not in answer.text


def test_a_key_without_the_right_is_refused(address: tuple[Api, Callable[[str], str]]) -> None:
    api, fill = address
    lacking = {scope: hold(api, ALL - {scope}) for scope in Scope}
    for method, path, tag in ROUTES:
        scope = required_scope(tag, method)
        if scope is not None:
            answer = ask(api, method, fill(path), lacking[scope].bearer)
            assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden"), path
            assert scope in answer.json()["detail"]


def test_somebody_elses_resource_is_not_there(address: tuple[Api, Callable[[str], str]]) -> None:
    api, fill = address
    headers = hold(api, OWN, owner="other").bearer
    for method, path, _ in ROUTES:
        if "{" in path:
            answer = ask(api, method, fill(path), headers)
            assert answer.status_code == 404, (method, path, answer.text)
    pages = (("GET", "/jobs/{job_id}"), ("POST", "/jobs/{job_id}/cancel"), ("POST", "/jobs/{job_id}/retry"))
    for method, path in pages:
        assert ask(api, method, fill(path), headers).status_code == 404, path


def test_lists_hold_nothing_of_somebody_else(address: tuple[Api, Callable[[str], str]]) -> None:
    api, _ = address
    other = hold(api, OWN, owner="other")
    for method, path, tag in ROUTES:
        if (
            method == "GET"
            and "{" not in path
            and path.startswith("/v1/")
            and tag not in ("system", "compare")
        ):
            items = ask(api, "GET", path, other.bearer).json()["items"]
            assert [item.get("id") for item in items] in ([], [other.id]), path
    assert "succeeded" not in ask(api, "GET", "/", other.bearer).text


def test_a_tag_without_a_rule_is_refused() -> None:
    with pytest.raises(ApiError, match="has no rule"):
        required_scope("new-things", "GET")
    app, router = FastAPI(dependencies=[Depends(authorize)]), APIRouter()
    router.add_api_route("/thing", lambda: "open")
    app.include_router(router)
    assert TestClient(app).get("/thing").status_code == 403
