"""The HTTP client: its errors, its event stream, its downloads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.api.work import claim, fail, say, succeed, work_until
from tests.trsp_cli.conftest import Service
from trsp_cli.client import BrokenDownload, Client, Refused, Unreachable, inside
from trsp_cli.transport import read_events
from trsp_jobs.leases import JobError


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> Client:
    """Return a client whose requests a function answers."""
    return Client("http://service", transport=httpx.MockTransport(handler))


def test_the_whole_way_of_a_job(service: Service, client: Client, tmp_path: Path) -> None:
    job = client.submit({**service.api.spec, "labels": {"a": "b"}})
    assert client.validate(service.api.spec)["layers_to_remove"] == 8
    assert client.get(job["id"])["status"] == "queued"
    assert [item["id"] for item in client.list(label="a=b", status=None)["items"]] == [job["id"]]
    succeed(service.api, claim(service.api, job["id"]), tmp_path / "made")
    assert client.wait(job["id"], timeout=5)["status"] == "succeeded"
    assert len(client.report(job["id"])["plan"]["removed_layers"]) == 8
    written = client.download_all(job["id"], tmp_path / "got")
    assert [path.name for path in written] == ["report.csv", "report.html", "report.json"]
    for path in written:
        assert path.read_bytes() == (tmp_path / "made" / path.name).read_bytes()
    assert not [path for path in (tmp_path / "got").iterdir() if path.name.startswith(".")]


def test_events_are_followed_to_the_end(service: Service, client: Client) -> None:
    job = client.submit(service.api.spec)
    held = claim(service.api, job["id"])
    work_until(service.api, held, "stage1")
    fail(service.api, held, JobError("x", "broken"))
    events = list(client.events(job["id"]))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].data["to"] == "failed"
    assert [event.sequence for event in client.events(job["id"], after=3)] == list(range(4, len(events) + 1))
    assert client.retry(job["id"])["status"] == "queued"
    assert client.cancel(job["id"])["status"] == "canceled"


def test_a_torn_stream_is_taken_up_where_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trsp_cli.client.PAUSE_SECONDS", 0.01)
    asked: list[str] = []

    def event(number: int) -> str:
        data = f'{{"sequence": {number}, "kind": "status", "attempt": 0, "at": "", "data": {{}}}}'
        return f"event: status\ndata: {data}\nid: {number}\n\n"

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["last-event-id"])
        if len(asked) == 2:
            raise httpx.ConnectError("away")
        texts = {1: event(1) + event(2), 3: ": ping\n\n" + event(3) + event(4)[:20], 4: event(4)}
        end = "event: end\ndata: {}\n\n" if len(asked) == 4 else ""
        return httpx.Response(200, text=texts[len(asked)] + end)

    found = [item.sequence for item in answering(handler).events("job_x")]
    assert found == [1, 2, 3, 4]
    assert asked == ["0", "2", "2", "3"]


def test_patience_ends() -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    with pytest.raises(Unreachable, match="does not answer"):
        list(answering(away).events("job_x", patience=0))


def test_refusals_carry_the_problem(service: Service, client: Client) -> None:
    with pytest.raises(Refused) as caught:
        client.submit({"model": "demo:smollm2-135m"})
    assert caught.value.status == 422
    assert {item["pointer"] for item in caught.value.problem["errors"]} == {"/target", "/calibration"}
    with pytest.raises(Refused, match="there is no job"):
        client.logs("job_" + "0" * 26)


def test_logs_come_piece_by_piece(service: Service, client: Client) -> None:
    job = client.submit(service.api.spec)
    held = claim(service.api, job["id"])
    say(service.api, held, 0, b"one\n")
    assert list(client.follow_logs(job["id"], to_the_end=False)) == ["one\n"]
    say(service.api, held, 4, b"two\n")
    fail(service.api, held, JobError("x", "broken"))
    assert "".join(client.follow_logs(job["id"])) == "one\ntwo\n"


def test_nobody_there_and_not_ready_are_both_unreachable() -> None:
    with pytest.raises(Unreachable, match="is the service up"):
        Client("http://127.0.0.1:1").version()
    busy = answering(lambda _: httpx.Response(503, json={"title": "The database", "detail": "is away"}))
    with pytest.raises(Unreachable, match="is away"):
        busy.get("job_x")
    broken = answering(lambda _: httpx.Response(502, text="<html>"))
    with pytest.raises(Refused, match="<html>"):
        broken.get("job_x")


def test_a_lost_answer_is_asked_for_again_under_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trsp_cli.transport.FIRST_PAUSE_SECONDS", 0.01)
    keys: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.ReadError("torn")
        if len(keys) == 2:
            return httpx.Response(503, json={"title": "The database", "detail": "is away"})
        return httpx.Response(202, json={"id": "job_x"})

    client = answering(handler)
    assert client.submit({})["id"] == "job_x"
    assert len(keys) == 3
    assert len(set(keys)) == 1
    client.clone("job_x", idempotency_key="mine")
    assert keys[3] == "mine" != keys[2]


def test_what_is_refused_or_not_there_is_asked_for_once() -> None:
    sent: list[str] = []

    def refused(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        return httpx.Response(409, json={"title": "no"})

    with pytest.raises(Refused):
        answering(refused).retry("job_x")
    assert sent == ["/v1/jobs/job_x/retry"]

    def away(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        raise httpx.ConnectError("away")

    with pytest.raises(Unreachable):
        answering(away).submit({})
    assert len(sent) == 2


def test_every_job_comes_page_by_page(client: Client, service: Service) -> None:
    ids = [client.submit(service.api.spec)["id"] for _ in range(3)]
    assert [job["id"] for job in client.every(limit=2)] == ids[::-1]
    assert [job["id"] for job in client.every(limit=1, sort="created_at", status=["queued", "failed"])] == ids
    tag = client.etag(ids[0])
    assert client.cancel(ids[0], etag=tag)["status"] == "canceled"
    with pytest.raises(Refused) as caught:
        client.delete(ids[0], etag=tag)
    assert caught.value.status == 412
    client.delete(ids[0])
    assert [item["name"] for item in client.methods()]
    assert client.attempts(ids[1]) == []


def test_a_file_with_another_hash_is_not_kept(tmp_path: Path) -> None:
    client = answering(lambda _: httpx.Response(200, content=b"other"))
    with pytest.raises(BrokenDownload, match="SHA-256"):
        client.download("job_x", "a/b.txt", tmp_path / "b.txt", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_a_service_cannot_write_outside_of_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(BrokenDownload, match="outside"):
        inside(tmp_path, path)


def test_events_are_read_as_the_standard_says() -> None:
    lines = [
        ":x",
        "event: a",
        "data: {",
        'data: "b": 1}',
        "",
        "data:2",
        "",
        "event: lost",
        "",
        'data: {"c"',
        "id: 1",
    ]
    assert list(read_events(["id: 7", *lines])) == [("7", "a", {"b": 1}), ("7", "message", 2)]
