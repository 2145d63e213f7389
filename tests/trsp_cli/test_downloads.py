"""Downloads that break off and go on: no byte twice, no byte wrong, nothing half there under its name."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.work import claim, succeed
from tests.trsp_cli.conftest import Said, Service
from trsp_cli.client import BrokenDownload, Client, Unreachable
from trsp_cli.downloads import TRIES

DATA = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Tearing(httpx.SyncByteStream):
    """A body that breaks off after some bytes."""

    def __init__(self, data: bytes, keep: int) -> None:
        self._data, self._keep = data, keep

    def __iter__(self) -> Iterator[bytes]:
        yield self._data[: self._keep]
        if self._keep < len(self._data):
            raise httpx.ReadError("torn")


class Server:
    """Serves DATA with ranges, each answer torn after `keep` bytes."""

    def __init__(self, keep: int = len(DATA), tag: str = SHA256) -> None:
        self.keep, self.tag = keep, tag
        self.asked: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers.get("range"))
        start = 0
        if request.headers.get("if-range") == f'"{self.tag}"':
            start = int(request.headers["range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(DATA):
            return httpx.Response(416, json={"title": "no such range"})
        stream = Tearing(DATA[start:], self.keep)
        return httpx.Response(206 if start else 200, stream=stream)

    def client(self) -> Client:
        return Client("http://service", transport=httpx.MockTransport(self))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trsp_cli.downloads.PAUSE_SECONDS", 0)


def download(client: Client, target: Path, seen: list[int] | None = None) -> None:
    client.download(
        "job_x", "a b/c.bin", target, sha256=SHA256, on_bytes=lambda _, done: (seen or []).append(done)
    )


def test_a_torn_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    server = Server(keep=1_000_000)
    seen = [0]
    download(server.client(), tmp_path / "c.bin", seen)
    assert (tmp_path / "c.bin").read_bytes() == DATA
    assert server.asked == [None, "bytes=1000000-", "bytes=2000000-"]
    assert seen == sorted(seen)
    assert [path.name for path in tmp_path.iterdir()] == ["c.bin"]


def test_another_call_goes_on_from_the_kept_part(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        first = Server(keep=0)
        (tmp_path / f".c.bin.{SHA256[:16]}.part").write_bytes(DATA[:123_456])
        download(first.client(), tmp_path / "c.bin")
    assert first.asked == ["bytes=123456-"] * TRIES
    assert not (tmp_path / "c.bin").exists()
    server = Server()
    download(server.client(), tmp_path / "c.bin")
    assert server.asked == ["bytes=123456-"]
    assert (tmp_path / "c.bin").read_bytes() == DATA


def test_a_part_of_other_content_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / ".c.bin.0123456789abcdef.part").write_bytes(b"something else")
    server = Server()
    download(server.client(), tmp_path / "c.bin")
    assert server.asked == [None]
    assert (tmp_path / "c.bin").read_bytes() == DATA


def test_what_changed_on_the_server_begins_anew(tmp_path: Path) -> None:
    part = tmp_path / f".c.bin.{SHA256[:16]}.part"
    part.write_bytes(b"x" * 10)
    server = Server(tag="another")
    download(server.client(), tmp_path / "c.bin")
    assert server.asked == ["bytes=10-"]
    assert (tmp_path / "c.bin").read_bytes() == DATA


@pytest.mark.parametrize("part", [DATA, b"x" * len(DATA), b"x" * (len(DATA) + 5)])
def test_a_part_that_is_as_long_as_the_file_is_judged_by_its_hash(tmp_path: Path, part: bytes) -> None:
    kept = tmp_path / f".c.bin.{SHA256[:16]}.part"
    kept.write_bytes(part)
    if part == DATA:
        download(Server().client(), tmp_path / "c.bin")
        assert (tmp_path / "c.bin").read_bytes() == DATA
    else:
        with pytest.raises(BrokenDownload, match="SHA-256"):
            download(Server().client(), tmp_path / "c.bin")
        assert list(tmp_path.iterdir()) == []


def test_a_spoiled_part_is_found_out_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / f".c.bin.{SHA256[:16]}.part").write_bytes(b"x" * 1000)
    with pytest.raises(BrokenDownload):
        download(Server().client(), tmp_path / "c.bin")
    assert list(tmp_path.iterdir()) == []
    download(Server().client(), tmp_path / "c.bin")
    assert (tmp_path / "c.bin").read_bytes() == DATA


def test_the_service_continues_a_part_and_leaves_what_is_there(
    service: Service, trsp: Callable[..., Said], tmp_path: Path
) -> None:
    made, got = tmp_path / "made", tmp_path / "got"
    job_id = service.api.submit()["id"]
    made.mkdir()
    (made / "big.bin").write_bytes(DATA)
    succeed(service.api, claim(service.api, job_id), made)
    got.mkdir()
    (got / f".big.bin.{SHA256[:16]}.part").write_bytes(DATA[:1_234_567])
    said = trsp("--json", "jobs", "download", job_id, "--out", str(got), url=service.url)
    assert sorted(Path(item).name for item in said.json["files"]) == [
        "big.bin", "report.csv", "report.html", "report.json"
    ]  # fmt: skip
    assert (got / "big.bin").read_bytes() == DATA
    before = (got / "big.bin").stat().st_mtime_ns
    assert trsp("jobs", "download", job_id, "--out", str(got)).code == 0
    assert (got / "big.bin").stat().st_mtime_ns == before
    assert "big.bin" in trsp("jobs", "artifacts", job_id).out
