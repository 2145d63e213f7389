"""Live streams: woken by the database, cheap while nobody waits, whole whatever breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from api.routes import events
from tests.api.conftest import BEARER, KEY, Api
from tests.api.serving import read_sse, served
from tests.api.work import claim, fail, say, tell
from tests.servers import Postgres
from trsp_cli.client import Client
from trsp_core.progress import Progress
from trsp_jobs.leases import Claim, JobError

pytestmark = pytest.mark.integration


def wait_until(what: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@contextmanager
def following(url: str, address: str, **headers: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Collect what a stream says, in a thread, until the stream ends."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def read() -> None:
        with httpx.stream("GET", url + address, headers={**BEARER, **headers}, timeout=30) as answer:
            for item in read_sse(answer.iter_lines()):
                seen.append(item)

    thread = threading.Thread(target=read)
    thread.start()
    yield seen
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def never_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only notices to wake a stream."""
    monkeypatch.setattr("api.live.POLL_SECONDS", 1e9)


@pytest.mark.usefixtures("never_polled")
def test_an_event_reaches_its_streams_at_once(api: Api, postgres: Postgres) -> None:
    job, other = api.submit(), api.submit()
    held = claim(api, job["id"])
    claim(api, other["id"])
    with served(api) as (url, _, _), following(url, f"/v1/jobs/{job['id']}/events/stream") as seen:
        wait_until(lambda: len(seen) == 2 and postgres.listeners() == 1)
        for step in range(3):
            begun = time.monotonic()
            tell(api, held, Progress("stage1", step, 3, 0.1))
            wait_until(lambda known=step + 4: len(seen) >= known, 2)
            assert time.monotonic() - begun < 1
        fail(api, held, JobError("x", "broken"))
    assert [data["sequence"] for name, data in seen if name != "end"] == list(range(1, len(seen)))
    assert seen[-1][0] == "end"


def test_nothing_listens_while_nobody_waits(api: Api, postgres: Postgres) -> None:
    job = api.submit()
    held = claim(api, job["id"])
    with served(api) as (url, _, _):
        assert postgres.listeners() == 0
        with following(url, f"/v1/jobs/{job['id']}/events/stream"), ThreadPoolExecutor() as pool:
            address = f"/v1/jobs/{job['id']}/logs/stream"
            reading = [pool.submit(httpx.get, url + address, headers=BEARER, timeout=20) for _ in range(4)]
            wait_until(lambda: postgres.listeners() == 1)
            fail(api, held, JobError("x", "broken"))
            assert all(item.result().text.startswith("event: end") for item in reading)
        wait_until(lambda: postgres.listeners() == 0)


def test_streams_of_one_job_share_what_is_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = events.read_frames

    def counted(*arguments: Any) -> Any:
        reads.append(1)
        return read(*arguments)

    monkeypatch.setattr("api.routes.events.read_frames", counted)
    job = api.submit()
    held = claim(api, job["id"])
    with served(api) as (url, _, _), ThreadPoolExecutor(20) as pool:
        get = partial(
            httpx.get, f"{url}/v1/jobs/{job['id']}/events/stream?after=2", headers=BEARER, timeout=20
        )
        reading = [pool.submit(get) for _ in range(20)]
        time.sleep(2)
        del reads[:]
        fail(api, held, JobError("x", "broken"))
        assert len({item.result().text for item in reading}) == 1
    assert len(reads) <= 4


def test_a_restarted_database_loses_and_repeats_nothing(api: Api, postgres: Postgres) -> None:
    job = api.submit()
    held = claim(api, job["id"])
    address = f"/v1/jobs/{job['id']}"
    with (
        served(api) as (url, _, _),
        following(url, f"{address}/events/stream") as told,
        following(url, f"{address}/logs/stream") as said,
    ):
        wait_until(lambda: len(told) == 2 and postgres.listeners() == 1)
        _work(api, held, 0)
        wait_until(lambda: len(said) == 1)
        postgres.restart()
        _work(api, held, 1)
        _work(api, held, 2)
        wait_until(lambda: postgres.listeners() == 1)
        _work(api, held, 3)
        fail(api, held, JobError("x", "broken"))
    *events_seen, end = told
    assert [data["sequence"] for _, data in events_seen] == list(range(1, len(told)))
    assert end == ("end", {"status": "failed"})
    assert "".join(data["text"] for name, data in said if name == "log") == "0\n1\n2\n3\n"
    assert said[-1] == ("end", {"attempt": 1, "offset": 8})


def _work(api: Api, held: Claim, step: int) -> None:
    """Report a step and a line; connections of before the restart are tested by the pool."""
    tell(api, held, Progress("stage1", step, 4, 0.1))
    say(api, held, 2 * step, f"{step}\n".encode())


@pytest.mark.usefixtures("never_polled")
def test_a_log_is_followed_by_byte_offset(api: Api) -> None:
    job = api.submit()
    with served(api) as (url, _, _), Client(url, KEY) as client:
        pieces = client.stream_log(job["id"])
        held = claim(api, job["id"])
        text = "häßlich\n".encode()
        say(api, held, 0, text[:2])
        assert next(pieces) == "h"
        say(api, held, 2, text[2:])
        assert next(pieces) == "äßlich\n"
        fail(api, held, JobError("x", "broken"))
        assert list(pieces) == []
        address = f"{url}/v1/jobs/{job['id']}/logs/stream"
        again = httpx.get(address, headers={**BEARER, "Last-Event-ID": "1:5"}).text
        assert [data["text"] for name, data in read_sse(again.split("\n")) if name == "log"] == ["lich\n"]


@pytest.mark.parametrize("given", ["1", "1:", ":1", "1:x", "1:99999999999999999999", "1-2"])
def test_a_wrong_place_in_a_log_is_refused(api: Api, given: str) -> None:
    job = api.submit()
    answer = api.client.get(f"/v1/jobs/{job['id']}/logs/stream", headers={"Last-Event-ID": given})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/header/last-event-id"
