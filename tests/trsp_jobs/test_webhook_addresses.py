"""Where webhooks must not go, and what a hostile receiver cannot do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsp_jobs import webhook_addresses
from trsp_jobs.errors import AddressRefused
from trsp_jobs.webhook_addresses import checked_url, is_public
from trsp_jobs.webhooks import Message, secret_of, send

INNER = (
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "fe80::1%eth0", "fec0::1", "fd00::1", "ff02::1",
    "2001:db8::1",
)  # fmt: skip
SPELLED = (
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://localhost/",
    "https://localhost./",
    "https://LOCALHOST/",
    "https://0x7f000001/",
    "https://017700000001/",
    "https://127.0.0.1./",
    "https://127.000.000.001/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:ffff:a9fe:a9fe]/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://metadata.google.internal/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/latest/meta-data/",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://8.8.8.8@127.0.0.1/",
    "https://127.0.0.1:443\\@8.8.8.8/",
)
REFUSED = (
    "http://8.8.8.8/", "ftp://8.8.8.8/", "file:///etc/passwd", "gopher://8.8.8.8/", "//8.8.8.8/", "8.8.8.8",
    "https:///path", "https://user@8.8.8.8/", "https://user:pass@8.8.8.8/", "https://8.8.8.8/#fragment",
    "https://8.8.8.8:99999/", "https://[::1", "https://exa mple/", "", "https://no-such-name.invalid/",
)  # fmt: skip


@pytest.mark.parametrize("address", INNER)
def test_an_inner_address_is_not_public(address: str) -> None:
    assert not is_public(address)
    plain = address.partition("%")[0]
    with pytest.raises(AddressRefused, match="no public address"):
        checked_url(f"https://[{plain}]/" if ":" in plain else f"https://{plain}/", allow_private=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_a_public_address_is_taken(address: str) -> None:
    assert is_public(address)
    url = f"https://[{address}]/hook" if ":" in address else f"https://{address}/hook?a=1"
    assert checked_url(url, allow_private=False) == url


@given(st.ip_addresses(v=4, network="127.0.0.0/8") | st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_no_way_of_mapping_makes_an_inner_address_public(address: Any) -> None:
    assert not is_public(str(address))
    assert not is_public(f"::ffff:{address}")
    assert not is_public(f"64:ff9b::{address}")


@pytest.mark.parametrize("url", SPELLED)
def test_an_inner_address_spelled_otherwise_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        checked_url(url, allow_private=False)


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_no_public_https_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        checked_url(url, allow_private=False)


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let every name resolve to the answers, one after the other; return the names that were asked for."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        address = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (item, port)) for item in address.split()]

    monkeypatch.setattr(webhook_addresses.socket, "getaddrinfo", resolve)
    return asked


def test_one_inner_address_among_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "8.8.8.8 10.0.0.1")
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        checked_url("https://both.example/", allow_private=False)


def message(url: str) -> Message:
    return Message("msg_1", url, {"type": "job.succeeded"}, [secret_of("s" * 16, "wh_1", 1)])


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket of this machine that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


def test_a_name_that_changes_its_meaning_is_found_out_when_it_is_sent_to(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    asked = resolving(monkeypatch, "8.8.8.8", "127.0.0.1")
    url = f"https://rebound.example:{listener.getsockname()[1]}/"
    assert checked_url(url, allow_private=False) == url
    answer = send(message(url), allow_private=False)
    assert (answer.status, "127.0.0.1, which is no public address" in answer.error) == (None, True)
    assert asked == ["rebound.example", "rebound.example"]
    listener.settimeout(0.2)
    with pytest.raises(TimeoutError):
        listener.accept()


def drain(connection: socket.socket) -> None:
    """Read what is still to come, so that closing tears nothing."""
    connection.settimeout(5)
    try:
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    except OSError:
        return


def serve(listener: socket.socket, answer: bytes, pause: float) -> threading.Thread:
    """Answer one request byte by byte."""

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            for byte in answer:
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
                time.sleep(pause)
            drain(connection)

    thread = threading.Thread(target=drip)
    thread.start()
    return thread


def test_a_receiver_that_drips_is_left_in_time(listener: socket.socket) -> None:
    thread = serve(listener, b"HTTP/1.1 500 No\r\nX: " + b"a" * 2000, 0.05)
    begun = time.monotonic()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    answer = send(message(url), allow_private=True, seconds=0.5)
    assert answer.status is None
    assert "too long" in answer.error or "timed out" in answer.error
    assert time.monotonic() - begun < 3
    thread.join(5)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_receiver_that_points_elsewhere_is_not_followed(listener: socket.socket, status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inner:
        inner.settimeout(0.2)
        place = f"http://127.0.0.1:{inner.getsockname()[1]}/latest/meta-data/"
        head = f"HTTP/1.1 {status} Go\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"
        thread = serve(listener, head.encode(), 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert send(message(url), allow_private=True).status == status
        with pytest.raises(TimeoutError):
            inner.accept()
        thread.join(5)


def test_of_a_long_answer_only_the_beginning_is_read(listener: socket.socket) -> None:
    head = b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n"
    thread = serve(listener, head + b"b" * 5000, 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    answer = send(message(url), allow_private=True)
    assert answer.status == 500
    assert len(answer.error) < 300
    thread.join(5)
