"""Uploaded texts on their way to the child, with the store there, away, wrong, or empty."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.worker.conftest import Bench
from trsp_core.config import CompressionSpec
from trsp_core.errors import CalibrationRefused
from trsp_jobs import db, service
from trsp_jobs.errors import StoreUnavailable
from trsp_jobs.inputs import calibration_sets
from trsp_jobs.inputs.calibration_sets import ReceivedText
from trsp_jobs.inputs.rows import CalibrationSet
from worker.ending import Outcome
from worker.staging import fetch

pytestmark = pytest.mark.integration
TEXT = "words " * 1000


@pytest.fixture
def uploaded(bench: Bench, tmp_path: Path) -> CalibrationSet:
    """A text in the store."""
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    text = ReceivedText(file, "text", file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    return calibration_sets.keep(bench.sessions, bench.store, "operator", "n", text)[0]


def submit(bench: Bench, row: CalibrationSet, **options: Any) -> str:
    spec = CompressionSpec.from_dict(
        {
            "model": "hf:stub/read_uploads",
            "sparsity": 0.25,
            "calibration": {"set": f"upload:{row.id}", "sequences": 4},
        }
    )
    with db.session_scope(bench.sessions) as session:
        return service.submit(session, spec, settings=bench.settings, **options).id


def test_the_child_reads_the_text_and_it_is_gone_afterwards(bench: Bench, uploaded: CalibrationSet) -> None:
    job_id = submit(bench, uploaded)
    assert bench.run(job_id) is Outcome.DONE
    seen = json.loads(bench.read_stored(bench.artifacts(job_id)["seen.json"].store_path))
    assert seen["texts"] == {uploaded.id: TEXT}
    assert (seen["uploads"][uploaded.id]["kind"], seen["uploads"][uploaded.id]["size"]) == ("text", len(TEXT))
    assert not Path(seen["uploads"][uploaded.id]["path"]).exists()


def test_a_job_whose_text_was_deleted_fails_and_says_so(bench: Bench, uploaded: CalibrationSet) -> None:
    job_id = submit(bench, uploaded)
    bench.cancel(job_id)
    with db.session_scope(bench.sessions) as session:
        calibration_sets.delete(session, uploaded.id, by="me")
        service.retry(session, job_id)
    assert bench.run(job_id) is Outcome.FAILED
    error = bench.job(job_id).error or {}
    assert error["code"] == "calibration_refused"
    assert "was deleted at" in error["message"]
    assert error["problems"][0]["pointer"] == "/calibration/set"


def test_while_the_store_is_away_the_job_waits_and_says_why(
    bench: Bench, uploaded: CalibrationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = threading.Event()
    real = bench.store.open_range

    def open_range(*arguments: Any) -> Any:
        if not away.is_set():
            raise StoreUnavailable("away")
        return real(*arguments)

    monkeypatch.setattr(bench.store, "open_range", open_range, raising=False)
    job_id = submit(bench, uploaded)
    thread = bench.start(job_id)
    bench.wait_for(lambda: "store does not answer" in bench.job(job_id).reason)
    away.set()
    thread.join(30)
    assert bench.job(job_id).status == "succeeded"


@pytest.mark.parametrize(
    ("deadline", "outcome", "status"),
    [(None, Outcome.CANCELED, "canceled"), (0.5, Outcome.TIMED_OUT, "timed_out")],
)
def test_a_job_that_waits_for_the_store_can_be_stopped(
    bench: Bench,
    uploaded: CalibrationSet,
    monkeypatch: pytest.MonkeyPatch,
    deadline: float | None,
    outcome: Outcome,
    status: str,
) -> None:
    def away(*_: Any) -> Any:
        raise StoreUnavailable("away")

    monkeypatch.setattr(bench.store, "open_range", away, raising=False)
    job_id = submit(bench, uploaded, run_deadline=deadline)
    thread = bench.start(job_id)
    bench.wait_for(lambda: bench.job(job_id).status == "starting" or bench.job(job_id).status == status)
    if deadline is None:
        bench.cancel(job_id)
    thread.join(30)
    assert bench.job(job_id).status == status
    assert bench.attempts(job_id)[0].outcome == outcome


def test_other_bytes_than_were_uploaded_reach_no_child(
    bench: Bench, uploaded: CalibrationSet, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("other")
    bench.store.put_file(uploaded.store_path, tmp_path / "other")
    with pytest.raises(StoreUnavailable, match="other bytes"):
        fetch(bench.store, uploaded, tmp_path / "uploads")
    bench.store.delete(f"calibration-sets/{uploaded.id}")
    with pytest.raises(CalibrationRefused, match="is not in the store"):
        fetch(bench.store, uploaded, tmp_path / "uploads")
    assert not (tmp_path / "uploads" / uploaded.id).exists()
