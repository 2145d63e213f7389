"""Whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from trsp_core import files
from trsp_core.errors import OutputRefused, StorageFull
from trsp_core.files import (
    check_room,
    exclusive,
    folder_written_whole,
    sha256_of,
    storage_errors,
    write_bytes_atomically,
    write_json_atomically,
    write_text_atomically,
)


def test_files_are_written_whole_with_the_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_json_atomically(path, {"ž": [1, None]})
    assert json.loads(path.read_text()) == {"ž": [1, None]}
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    write_text_atomically(path, "new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_what_json_cannot_carry_leaves_the_old_file(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "a", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json_atomically(tmp_path / "a", float("nan"))
    assert (tmp_path / "a").read_text() == "1\n"


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes_atomically(tmp_path / "a", b"old")

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="broken disk"):
        write_bytes_atomically(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with folder_written_whole(tmp_path / "out") as part:
        (part / "sub").mkdir()
        (part / "sub" / "f").write_text("x")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "sub" / "f").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_folder_leaves_nothing_and_the_old_one(tmp_path: Path) -> None:
    with folder_written_whole(tmp_path / "out") as part:
        (part / "f").write_text("old")

    def interrupted() -> None:
        with folder_written_whole(tmp_path / "out", replace=True) as part:
            (part / "f").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "f").read_text() == "old"


def test_a_folder_is_replaced_only_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OutputRefused, match="not empty"), folder_written_whole(tmp_path / "out"):
        pass
    with folder_written_whole(tmp_path / "out", replace=True) as part:
        (part / "f").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["f"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputRefused, match="is a file"),
        folder_written_whole(tmp_path / "file", replace=True),
    ):
        pass


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with folder_written_whole(tmp_path / "out") as part:
        (part / "f").touch()
    assert (tmp_path / "out" / "f").exists()


def test_what_a_killed_process_left_goes_and_what_a_living_one_makes_stays(tmp_path: Path) -> None:
    for name in (".out.abcdefgh.part", ".out.x.abcdefgh.part", ".out.abcdefg.part", ".other.abcdefgh.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    (tmp_path / ".out.link_ed_.part").symlink_to(tmp_path / ".other.abcdefgh.part")
    with folder_written_whole(tmp_path / "out") as living:
        with folder_written_whole(tmp_path / "out") as other:
            (other / "f").touch()
        assert living.is_dir()
        (tmp_path / "out" / "f").unlink()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "out",
        ".out.x.abcdefgh.part",
        ".out.abcdefg.part",
        ".other.abcdefgh.part",
        ".out.link_ed_.part",
    }
    assert (tmp_path / ".other.abcdefgh.part" / "half").exists()


def test_parts_may_be_nested(tmp_path: Path) -> None:
    with folder_written_whole(tmp_path / "out") as part, folder_written_whole(part / "inner") as inner:
        (inner / "f").touch()
    assert (tmp_path / "out" / "inner" / "f").exists()


def test_a_part_that_was_taken_for_abandoned_before_its_lock_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = files._lock, []

    def late(folder: Path, how: int) -> int | None:
        if not taken:
            taken.append(folder)
            folder.rmdir()
        return lock(folder, how)

    monkeypatch.setattr(files, "_lock", late)
    with folder_written_whole(tmp_path / "out") as part:
        assert part not in taken
        (part / "f").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="is full"), storage_errors(tmp_path):
        raise OSError(errno.ENOSPC, "no")
    with pytest.raises(PermissionError), storage_errors(tmp_path):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(StorageFull, match="are needed"):
        check_room(tmp_path / "not" / "yet", 2**62)
    check_room(tmp_path / "not" / "yet", 1)


def test_a_lock_keeps_others_out(tmp_path: Path) -> None:
    import fcntl

    with exclusive(tmp_path / "lock"), (tmp_path / "lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with exclusive(tmp_path / "lock"):
        pass


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(3 * 1024 * 1024 + 1)
    (tmp_path / "f").write_bytes(data)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(data).hexdigest()
