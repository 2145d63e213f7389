"""Webhooks over HTTP: what is taken, what is refused, what is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import SECRET, Api
from tests.api.keys import hold
from trsp_jobs.webhooks import secret_of

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def open_api(make_api: Callable[..., Api]) -> Api:
    """An application whose webhooks may go to this machine."""
    return make_api(webhook_allow_private=True)


def create(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/webhooks", json={"url": URL, **body})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/webhooks/{answer.json()['id']}"
    return dict(answer.json())


def test_the_secret_is_shown_when_it_is_made_and_when_it_is_rotated(open_api: Api) -> None:
    made = create(open_api)
    address = f"/v1/webhooks/{made['id']}"
    assert made["secret"] == secret_of(SECRET, made["id"], 1)
    assert made["events"] == ["job.canceled", "job.failed", "job.succeeded", "job.timed_out"]
    rotated = open_api.client.post(f"{address}/rotate-secret").json()
    assert rotated["secret"] == secret_of(SECRET, made["id"], 2)
    assert rotated["former_until"] is not None
    for path in (address, "/v1/webhooks"):
        assert "whsec_" not in open_api.client.get(path).text


@pytest.mark.parametrize("url", ["http://8.8.8.8/", "https://127.0.0.1/", "https://169.254.169.254/", "no"])
def test_an_address_that_is_not_public_is_refused(api: Api, url: str) -> None:
    answer = api.client.post("/v1/webhooks", json={"url": url})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/url"


def test_an_unknown_event_is_refused_by_name(open_api: Api) -> None:
    answer = open_api.client.post("/v1/webhooks", json={"url": URL, "events": ["job.succeded"]})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/events/0")


def test_deliveries_come_in_pages_and_are_sent_again(open_api: Api) -> None:
    made = create(open_api, events=["job.queued"])
    for _ in range(3):
        open_api.submit()
    address = f"/v1/webhooks/{made['id']}/deliveries"
    first = open_api.client.get(address, params={"limit": 2}).json()
    rest = open_api.client.get(address, params={"limit": 2, "after": first["next_cursor"]}).json()
    assert (len(first["items"]), len(rest["items"]), rest["next_cursor"]) == (2, 1, None)
    assert open_api.client.get(address, params={"status": "failed"}).json()["items"] == []
    again = open_api.client.post(f"{address}/{rest['items'][0]['id']}/redeliver")
    assert (again.status_code, again.json()["status"], again.json()["tries"]) == (202, "pending", 0)
    assert open_api.client.delete(f"/v1/webhooks/{made['id']}").status_code == 204
    assert open_api.client.get(address).json()["type"] == "/problems/webhook-not-found"


def test_a_job_names_a_webhook_of_its_own_owner(open_api: Api) -> None:
    made = create(open_api, events=[])
    assert open_api.submit(webhook=made["id"])["status"] == "queued"
    other = hold(open_api, owner="other").bearer
    for body, headers in (({"webhook": made["id"]}, other), ({"webhook": "https://example.org/"}, {})):
        answer = open_api.client.post("/v1/jobs", json={**open_api.spec, **body}, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/webhook"
    assert open_api.client.delete(f"/v1/webhooks/{made['id']}").status_code == 204
    assert len(open_api.client.get("/v1/jobs").json()["items"]) == 1


@pytest.mark.parametrize(
    "path", ["x", "wh_%00", "wh_" + "0" * 26, "wh_" + "0" * 26 + "/deliveries/x/redeliver"]
)
def test_an_id_of_nothing_is_404(api: Api, path: str) -> None:
    method = "POST" if path.endswith("redeliver") else "GET"
    answer = api.client.request(method, f"/v1/webhooks/{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/webhook-not-found")
