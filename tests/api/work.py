"""What a worker does to a job, for tests: claim it, report progress, end it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.api.conftest import Api
from tests.trsp_core.reports import example_report
from trsp_core.progress import STAGES, Progress, Stage
from trsp_core.report import write_reports
from trsp_jobs import service
from trsp_jobs.leases import AttemptEnd, Claim, JobError, PublishedFile
from trsp_jobs.log_pieces import Said

OWNER = "test-worker"


def claim(api: Api, job_id: str) -> Claim:
    """Claim a job as the worker would."""
    with api.services.session() as session:
        found = service.claim(session, job_id, owner=OWNER, lease_seconds=30)
    assert found is not None
    return found


def tell(api: Api, held: Claim, *events: Progress) -> None:
    """Report progress."""
    with api.services.session() as session:
        service.record_progress(session, held, events)


def say(api: Api, held: Claim, start: int, data: bytes) -> None:
    """Add output of the child to the attempt's log."""
    with api.services.session() as session:
        service.record_news(session, held, (), [Said(start, data)])


def work_until(api: Api, held: Claim, stage: Stage) -> None:
    """Report every stage up to the start of one."""
    for index, name in enumerate(STAGES[: STAGES.index(stage) + 1]):
        tell(api, held, Progress(name, 1, 4, index / len(STAGES), message=f"at {name}"))


def succeed(api: Api, held: Claim, folder: Path) -> dict[str, Any]:
    """Publish an example report as the job's result and return it as JSON."""
    report = example_report()
    folder.mkdir(parents=True, exist_ok=True)
    write_reports(report, folder)
    files = [publish(api, held, path, folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    with api.services.session() as session:
        service.begin_finalizing(session, held)
    with api.services.session() as session:
        service.succeed(session, held, report.to_dict(), files, end=AttemptEnd(exit_code=0))
    return dict(json.loads((folder / "report.json").read_text()))


def publish(api: Api, held: Claim, path: Path, folder: Path) -> PublishedFile:
    """Put one file into the store."""
    name = path.relative_to(folder).as_posix()
    stored = api.store.put_file(f"jobs/{held.job_id}/attempts/{held.attempt}/{name}", path)
    kind = {"json": "application/json", "html": "text/html", "csv": "text/csv"}.get(name.rpartition(".")[2])
    return PublishedFile(name, stored.size, stored.sha256, kind or "application/octet-stream")


def fail(api: Api, held: Claim, error: JobError) -> None:
    """End the job as failed."""
    with api.services.session() as session:
        service.fail(session, held, error, retryable=False, end=AttemptEnd(exit_code=1))
