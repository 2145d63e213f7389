"""Clients that trickle, stall, send too much or come in crowds: each is told so, and none holds the server."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api import bodies
from api.connections import BoundedProtocol
from api.main import MAX_BODY_BYTES
from tests.api.conftest import KEY, Api
from tests.api.serving import served
from tests.api.work import claim, succeed

SHORT = 0.4
"""Seconds that clients are given here."""
HEAD = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\n"


@dataclass(frozen=True)
class Answer:
    """What came back over a raw connection: status and problem type, and whether the server closed it."""

    status: int
    type: str
    closed: bool


@pytest.fixture
def port(make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server with little patience, and room for three connections."""
    monkeypatch.setattr(BoundedProtocol, "head_seconds", SHORT)
    monkeypatch.setattr(BoundedProtocol, "stall_seconds", SHORT)
    monkeypatch.setattr(bodies.BodyLimit.__init__, "__defaults__", (SHORT, 100_000.0))
    with served(make_api(connection_limit=3)) as (url, _, _):
        yield int(url.rpartition(":")[2])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read(connection: socket.socket) -> Answer:
    """Read one problem, and whether the connection ends after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (piece := connection.recv(65536))
        assert piece, f"closed without an answer: {data!r}"
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    length = int(next(line.split(":")[1] for line in lines if line.startswith("content-length")))
    while len(body) < length:
        body += connection.recv(65536)
    assert "content-type: application/problem+json" in lines
    connection.settimeout(2)
    try:
        closed = connection.recv(1) == b""
    except TimeoutError:
        closed = False
    except ConnectionResetError:
        closed = True
    return Answer(int(lines[0].split()[1]), json.loads(body)["type"], closed)


def trickle(connection: socket.socket, data: bytes, pause: float) -> None:
    """Send byte after byte, until the other side has had enough."""
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(pause)


def test_a_head_that_trickles_is_ended(port: int) -> None:
    with connect(port) as connection:
        begun = time.monotonic()
        trickle(connection, b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 40, 0.05)
        assert read(connection) == Answer(408, "/problems/request-timeout", closed=True)
        assert time.monotonic() - begun < 5


def test_a_connection_that_says_nothing_is_ended(port: int) -> None:
    with connect(port) as connection:
        assert read(connection) == Answer(408, "/problems/request-timeout", closed=True)


def test_the_head_of_a_second_request_has_its_own_time(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        trickle(connection, b"GET /healthz HTTP/1.1\r\nX-A: " + b"a" * 40, 0.05)
        assert read(connection) == Answer(408, "/problems/request-timeout", closed=True)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/calibration-sets?name=a&kind=text", "/login"])
@pytest.mark.parametrize("pause", [0.05, 30])
def test_a_body_that_trickles_or_stalls_is_ended(port: int, path: str, pause: float) -> None:
    with connect(port) as connection:
        head = f"POST {path} HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: 400\r\n\r\n"
        connection.sendall(head.encode() + b"{")
        if pause < 1:
            trickle(connection, b'"a": 1' * 4, pause)
        assert read(connection) == Answer(408, "/problems/request-timeout", closed=True)


def test_chunks_without_end_are_counted(port: int) -> None:
    with connect(port) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            for _ in range(MAX_BODY_BYTES // 65536 + 2):
                connection.sendall(piece)
        except OSError:
            pass
        assert read(connection) == Answer(413, "/problems/too-large", closed=True)


def test_a_large_body_that_comes_steadily_is_taken_however_long_it_takes(port: int) -> None:
    data = b"Some text of mine. " * 10_000
    with connect(port) as connection:
        path = "/v1/calibration-sets?name=a&kind=text"
        connection.sendall(f"POST {path} HTTP/1.1\r\n{HEAD}Content-Length: {len(data)}\r\n\r\n".encode())
        for start in range(0, len(data), 20_000):
            connection.sendall(data[start : start + 20_000])
            time.sleep(0.08)
        assert connection.recv(65536).startswith(b"HTTP/1.1 201")


def test_a_body_that_nobody_reads_does_not_keep_the_connection(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
        assert read(connection) == Answer(401, "/problems/unauthorized", closed=True)


def test_what_is_no_http_is_answered_with_a_problem(port: int) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET  / \r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    ):
        with connect(port) as connection:
            connection.sendall(data)
            assert read(connection) == Answer(400, "/problems/bad-request", closed=True)


@pytest.mark.parametrize(
    "lengths", ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n",
                "Content-Length: -1\r\n", "Content-Length: +5\r\n", "Transfer-Encoding: chunked, identity\r\n"]
)  # fmt: skip
def test_a_request_with_two_ends_is_not_smuggled(port: int, lengths: str) -> None:
    inner = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(port) as connection:
        connection.sendall(f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n".encode() + inner)
        assert read(connection).status in (400, 401)
        assert read_rest(connection) == b""


def read_rest(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def test_one_connection_too_many_is_told_to_come_later(port: int) -> None:
    held = [connect(port) for _ in range(3)]
    try:
        for connection in held:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        with connect(port) as connection:
            assert read(connection) == Answer(503, "/problems/unavailable", closed=True)
    finally:
        for connection in held:
            connection.close()


def test_a_client_that_does_not_read_its_file_is_left(
    make_api: Callable[..., Api], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(BoundedProtocol, "stall_seconds", SHORT)
    api = make_api()
    job_id = api.submit()["id"]
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "big.bin").write_bytes(bytes(32 << 20))
    succeed(api, claim(api, job_id), tmp_path / "made")
    with served(api) as (url, server, _), connect(int(url.rpartition(":")[2])) as connection:
        connection.sendall(f"GET /v1/jobs/{job_id}/artifacts/big.bin HTTP/1.1\r\n{HEAD}\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        deadline = time.monotonic() + 10
        while server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.server_state.connections
