"""A service's job on a model in a bucket: downloaded before its own process starts, which knows no credentials."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.test_s3_models import Bucket, contents, enter, make_model
from tests.servers import S3Server
from tests.worker.conftest import Bench, bench, worker_settings
from trsp_core.config import CompressionSpec
from trsp_core.errors import ModelRefused
from trsp_core.sources import SourcePolicy, materialize, resolve
from trsp_jobs import db, service
from trsp_jobs.settings import source_policy
from worker.ending import Outcome

__all__ = ["bench", "enter", "worker_settings"]

pytestmark = pytest.mark.integration

CHILD = """
import json, os, sys
request = json.load(open(sys.argv[1]))
out = request["workdir"]
json.dump({"request": request, "names": sorted(os.environ)}, open(out + "/seen.json", "w"))
json.dump({}, open(out + "/report.json", "w"))
"""


@pytest.fixture
def place(moto: S3Server, enter: Callable[[S3Server], Bucket], tmp_path: Path) -> Bucket:
    """A bucket with a model."""
    found = enter(moto)
    found.put(make_model(tmp_path / "model"))
    return found


def run(bench: Bench, model: str) -> tuple[str, Outcome | None]:
    spec = CompressionSpec.from_dict({"model": model, "sparsity": 0.25, "calibration": "python-docs"})
    with db.session_scope(bench.sessions) as session:
        job_id = service.submit(session, spec, settings=bench.settings).id
    return job_id, bench.supervisor(command=(sys.executable, "-c", CHILD)).run(job_id)


def test_the_child_finds_the_model_and_knows_no_credentials(
    bench: Bench, place: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.settings = bench.settings.model_copy(update={"s3_enabled": True, "lease_seconds": 30})
    job_id, outcome = run(bench, place.url)
    assert outcome is Outcome.DONE, bench.job(job_id).error
    seen = json.loads(bench.read_stored(bench.artifacts(job_id)["seen.json"].store_path))
    assert not [name for name in seen["names"] if name.startswith("AWS_")]
    said = [event.data.get("message") for event in bench.events(job_id)]
    assert f"downloading {place.url}" in said
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    policy = replace(source_policy(bench.settings), fetched=seen["request"]["policy"]["fetched"])
    source = resolve(place.url, policy)
    assert source.revision == seen["request"]["policy"]["fetched"][place.url]
    found = contents(materialize(source, policy))
    assert found == {
        name: data for name, data in contents(tmp_path / "model").items() if name != "training.log"
    }


def test_a_bucket_that_cannot_be_read_refuses_the_job_with_the_reason(bench: Bench, place: Bucket) -> None:
    bench.settings = bench.settings.model_copy(update={"s3_enabled": True, "lease_seconds": 30})
    job_id, outcome = run(bench, "s3://no-such-bucket/x")
    assert outcome is Outcome.FAILED
    error = bench.job(job_id).error
    assert error is not None
    assert (error["code"], "is not there" in error["message"]) == ("model_refused", True)


def test_a_canceled_download_ends_at_once_and_leaves_nothing(
    bench: Bench, place: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.settings = bench.settings.model_copy(update={"s3_enabled": True, "lease_seconds": 30})
    slow = "import signal, sys; signal.pause()"
    monkeypatch.setattr("worker.attempt.FETCH_COMMAND", (sys.executable, "-c", slow))
    spec = CompressionSpec.from_dict({"model": place.url, "sparsity": 0.25, "calibration": "python-docs"})
    with db.session_scope(bench.sessions) as session:
        job_id = service.submit(session, spec, settings=bench.settings).id
    thread = bench.start(job_id)
    bench.child_pid(job_id)
    bench.cancel(job_id)
    assert bench.wait_for_status(job_id, "canceled").attempt == 1
    thread.join(10)
    assert bench.artifacts(job_id) == {}


def test_without_the_switch_a_job_is_refused_and_told_which_one(bench: Bench) -> None:
    assert not source_policy(bench.settings).s3_enabled
    with pytest.raises(ModelRefused, match="Set TRSP_S3_ENABLED=1"):
        resolve("s3://bucket/x", source_policy(bench.settings))


def test_a_fetched_model_that_is_not_in_the_cache_is_refused(tmp_path: Path) -> None:
    policy = SourcePolicy(cache_dir=tmp_path, fetched={"s3://bucket/x": "0" * 64})
    with pytest.raises(ModelRefused):
        resolve("s3://bucket/x", policy)
