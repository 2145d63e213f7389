from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.trsp_jobs.conftest import Submit
from trsp_jobs import db, log_pieces
from trsp_jobs.log_pieces import PIECE_BYTES, Said
from trsp_jobs.logs import TAIL_BYTES, AttemptLog


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


@pytest.mark.integration
def test_pieces_are_read_at_any_offset(sessions: sessionmaker[Session], submit: Submit) -> None:
    job_id = submit()
    whole = bytes(range(256)) * 600
    cuts = [0, 3, 10, 10 + PIECE_BYTES, 12 + PIECE_BYTES, 12 + 2 * PIECE_BYTES, len(whole)]
    pieces = [Said(start, whole[start:end]) for start, end in itertools.pairwise(cuts)]
    with db.session_scope(sessions) as session:
        assert log_pieces.size(session, job_id, 1) is None
        log_pieces.add(session, job_id, 1, pieces[:3])
        log_pieces.add(session, job_id, 1, pieces[2:])
    with db.session_scope(sessions) as session:
        assert log_pieces.size(session, job_id, 1) == len(whole)
        for offset in (0, 1, 3, 9, 11 + PIECE_BYTES, 70_000, len(whole) - 1, len(whole), len(whole) + 5):
            for limit in (1, 7, PIECE_BYTES, len(whole)):
                found = log_pieces.read(session, job_id, 1, offset, limit)
                assert found == whole[offset : offset + limit], (offset, limit)
        assert log_pieces.read(session, job_id, 2, 0, 10) == b""
        log_pieces.forget(session, job_id, [1])
        assert log_pieces.size(session, job_id, 1) is None
