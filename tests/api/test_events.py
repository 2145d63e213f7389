"""Events: pages and the stream tell the same, once each, in order, to the end."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from tests.api.conftest import BEARER, KEY, Api
from tests.api.serving import read_sse, served
from tests.api.work import claim, fail, tell, work_until
from tests.servers import Postgres
from trsp_cli.client import Client
from trsp_core.progress import Progress
from trsp_jobs.leases import JobError


def stream(api: Api, job_id: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    """Read a stream of a finished job to its end."""
    answer = api.client.get(f"/v1/jobs/{job_id}/events/stream", **options)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(read_sse(answer.text.split("\n")))


@pytest.fixture
def finished(api: Api) -> str:
    """Id of a job that failed in stage 1."""
    job = api.submit()
    held = claim(api, job["id"])
    work_until(api, held, "stage1")
    fail(api, held, JobError("out_of_memory", "no memory"))
    return str(job["id"])


def test_pages_hold_every_event_in_order(api: Api, finished: str) -> None:
    address = f"/v1/jobs/{finished}/events"
    whole = api.client.get(address).json()
    assert [item["sequence"] for item in whole["items"]] == list(range(1, len(whole["items"]) + 1))
    assert whole["final"]
    assert whole["items"][-1]["data"]["to"] == "failed"
    parts, after, final = [], 0, False
    while not final:
        page = api.client.get(address, params={"after": after, "limit": 2}).json()
        parts += page["items"]
        after, final = page["next_after"], page["final"]
    assert parts == whole["items"]


def test_the_stream_tells_the_same_and_ends(api: Api, finished: str) -> None:
    page = api.client.get(f"/v1/jobs/{finished}/events").json()["items"]
    *events, end = stream(api, finished)
    assert [data for _, data in events] == page
    assert [name for name, _ in events] == [item["kind"] for item in page]
    assert end == ("end", {"status": "failed"})


def test_a_long_stream_is_read_in_batches(api: Api, finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stream(api, finished)
    for size in (1, 2, len(whole) - 1):
        monkeypatch.setattr("api.routes.events.BATCH", size)
        assert stream(api, finished) == whole


def test_a_stream_goes_on_after_the_last_event_that_the_client_has(api: Api, finished: str) -> None:
    every = stream(api, finished)
    for cut in range(len(every)):
        assert stream(api, finished, headers={"Last-Event-ID": str(cut)}) == every[cut:]
    assert stream(api, finished, params={"after": 2}) == every[2:]
    both = stream(api, finished, params={"after": 2}, headers={"Last-Event-ID": "3"})
    assert both == every[3:]


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 30, "²"])
def test_a_wrong_last_event_id_is_refused(api: Api, finished: str, given: str) -> None:
    headers = {"Last-Event-ID": given.encode()}
    answer = api.client.get(f"/v1/jobs/{finished}/events/stream", headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/header/last-event-id"


def test_events_arrive_while_the_job_works_and_none_twice_after_a_break(api: Api) -> None:
    job = api.submit()
    held = claim(api, job["id"])
    with served(api) as (url, _, _), httpx.Client(base_url=url, timeout=20, headers=BEARER) as client:
        address = f"/v1/jobs/{job['id']}/events/stream"
        seen: list[int] = []
        while len(seen) < 8:
            with client.stream("GET", address, headers={"Last-Event-ID": str(len(seen))}) as answer:
                for _, data in read_sse(answer.iter_lines()):
                    seen.append(data["sequence"])
                    tell(api, held, Progress("stage1", len(seen), 20, 0.1))
                    if len(seen) % 3 == 0:
                        break
        assert seen == list(range(1, len(seen) + 1))


def test_an_open_stream_does_not_hold_the_server_up(api: Api) -> None:
    job = api.submit()
    with (
        served(api) as (url, server, thread),
        httpx.Client(base_url=url, timeout=20, headers=BEARER) as client,
    ):
        with client.stream("GET", f"/v1/jobs/{job['id']}/events/stream") as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("event: status")
            begun = time.monotonic()
            server.handle_exit(15, None)
            rest = list(lines)
        thread.join(15)
        assert time.monotonic() - begun < 5
        assert not any(line == "event: end" for line in rest)


def test_the_client_follows_through_a_database_outage(api: Api, postgres: Postgres) -> None:
    job = api.submit()
    held = claim(api, job["id"])
    with served(api) as (url, _, _), Client(url, KEY) as client:
        events = client.events(job["id"])
        first = next(events)
        with postgres.outage():
            time.sleep(1.5)
        tell(api, held, Progress("stage1", 1, 2, 0.5))
        fail(api, held, JobError("x", "broken"))
        rest = list(events)
    assert [event.sequence for event in [first, *rest]] == list(range(1, len(rest) + 2))
    assert rest[-1].data["to"] == "failed"
    assert json.dumps(rest[-1].data)
