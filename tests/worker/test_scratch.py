from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from worker.scratch import Scratch, idle_folders, remove_old, write_whole

SLEEP = "import time; time.sleep(60)"
FAMILY = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
print("up", flush=True)
{SLEEP}
"""


def start(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def test_an_attempt_begins_with_an_empty_tmp_and_keeps_the_work(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "job_a")
    scratch.prepare({"spec": 1})
    (scratch.tmp / "left").write_text("x")
    (scratch.out / "checkpoint").mkdir()
    scratch.prepare({"spec": 2})
    assert list(scratch.tmp.iterdir()) == []
    assert (scratch.out / "checkpoint").is_dir()
    assert json.loads(scratch.request.read_bytes()) == {"spec": 2}


def test_a_leftover_group_is_killed_even_if_its_leader_is_gone(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    leader = start(FAMILY)
    assert leader.stdout is not None
    assert leader.stdout.readline() == b"up\n"
    (grandchild,) = psutil.Process(leader.pid).children()
    scratch.record_child(leader.pid)
    end(leader)
    assert grandchild.status() != psutil.STATUS_ZOMBIE
    assert scratch.kill_leftover() == 1
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE
    assert scratch.kill_leftover() == 0


def test_a_stranger_with_the_same_number_is_left_alone(tmp_path: Path) -> None:
    scratch, stranger = Scratch(tmp_path), start(SLEEP)
    scratch.record_child(stranger.pid)
    record = json.loads((tmp_path / "child.json").read_bytes())
    write_whole(tmp_path / "child.json", json.dumps({**record, "started": record["started"] - 100}).encode())
    assert scratch.kill_leftover() == 0
    assert stranger.poll() is None
    end(stranger)


def test_a_broken_record_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "child.json").write_text('{"pid": "x"')
    assert Scratch(tmp_path).kill_leftover() == 0


def test_results_are_plain_files_without_checkpoint(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    for name in ("report.json", "model/a.safetensors", "model/checkpoint/x", "checkpoint/y", "b.part"):
        path = scratch.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (scratch.out / "link").symlink_to("/etc/passwd")
    (scratch.out / "folder").symlink_to(tmp_path)
    os.mkfifo(scratch.out / "fifo")
    found = {path.relative_to(scratch.out).as_posix() for path in scratch.results()}
    assert found == {"report.json", "model/a.safetensors", "model/checkpoint/x"}


def test_idle_folders_are_those_of_jobs_not_written_to_for_long(tmp_path: Path) -> None:
    for name, age in [("job_old", 100), ("job_new", 0), ("other", 100)]:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert [item.root.name for item in idle_folders(tmp_path, 50)] == ["job_old"]
    assert idle_folders(tmp_path / "missing", 50) == []


def test_what_was_not_written_to_for_long_is_removed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_text("x")
        (tmp_path / f"{name}-folder").mkdir()
    for name in ("old", "old-folder"):
        os.utime(tmp_path / name, (time.time() - 100,) * 2)
    remove_old(tmp_path, 60)
    remove_old(tmp_path / "nothing", 60)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "new-folder"}
