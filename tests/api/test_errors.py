"""Everything that goes wrong is problem+json, with a stable type, or a page for a browser."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from markupsafe import escape
from structlog.testing import capture_logs

from api.deps import MissingKey
from api.errors import KINDS
from api.main import MAX_BODY_BYTES, allowed_hosts, create_app
from tests.api.conftest import BEARER, Api
from trsp_jobs.settings import Settings


def is_problem(answer: Any, status: int, slug: str) -> bool:
    """Check the form of a problem answer."""
    body = answer.json()
    assert answer.status_code == body["status"] == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert {"title", "detail", "instance", "advice", "errors"} <= set(body)
    return bool(body["type"] == f"/problems/{slug}")


def test_each_kind_of_mistake_has_its_type(api: Api) -> None:
    json_type = {"Content-Type": "application/json"}
    post = api.client.post
    assert is_problem(api.client.get("/v1/nothing"), 404, "not-found")
    assert is_problem(api.client.delete("/v1/jobs"), 405, "method-not-allowed")
    assert api.client.delete("/v1/jobs").headers["allow"]
    assert is_problem(post("/v1/jobs", content=b"{", headers=json_type), 400, "malformed-json")
    assert is_problem(post("/v1/jobs", content=b"\xff", headers=json_type), 400, "bad-request")
    assert is_problem(post("/v1/jobs", content=b"[" * 100_000, headers=json_type), 400, "bad-request")
    assert is_problem(post("/v1/jobs", content=b"[1]", headers=json_type), 422, "invalid-request")
    assert is_problem(post("/v1/jobs", headers=json_type), 422, "invalid-request")
    assert is_problem(post("/v1/jobs", content=b"a=b"), 415, "unsupported-media-type")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert is_problem(post("/v1/jobs", content=b"a=b", headers=form), 415, "unsupported-media-type")


def test_a_body_that_is_too_large_is_refused_by_its_announced_and_by_its_real_size(api: Api) -> None:
    large = b'{"model": "' + b"x" * MAX_BODY_BYTES + b'"}'
    headers = {"Content-Type": "application/json"}
    assert is_problem(api.client.post("/v1/jobs", content=large, headers=headers), 413, "too-large")
    pieces = iter([large[:1000], large[1000:]])
    assert is_problem(api.client.post("/v1/jobs", content=pieces, headers=headers), 413, "too-large")


def test_an_unforeseen_error_gives_nothing_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("trsp_jobs.service.get_job", broken)
    with capture_logs() as logs:
        answer = api.client.get("/v1/jobs/job_" + "0" * 26)
    assert is_problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert logs[0]["request_id"] == answer.headers["x-request-id"]


def test_request_ids_are_taken_over_if_they_are_harmless(api: Api) -> None:
    assert api.client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert api.client.get("/healthz", headers={"X-Request-ID": "a b<"}).headers["x-request-id"] != "a b<"


def test_only_this_servers_names_are_answered(api: Api) -> None:
    for host in ("localhost:8000", "127.0.0.1", "[::1]:99"):
        assert api.client.get("/healthz", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "localhost.evil.example", "[::1", ""):
        assert is_problem(api.client.get("/healthz", headers={"Host": host}), 421, "misdirected-host")


def test_changes_from_other_sites_are_refused(api: Api) -> None:
    address = f"/v1/jobs/{api.submit()['id']}/cancel"
    foreign = (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    )
    for headers in foreign:
        assert is_problem(api.client.post(address, headers=headers), 403, "cross-site"), headers
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost"}):
        assert api.client.post(address, headers=headers).status_code == 200


def test_a_service_that_nobody_could_enter_does_not_start(settings: Settings) -> None:
    with pytest.raises(MissingKey, match="TRSP_API_KEY"):
        create_app(settings.model_copy(update={"api_key": None}))
    with pytest.raises(MissingKey, match="TRSP_SECRET"):
        create_app(settings.model_copy(update={"secret": None}))


def test_the_names_that_it_answers_to_follow_from_where_it_listens(settings: Settings) -> None:
    wildcard = settings.model_copy(update={"host": "0.0.0.0"})
    assert allowed_hosts(wildcard) == frozenset()
    public = wildcard.model_copy(update={"public_url": "https://trsp.example.org/"})
    assert "trsp.example.org" in allowed_hosts(public)


def test_a_browser_gets_a_page_that_says_what_to_do(api: Api) -> None:
    browser = {"Accept": "text/html,*/*"}
    page = api.client.get("/jobs/job_" + "0" * 26, headers=browser)
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "There is no such job" in page.text
    assert page.headers["x-request-id"] in page.text
    assert api.client.get("/v1/jobs/x", headers=browser).headers["content-type"] == "application/problem+json"


def test_every_problem_type_has_its_page(api: Api) -> None:
    for kind in KINDS:
        page = api.client.get(kind.uri)
        assert page.status_code == 200
        assert str(escape(kind.title)) in page.text
    assert all(kind.uri in api.client.get("/problems").text for kind in KINDS)
    assert api.client.get("/problems/nothing").status_code == 404


def test_nothing_inline_may_run(api: Api) -> None:
    policy = api.client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_real_services_are_made_from_the_settings(settings: Settings) -> None:
    with TestClient(create_app(settings), base_url="http://localhost", headers=BEARER) as client:
        assert client.get("/v1/jobs").json() == {"items": [], "next_cursor": None}
