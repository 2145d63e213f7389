"""Links that download one file without a key, the same from a folder and from S3."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from api.deps import Services
from api.main import create_app
from tests.api.conftest import BEARER, SECRET, Api
from tests.api.keys import OWN, hold
from tests.api.serving import served
from tests.api.work import claim, succeed
from tests.servers import S3Server
from trsp_jobs.scopes import ALL, Scope
from trsp_jobs.settings import Settings
from trsp_jobs.storage import ArtifactStore, open_store
from trsp_jobs.testing import RecordingDispatcher

NAME = "model/weights ü.bin"
CONTENT = bytes(range(256)) * 12_000


@dataclass
class Shop:
    """An application on one of the stores, a job with files, and a visitor without a key."""

    api: Api
    job_id: str
    visitor: TestClient

    def links(self, headers: dict[str, str] = BEARER, **body: Any) -> dict[str, dict[str, Any]]:
        answer = self.api.client.post(f"/v1/jobs/{self.job_id}/links", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return {item["path"]: item for item in answer.json()["items"]}

    def problem(self, url: str) -> tuple[int, str, str]:
        answer = self.visitor.get(url)
        return answer.status_code, answer.json()["type"], answer.json()["detail"]


def application(settings: Settings, sessions: sessionmaker[Session], store: ArtifactStore) -> TestClient:
    services = Services(settings, sessions, store, RecordingDispatcher())
    return TestClient(create_app(settings, services), base_url="http://localhost", headers=BEARER)


@pytest.fixture(params=["folder", "rclone", "moto"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return open_store((tmp_path / "a store").as_uri())
    server: S3Server = request.getfixturevalue(request.param)
    return open_store(f"{server.store_url}/{secrets.token_hex(4)}", server.access)


@pytest.fixture
def shop(
    settings: Settings, sessions: sessionmaker[Session], store: ArtifactStore, tmp_path: Path
) -> Iterator[Shop]:
    services = Services(settings, sessions, store, RecordingDispatcher())
    app = create_app(settings, services)
    with TestClient(app, base_url="http://localhost", headers=BEARER) as client:
        spec = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}
        api = Api(client, services, RecordingDispatcher(), store, spec)  # type: ignore[arg-type]
        job_id, folder = str(api.submit()["id"]), tmp_path / "result"
        (folder / "model").mkdir(parents=True)
        (folder / NAME).write_bytes(CONTENT)
        succeed(api, claim(api, job_id), folder)
        yield Shop(api, job_id, TestClient(app, base_url="http://localhost"))


def test_a_link_downloads_its_file_without_a_key(shop: Shop) -> None:
    links = shop.links()
    assert set(links) == {"report.json", "report.html", "report.csv", NAME}
    for item in links.values():
        answer = shop.visitor.get(item["url"])
        assert answer.status_code == 200
        assert hashlib.sha256(answer.content).hexdigest() == item["sha256"]
        assert len(answer.content) == item["size"]
    link = links[NAME]
    assert link["url"].startswith("http://localhost/links/")
    assert link["url"].endswith("/weights%20%C3%BC.bin")
    left = datetime.fromisoformat(link["expires_at"]).timestamp() - time.time()
    assert 3500 < left <= 3600
    whole = shop.visitor.get(link["url"])
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''weights%20%C3%BC.bin"
    part = shop.visitor.get(link["url"], headers={"Range": "bytes=1000000-1999999"})
    assert (part.status_code, part.content) == (206, CONTENT[1_000_000:2_000_000])
    head = shop.visitor.head(link["url"])
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))
    tag = {"If-None-Match": whole.headers["etag"]}
    assert shop.visitor.get(link["url"], headers=tag).status_code == 304
    assert shop.visitor.get(link["url"], headers={"Range": "bytes=99999999-"}).status_code == 416


def test_a_damaged_file_never_arrives_as_a_whole_one(shop: Shop, tmp_path: Path) -> None:
    links = shop.links()
    for name, size in ((NAME, len(CONTENT)), ("report.csv", links["report.csv"]["size"])):
        (tmp_path / "other").write_bytes(bytes(size))
        shop.api.store.put_file(f"jobs/{shop.job_id}/attempts/1/{name}", tmp_path / "other")
    with served(shop.api) as (url, _, _), pytest.raises(httpx.RemoteProtocolError):
        httpx.get(links[NAME]["url"].replace("http://localhost", url))
    status, kind, detail = shop.problem(links["report.csv"]["url"])
    assert (status, kind) == (500, "/problems/file-damaged")
    assert "SHA-256" in detail


@pytest.fixture
def made(api: Api, tmp_path: Path) -> Shop:
    """The same on a store in memory."""
    job_id = str(api.submit()["id"])
    succeed(api, claim(api, job_id), tmp_path / "result")
    return Shop(api, job_id, TestClient(api.client.app, base_url="http://localhost"))


def test_a_link_ends_when_it_expires(made: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    link = made.links(paths=["report.json"], seconds=60)["report.json"]
    now = time.time()
    monkeypatch.setattr("api.routes.links.time.time", lambda: now + 58)
    assert made.visitor.get(link["url"]).status_code == 200
    monkeypatch.setattr("api.routes.links.time.time", lambda: now + 61)
    assert made.problem(link["url"]) == (410, "/problems/link-ended", "the link has expired")


def test_a_link_is_for_its_one_file(made: Shop) -> None:
    links = made.links(paths=["report.json", "report.csv"])
    token = links["report.json"]["url"].split("/")[-2]
    renamed = made.visitor.get(f"/links/{token}/report.csv")
    assert hashlib.sha256(renamed.content).hexdigest() == links["report.json"]["sha256"]
    assert "report.json" in renamed.headers["content-disposition"]
    for forged in (token[:-1] + ("A" if token[-1] != "A" else "B"), "x", token.split(".")[0], "%00"):
        assert made.visitor.get(f"/links/{forged}/report.json").status_code == 404
    assert made.problem(f"/links/{token[1:]}/x")[1] == "/problems/link-unknown"
    assert made.visitor.post(links["report.json"]["url"]).status_code == 405
    assert made.visitor.get(f"/v1/jobs/{made.job_id}").status_code == 401


def test_a_link_ends_with_its_file(made: Shop) -> None:
    link = made.links()["report.json"]
    assert made.api.client.delete(f"/v1/jobs/{made.job_id}").status_code == 204
    status, kind, detail = made.problem(link["url"])
    assert (status, kind, "is gone" in detail) == (410, "/problems/link-ended", True)


def test_a_link_ends_with_its_key(made: Shop) -> None:
    key = hold(made.api, ALL, owner="team")
    link = made.links(key.bearer)["report.json"]
    assert made.visitor.get(link["url"]).status_code == 200
    assert made.api.client.delete(f"/v1/keys/{key.id}").status_code == 204
    assert "was revoked" in made.problem(link["url"])[2]


def test_links_outlive_a_change_of_the_secret_only_while_the_former_one_is_named(
    made: Shop, settings: Settings, sessions: sessionmaker[Session]
) -> None:
    link = made.links()["report.json"]["url"]
    changed = {"secret": SecretStr("another-secret-of-the-tests")}
    kept = {**changed, "former_secret": SecretStr(SECRET)}
    for changes, status in ((changed, 404), (kept, 200)):
        with application(settings.model_copy(update=changes), sessions, made.api.store) as client:
            del client.headers["Authorization"]
            assert client.get(link).status_code == status


def test_the_address_is_the_public_one(make_api: Callable[..., Api], tmp_path: Path) -> None:
    api = make_api(public_url="https://trsp.example/")
    job_id = str(api.submit()["id"])
    succeed(api, claim(api, job_id), tmp_path / "result")
    answer = api.client.post(f"/v1/jobs/{job_id}/links", json={"paths": ["report.json"]})
    assert answer.json()["items"][0]["url"].startswith("https://trsp.example/links/")


def test_making_links_is_in_the_audit_and_asks_for_a_right(made: Shop) -> None:
    made.links(paths=["report.json"])
    entries = made.api.client.get("/v1/audit", params={"subject": made.job_id}).json()["items"]
    assert [entry["action"] for entry in entries].count("files.create") == 1
    reader = hold(made.api, ALL - {Scope.JOBS_WRITE}, owner="operator")
    address = f"/v1/jobs/{made.job_id}/links"
    assert made.api.client.post(address, json={}, headers=reader.bearer).status_code == 403
    other = hold(made.api, OWN, owner="other")
    assert made.api.client.post(address, json={}, headers=other.bearer).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"paths": ["nothing"]}, 404, "nothing"),
        ({"paths": ["a\0b"]}, 404, "there is no file"),
        ({"seconds": 0}, 422, "/seconds"),
        ({"seconds": 8 * 86400}, 422, "/seconds"),
        ({"paths": [""]}, 422, "/paths/0"),
        ({"second": 1}, 422, "/second"),
    ],
)
def test_what_cannot_be_linked_is_refused(made: Shop, body: dict[str, Any], status: int, said: str) -> None:
    answer = made.api.client.post(f"/v1/jobs/{made.job_id}/links", json=body)
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


def test_a_job_without_files_has_no_links(api: Api) -> None:
    answer = api.client.post(f"/v1/jobs/{api.submit()['id']}/links")
    assert (answer.status_code, answer.json()) == (201, {"items": []})
