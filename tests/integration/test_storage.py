"""One contract over every store: memory, folder, and S3 on a strict and on a faithful server."""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import S3Server, free_port
from trsp_jobs.errors import ArtifactNotFound, DamagedFile, StoreUnavailable
from trsp_jobs.storage import ArtifactStore, S3Access, open_store, part_bytes
from trsp_jobs.testing import MemoryStore

pytestmark = pytest.mark.integration


@pytest.fixture(params=["memory", "folder", "rclone", "moto"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "folder":
        return open_store((tmp_path / "a store").as_uri())
    server: S3Server = request.getfixturevalue(request.param)
    return open_store(f"{server.store_url}/{secrets.token_hex(4)}", server.access)


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[[bytes], Path]:
    def make(content: bytes) -> Path:
        path = tmp_path / secrets.token_hex(4)
        path.write_bytes(content)
        return path

    return make


def read(store: ArtifactStore, path: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join(store.open_range(path, start, end))


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 9 * 1024 * 1024 + 7])
def test_what_is_put_is_read_back(
    store: ArtifactStore, make_file: Callable[[bytes], Path], size: int
) -> None:
    content = os.urandom(size)
    stored = store.put_file("jobs/a/model.safetensors", make_file(content))
    assert (stored.size, stored.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert read(store, "jobs/a/model.safetensors") == content
    assert store.stat("jobs/a/model.safetensors").size == size


def test_ranges_are_half_open_and_end_with_the_file(
    store: ArtifactStore, make_file: Callable[[bytes], Path]
) -> None:
    content = os.urandom(2_500_000)
    store.put_file("f", make_file(content))
    for start, end in [(0, 1), (10, 20), (1_000_000, 2_400_000), (2_499_999, None), (0, 9_999_999)]:
        assert read(store, "f", start, end) == content[start:end]
    for start, end in [(5, 5), (2_500_000, None), (3_000_000, 3_000_001)]:
        assert read(store, "f", start, end) == b""


def test_pieces_are_small(store: ArtifactStore, make_file: Callable[[bytes], Path]) -> None:
    store.put_file("f", make_file(bytes(3_000_000)))
    assert max(len(piece) for piece in store.open_range("f")) <= 1024 * 1024


def test_a_second_put_replaces_the_first(store: ArtifactStore, make_file: Callable[[bytes], Path]) -> None:
    store.put_file("f", make_file(b"first and longer"))
    store.put_file("f", make_file(b"second"))
    assert read(store, "f") == b"second"


def test_names_with_spaces_and_letters_of_the_world(
    store: ArtifactStore, make_file: Callable[[bytes], Path]
) -> None:
    name = "a b/größe+1=2 & 100%.txt"
    store.put_file(name, make_file(b"x"))
    assert read(store, name) == b"x"
    assert [item.path for item in store.list("a b")] == [name]


def test_a_list_holds_the_folder_and_no_neighbour(
    store: ArtifactStore, make_file: Callable[[bytes], Path]
) -> None:
    for path in ("jobs/a/x", "jobs/a/deep/er/y", "jobs/ab/z", "jobs/a.txt"):
        store.put_file(path, make_file(path.encode()))
    found = {item.path: item.size for item in store.list("jobs/a")}
    assert found == {"jobs/a/x": 8, "jobs/a/deep/er/y": 16}


def test_delete_removes_the_folder_and_no_neighbour(
    store: ArtifactStore, make_file: Callable[[bytes], Path]
) -> None:
    for path in ("jobs/a/x", "jobs/a/deep/y", "jobs/ab/z"):
        store.put_file(path, make_file(b"1"))
    assert store.delete("jobs/a") == 2
    assert store.delete("jobs/a") == 0
    assert [item.path for item in store.list("jobs")] == ["jobs/ab/z"]


def test_single_files_are_deleted_and_those_that_are_gone_are_no_error(
    store: ArtifactStore, make_file: Callable[[bytes], Path]
) -> None:
    for path in ("jobs/a/x", "jobs/a/y", "jobs/a/z"):
        store.put_file(path, make_file(b"1"))
    assert store.delete_files(["jobs/a/x", "jobs/a/z"]) == 2
    store.delete_files(["jobs/a/x"])
    assert store.delete_files([]) == 0
    assert [item.path for item in store.list("jobs/a")] == ["jobs/a/y"]


def test_folders_are_those_right_below(store: ArtifactStore, make_file: Callable[[bytes], Path]) -> None:
    for path in ("jobs/b/x", "jobs/a/deep/y", "jobs/a/z", "jobs/file", "jobsish/c/x"):
        store.put_file(path, make_file(b"1"))
    assert store.folders("jobs") == ["a", "b"]
    assert store.folders("nothing") == []


def test_a_file_is_fetched_whole_and_only_if_its_hash_is_right(
    store: ArtifactStore, make_file: Callable[[bytes], Path], tmp_path: Path
) -> None:
    content = os.urandom(3_000_000)
    stored = store.put_file("f", make_file(content))
    target = tmp_path / "fetched" / "f"
    target.parent.mkdir()
    store.fetch_file("f", target, sha256=stored.sha256)
    assert target.read_bytes() == content
    store.put_file("f", make_file(content[:-1] + b"!"))
    for other in (target, target.with_name("g")):
        with pytest.raises(DamagedFile, match="SHA-256"):
            store.fetch_file("f", other, sha256=stored.sha256)
    assert [path.name for path in target.parent.iterdir()] == ["f"]
    assert target.read_bytes() == content
    with pytest.raises(ArtifactNotFound):
        store.fetch_file("g", target.with_name("g"), sha256=stored.sha256)


CUT_OFF = """
import sys, time
from pathlib import Path
from trsp_jobs import storage

class Slow(storage._Hashing):
    def __iter__(self):
        for number, piece in enumerate(super().__iter__()):
            if number == 24:
                print("half", flush=True)
                time.sleep(600)
            yield piece

storage._Hashing = Slow
access = storage.S3Access(*sys.argv[3:]) if len(sys.argv) > 3 else None
storage.open_store(sys.argv[1], access).put_file("jobs/a/cut off", Path(sys.argv[2]))
"""


@pytest.fixture(params=["folder", "rclone", "moto"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, S3Access | None]:
    """Where a store is that outlives a process."""
    if request.param == "folder":
        return (tmp_path / "a store").as_uri(), None
    server: S3Server = request.getfixturevalue(request.param)
    return f"{server.store_url}/{secrets.token_hex(4)}", server.access


def test_what_a_killed_upload_leaves_is_no_file_and_is_removed(
    place: tuple[str, S3Access | None], make_file: Callable[[bytes], Path]
) -> None:
    url, access = place
    content = make_file(os.urandom(40_000_000))
    given = [] if access is None else [str(access.endpoint), access.region, access.key_id, access.secret]
    command = [sys.executable, "-c", CUT_OFF, url, str(content), *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"half\n"
        running.kill()
    store = open_store(url, access)
    store.put_file("jobs/a/whole #1 of 2", make_file(b"1"))
    with pytest.raises(ArtifactNotFound):
        store.stat("jobs/a/cut off")
    assert store.abort_uploads(3600 * 24 * 365 * 40) == 0
    assert store.abort_uploads(0) == 1
    assert store.abort_uploads(0) == 0
    assert [item.path for item in store.list("jobs")] == ["jobs/a/whole #1 of 2"]
    store.put_file("jobs/a/cut off", content)
    assert read(store, "jobs/a/cut off") == content.read_bytes()


def test_large_files_have_no_more_parts_than_s3_takes() -> None:
    assert part_bytes(0) == part_bytes(80 * 2**30 // 2) == 8 * 2**20
    for size in (80 * 10**9, 5 * 10**12):
        assert part_bytes(size) * 10_000 >= size


def test_broken_uploads_of_a_store_that_is_away_or_locked_are_told(rclone: S3Server, tmp_path: Path) -> None:
    away = open_store("s3://bucket", S3Access(f"http://127.0.0.1:{free_port()}", "us-east-1", "k", "s"))
    with pytest.raises(StoreUnavailable):
        away.abort_uploads(0)
    locked = S3Access(rclone.access.endpoint, "us-east-1", rclone.access.key_id, "wrong")
    with pytest.raises(StoreUnavailable, match="403"):
        open_store(rclone.store_url, locked).abort_uploads(0)


def test_without_a_key_pair_broken_uploads_are_left_to_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert open_store("s3://bucket", S3Access(f"http://127.0.0.1:{free_port()}")).abort_uploads(0) == 0


@pytest.mark.parametrize(
    "path", ["missing", "jobs", "", "/etc/passwd", "../up", "jobs/../../up", "a\\b", "a\0b"]
)
def test_paths_that_lead_nowhere_are_not_found(
    store: ArtifactStore, make_file: Callable[[bytes], Path], path: str
) -> None:
    store.put_file("jobs/a", make_file(b"1"))
    with pytest.raises(ArtifactNotFound):
        store.stat(path)
    with pytest.raises(ArtifactNotFound):
        store.open_range(path)


def test_a_file_is_seen_whole_or_not_at_all(store: ArtifactStore, make_file: Callable[[bytes], Path]) -> None:
    first, second = make_file(b"1" * 9_000_000), make_file(b"2" * 9_000_000)
    store.put_file("f", first)
    done, mixed = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            content = b"".join(store.open_range("f", 0, 1_000_000))
            mixed.append(len(set(content)) != 1 or len(content) != 1_000_000)

    reader = threading.Thread(target=look)
    reader.start()
    store.put_file("f", second)
    done.set()
    reader.join()
    assert not any(mixed)


def test_a_wrong_secret_is_told_as_unavailable(rclone: S3Server, make_file: Callable[[bytes], Path]) -> None:
    access = S3Access(rclone.access.endpoint, "us-east-1", rclone.access.key_id, "wrong")
    store = open_store(rclone.store_url, access)
    with pytest.raises(StoreUnavailable):
        store.put_file("f", make_file(b"1"))
    with pytest.raises(StoreUnavailable):
        store.stat("f")


def test_a_server_that_is_away_is_told_as_unavailable_soon(make_file: Callable[[bytes], Path]) -> None:
    store = open_store("s3://bucket", S3Access(f"http://127.0.0.1:{free_port()}", "us-east-1", "k", "s"))
    with pytest.raises(StoreUnavailable):
        store.put_file("f", make_file(b"1"))
    with pytest.raises(StoreUnavailable):
        list(store.list("jobs"))


def test_a_folder_that_cannot_be_written_is_told_as_unavailable(
    tmp_path: Path, make_file: Callable[[bytes], Path]
) -> None:
    store = open_store((tmp_path / "store").as_uri())
    (tmp_path / "store" / "jobs").write_bytes(b"a file where a folder must be")
    with pytest.raises(StoreUnavailable):
        store.put_file("jobs/a", make_file(b"1"))


@pytest.mark.parametrize("url", ["folder", "http://host/x", "s3://", "file://"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="store_url is"):
        open_store(url)
