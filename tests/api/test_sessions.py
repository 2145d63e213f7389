"""The dashboard's sessions: a browser's way in, and what other sites and rebound names cannot do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.authentication import COOKIE
from api.dashboard.login import local
from tests.api.conftest import KEY, Api
from tests.api.keys import hold
from trsp_jobs.scopes import Scope

PAGE = {"Accept": "text/html"}
SAME = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}


def browser(api: Api, **options: Any) -> TestClient:
    """Return a client without a key, which keeps cookies and follows nothing."""
    return TestClient(api.client.app, base_url="http://localhost", follow_redirects=False, **options)


def sign_in(client: TestClient, key: str = KEY, wanted: str = "/") -> Any:
    return client.post("/login", data={"key": key, "next": wanted}, headers=SAME)


def test_who_has_no_session_is_asked_for_a_key_and_comes_back(api: Api) -> None:
    client = browser(api)
    away = client.get("/jobs/job_x?fragment=true", headers=PAGE)
    assert away.status_code == 303
    assert away.headers["location"] == "/login?next=%2Fjobs%2Fjob_x%3Ffragment%3Dtrue"
    form = client.get(away.headers["location"], headers=PAGE)
    assert 'value="/jobs/job_x?fragment=true"' in form.text
    assert "Sign out" not in form.text
    done = sign_in(client, wanted="/jobs/job_x?fragment=true")
    assert (done.status_code, done.headers["location"]) == (303, "/jobs/job_x?fragment=true")
    assert client.get("/", headers=PAGE).status_code == 200
    assert client.get("/v1/jobs").status_code == 200


def test_the_cookie_is_closed_to_scripts_and_holds_no_key(make_api: Callable[..., Api]) -> None:
    cookie = sign_in(browser(make_api())).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    assert KEY not in cookie
    public = make_api(public_url="https://localhost")
    assert "Secure" in sign_in(browser(public)).headers["set-cookie"]


def test_a_wrong_key_begins_no_session(api: Api) -> None:
    client = browser(api)
    answer = sign_in(client, "wrong")
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    assert "cut short or mistyped" in answer.text
    assert client.post("/login", content=b"\xff=%ff&&=", headers=SAME).status_code == 401


def test_a_session_ends_with_its_key_with_sign_out_and_by_forgery(api: Api) -> None:
    held, client = hold(api), browser(api)
    sign_in(client, held.key)
    assert client.get("/", headers=PAGE).status_code == 200
    api.client.delete(f"/v1/keys/{held.id}")
    assert client.get("/", headers=PAGE).status_code == 303
    sign_in(client)
    cookie = client.cookies[COOKIE]
    client.cookies.clear()
    for forged in (cookie[:-2] + "xx", "x", cookie.partition(".")[0], "ü"):
        assert client.get("/v1/jobs", headers=[(b"cookie", f"{COOKIE}={forged}".encode())]).status_code == 401
    sign_in(client)
    assert client.post("/logout", headers=SAME).headers["location"] == "/login"
    assert client.get("/", headers=PAGE).status_code == 303


def test_other_sites_change_nothing_with_a_session(api: Api) -> None:
    made, client = api.submit(), browser(api)
    sign_in(client)
    foreign: tuple[dict[str, str], ...] = (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost@evil.example"},
        {"Origin": "http://evil.example/localhost"},
        {"Origin": "http://localhost:81"},
        {"Origin": "localhost"},
        {"Sec-Fetch-Site": "", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "SAME-ORIGIN"},
        {"Sec-Fetch-Site": "same-origin, cross-site"},
        {},
    )
    for path in (f"/jobs/{made['id']}/cancel", f"/v1/jobs/{made['id']}/cancel"):
        for headers in foreign:
            answer = client.post(path, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (403, "/problems/cross-site"), headers
    assert client.post("/login", data={"key": KEY}, headers=foreign[0]).status_code == 403
    assert client.post(f"/jobs/{made['id']}/cancel", headers=SAME).status_code == 303


def test_a_rebound_name_reaches_nothing_even_with_a_session(api: Api) -> None:
    client = browser(api)
    sign_in(client)
    cookie = f"{COOKIE}={client.cookies[COOKIE]}"
    for name in (
        *("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "[::1", "", "localhost@evil.example"),
        *(
            "evil.example:80#localhost",
            "evil.example/localhost",
            "[::ffff:127.0.0.1]",
            "0x7f.1",
            "2130706433",
        ),
        *(
            "localhost.",
            "localhost, evil.example",
            "evil.example\tlocalhost",
            "[::1]evil.example",
            ":80",
            "@",
            "evil@localhost",
            "localhost:x",
        ),
    ):
        for path in ("/", "/v1/jobs", "/login", "/healthz"):
            answer = client.get(path, headers={"Host": name, "Cookie": cookie})
            assert answer.status_code == 421, (name, path)


def test_a_session_has_the_rights_of_its_key(api: Api) -> None:
    made, client = api.submit(), browser(api)
    sign_in(client, hold(api, {Scope.JOBS_READ}, owner="operator").key)
    assert client.get(f"/jobs/{made['id']}", headers=PAGE).status_code == 200
    refused = client.post(f"/jobs/{made['id']}/cancel", headers=SAME)
    assert (refused.status_code, "lacks the right jobs:write" in refused.text) == (403, True)


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/\\evil.example", "https://evil.example", "evil", "", "/a\r\nb", "javascript:1"],
)
def test_signing_in_leads_nowhere_else(path: str) -> None:
    assert local(path) == "/"


def test_what_is_open_tells_nothing_of_jobs(api: Api) -> None:
    made = api.submit()
    client = browser(api)
    for path in ("/healthz", "/readyz", "/version", "/login", "/problems", "/problems/forbidden"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert made["id"] not in answer.text
    assert client.get("/openapi.json").status_code == 401
