"""`trsp keys` and `trsp webhooks`, and the client's calls behind them, on a served application."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.api.conftest import Api
from tests.api.serving import served
from tests.trsp_cli.conftest import Said, Service
from trsp_cli.client import Client, Refused

Trsp = Callable[..., Said]


@pytest.fixture
def service(make_api: Callable[..., Api]) -> Iterator[Service]:
    """The application on a port; its webhooks may go to this machine."""
    api = make_api(webhook_allow_private=True)
    with served(api) as (url, _, _):
        yield Service(api, url)


def test_a_key_is_made_used_listed_and_revoked(trsp: Trsp, service: Service) -> None:
    options = ("--owner", "team", "--scope", "jobs:read", "--days", "1", "--max-queued", "2")
    made = trsp("--json", "keys", "create", "ci", *options, url=service.url).json
    assert (made["owner"], made["scopes"], made["max_queued"]) == ("team", ["jobs:read"], 2)
    with Client(service.url, made["key"]) as client:
        assert client.list()["items"] == []
        with pytest.raises(Refused, match="lacks the right jobs:write"):
            client.submit(service.api.spec)
        said = trsp("keys", "list")
        assert made["id"] in said.out
        assert made["key"] not in said.out
        assert trsp("keys", "revoke", made["id"]).code == 0
        with pytest.raises(Refused, match="was revoked"):
            client.list()
    assert "revoked" in trsp("keys", "list").out
    assert trsp("keys", "revoke", "key_0").code == 2
    plain = trsp("keys", "create", "other")
    assert plain.out.startswith("trsp_")
    assert "shown this once" in plain.err


def test_a_webhook_is_made_watched_and_deleted(trsp: Trsp, service: Service) -> None:
    made = trsp(
        "--json", "webhooks", "create", "http://127.0.0.1:9/", "--event", "job.queued", url=service.url
    ).json
    assert made["secret"].startswith("whsec_")
    submitted = trsp(
        "--json", "jobs", "submit", "demo:smollm2-135m", "--calibration", "python-docs", "--sparsity", "0.25",
        "--webhook", made["id"],
    ).json  # fmt: skip
    said = trsp("webhooks", "deliveries", made["id"])
    assert submitted["id"] in said.out
    (item,) = trsp("--json", "webhooks", "deliveries", made["id"]).json["items"]
    assert trsp("webhooks", "redeliver", made["id"], item["id"]).code == 0
    assert trsp("webhooks", "rotate-secret", made["id"]).out.startswith("whsec_")
    assert made["url"] in trsp("webhooks", "list").out
    assert trsp("webhooks", "delete", made["id"]).code == 0
    assert "no webhooks" in trsp("webhooks", "list").out
    refused = trsp("webhooks", "create", "ftp://example.org/")
    assert (refused.code, "https://HOST/PATH" in refused.err) == (2, True)


def test_usage_and_audit_are_told_to_scripts(service: Service, client: Client) -> None:
    job = client.submit(service.api.spec)
    assert [row["jobs"] for row in client.usage()] == [1]
    assert [item["action"] for item in client.audit(subject=job["id"])["items"]] == ["jobs.create"]
