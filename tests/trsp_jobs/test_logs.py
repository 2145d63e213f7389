from __future__ import annotations

from pathlib import Path

from trsp_jobs.logs import TAIL_BYTES, AttemptLog, local_log, read_log, stored_log
from trsp_jobs.testing import MemoryStore


def test_output_is_kept_as_it_is(tmp_path: Path) -> None:
    log = AttemptLog(tmp_path / "deep" / "1.log", 1_000_000)
    log.write(b"first\n")
    assert (tmp_path / "deep" / "1.log").read_bytes() == b"first\n"
    log.write(b"second\n")
    log.close()
    log.close()
    assert (tmp_path / "deep" / "1.log").read_bytes() == b"first\nsecond\n"


def test_of_too_much_output_the_beginning_and_the_end_are_kept(tmp_path: Path) -> None:
    log = AttemptLog(tmp_path / "1.log", TAIL_BYTES + 1000)
    log.write(b"begin" + b"a" * 995)
    for _ in range(100):
        log.write(b"x" * 50_000)
    log.write(b"the traceback")
    log.close()
    kept = (tmp_path / "1.log").read_bytes()
    assert kept.startswith(b"begin" + b"a" * 995)
    assert kept.endswith(b"xthe traceback")
    left_out = 100 * 50_000 + 13 - TAIL_BYTES
    assert b"\n[%d bytes left out]\n" % left_out in kept
    assert len(kept) < TAIL_BYTES + 1100


def test_a_log_is_read_by_offset_while_it_runs_and_afterwards(tmp_path: Path) -> None:
    store = MemoryStore()
    path = local_log(tmp_path, "job_a", 2)

    def read(offset: int, limit: int = 100) -> tuple[bytes, int]:
        chunk = read_log("job_a", 2, offset, work_dir=tmp_path, store=store, limit=limit)
        return chunk.data, chunk.next_offset

    assert read(0) == (b"", 0)
    log = AttemptLog(path, 1_000_000)
    log.write(b"0123456789")
    assert read(0, 4) == (b"0123", 4)
    assert read(4) == (b"456789", 10)
    assert read(10) == (b"", 10)
    log.close()
    store.put_file(stored_log("job_a", 2), path)
    path.unlink()
    assert read(4, 3) == (b"456", 7)
    assert read(10) == (b"", 10)
