"""One attempt at a job, from the claim to its last write."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy.orm import Session, sessionmaker

from trsp_core.errors import CalibrationRefused
from trsp_core.sources import UploadedText
from trsp_jobs import db, service
from trsp_jobs.errors import IllegalTransition, LeaseLost, StoreUnavailable
from trsp_jobs.leases import AttemptEnd, Claim, JobError, PublishedFile
from trsp_jobs.logs import AttemptLog, last_words, local_log
from trsp_jobs.settings import Settings, source_policy
from trsp_jobs.storage import ArtifactStore
from worker import checkpoints
from worker.ending import EXIT_CANCELED, Ending, Outcome, Scene, Stop, judge, out_of_memory_kills
from worker.lease_keeper import LeaseKeeper
from worker.log_feed import LogFeed
from worker.persistence import pauses, persist
from worker.process import Child, s3_credentials
from worker.publisher import publish_files, publish_logs, publish_results, remove_leftovers
from worker.scratch import Scratch
from worker.staging import fetch, find_uploads

log = structlog.get_logger(__name__)

T = TypeVar("T")
FETCH_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "worker.fetch")

_NEWS_SECONDS = 0.5
_WATCH_SECONDS = 0.1
_STORE_TRIES = 3
_REPORT_BYTES = 64 * 1024 * 1024
_GOES_ON = frozenset({Outcome.HANDED_OVER, Outcome.CRASHED, Outcome.TIMED_OUT})
"""After these ends another machine may go on, at once or when somebody asks for it."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What an attempt works with.

    Attributes:
        settings: The operator's.
        sessions: The way to the database.
        store: Where results go.
        command: The child's program; path of the request and number of the pipe are appended.
        draining: Whether this worker is shutting down.
    """

    settings: Settings
    sessions: sessionmaker[Session]
    store: ArtifactStore
    command: Sequence[str]
    draining: Callable[[], bool]


class AttemptRun:
    """Runs the child of a claimed job and writes down how it ended."""

    def __init__(self, place: Workplace, claim: Claim) -> None:
        self._place = place
        self._claim = claim
        self._scratch = Scratch(place.settings.work_dir / claim.job_id)
        self._log = local_log(place.settings.work_dir, claim.job_id, claim.attempt)
        self._feed = LogFeed(self._log)
        self._written_at = 0.0

    def run(self) -> Outcome:
        """Work until the attempt has ended and that is written, or until it belongs to somebody else."""
        with LeaseKeeper(self._place.sessions, self._claim, self._place.settings.lease_seconds) as keeper:
            try:
                ending = self._work(keeper)
                return self._conclude(keeper, ending)
            except LeaseLost:
                log.warning("the attempt belongs to somebody else; left alone")
                return Outcome.ABANDONED

    def _work(self, keeper: LeaseKeeper) -> Ending:
        try:
            uploads = self._fetch(keeper, "the uploaded text", self._uploads())
            if isinstance(uploads, Stop):
                return judge(AttemptEnd(), uploads)
            restored = self._fetch(keeper, "the checkpoint", self._checkpoint())
            if isinstance(restored, Stop):
                return judge(AttemptEnd(), restored)
            return self._run_child(keeper, uploads)
        except CalibrationRefused as error:
            problems = tuple(problem.to_dict() for problem in error.problems)
            return Ending(Outcome.FAILED, AttemptEnd(), JobError(error.code, str(error), problems))
        except OSError as error:
            log.exception("the worker could not run the child")
            problem = JobError("worker_failed", f"the worker could not run the job: {error}")
            return Ending(Outcome.CRASHED, AttemptEnd(), problem)
        finally:
            self._scratch.forget_uploads()

    def _uploads(self) -> Callable[[], dict[str, UploadedText]]:
        """Return how the uploaded texts are brought here.

        Raises:
            CalibrationRefused: If a text is there no longer.
        """
        rows = persist(self._place.sessions, partial(find_uploads, spec=self._claim.spec))
        return lambda: {row.id: fetch(self._place.store, row, self._scratch.uploads) for row in rows}

    def _checkpoint(self) -> Callable[[], bool]:
        """Return how the checkpoint that another machine may have left is brought here."""
        found = persist(self._place.sessions, partial(checkpoints.find, claim=self._claim))
        if found is None:
            return lambda: False
        return partial(checkpoints.restore, self._place.store, self._scratch, found)

    def _fetch(self, keeper: LeaseKeeper, what: str, action: Callable[[], T]) -> T | Stop:
        """Bring something here, again and again while the store is away; or say why that was stopped."""
        following = pauses()
        while True:
            try:
                return action()
            except StoreUnavailable as error:
                log.warning("the store does not answer; tries again", error=str(error))
                self._explain(f"the artifact store does not answer, reading {what} is tried again")
            stop = self._wait(keeper, following())
            if stop is not None:
                return stop

    def _run_child(self, keeper: LeaseKeeper, uploads: Mapping[str, UploadedText]) -> Ending:
        settings = self._place.settings
        self._scratch.prepare(self._request(uploads, {}), fresh_after=self._claim.fresh_after)
        if settings.s3_enabled and str(self._claim.spec["model"]).startswith("s3://"):
            fetching = self._run_program(keeper, FETCH_COMMAND, s3_credentials(os.environ))
            if fetching.outcome is not Outcome.DONE:
                return fetching
            fetched = json.loads(self._scratch.fetched.read_bytes())
            self._scratch.write_request(self._request(uploads, fetched))
        return self._run_program(keeper, self._place.command)

    def _run_program(
        self, keeper: LeaseKeeper, command: Sequence[str], credentials: Mapping[str, str] | None = None
    ) -> Ending:
        """Run one program on the job to its end, or stop it when there is a reason to."""
        settings = self._place.settings
        killed_before = out_of_memory_kills()
        output = AttemptLog(self._log, settings.log_limit_bytes)
        with Child(settings, command, self._scratch, output, credentials) as child:
            self._scratch.record_child(child.pid)
            stop = self._watch(child, keeper)
        if stop is None and child.exit_code == EXIT_CANCELED and self._place.draining():
            stop = Stop.SHUTDOWN
        self._scratch.forget_child()
        while self._write_news(child):
            continue
        end = AttemptEnd(child.exit_code, child.peak_rss_bytes, self._scratch.checkpoint())
        scene = Scene(
            killed=out_of_memory_kills() != killed_before,
            last_words=last_words(self._log),
            memory_limit=settings.child_memory_bytes,
        )
        return judge(end, stop, child.inbox.error, scene)

    def _request(self, uploads: Mapping[str, UploadedText], fetched: Mapping[str, str]) -> Mapping[str, Any]:
        """Return what the next process is to do; `fetched` is what another has downloaded for it."""
        policy = source_policy(self._place.settings)
        return {
            "attempt": self._claim.attempt,
            "spec": dict(self._claim.spec),
            "workdir": str(self._scratch.out),
            "fetched": str(self._scratch.fetched),
            "policy": {
                "hub_enabled": policy.hub_enabled,
                "roots": None if policy.roots is None else [str(root) for root in policy.roots],
                "cache_dir": str(policy.cache_dir),
                "dataset_root": None if policy.dataset_root is None else str(policy.dataset_root),
                "s3_enabled": policy.s3_enabled,
                "fetched": dict(fetched),
                "uploads": {
                    name: {"kind": item.kind, "size": item.size, "path": str(item.path)}
                    for name, item in uploads.items()
                },
            },
        }

    def _watch(self, child: Child, keeper: LeaseKeeper) -> Stop | None:
        """Follow the child to its end; return why it was stopped."""
        stop: Stop | None = None
        while child.wait(_WATCH_SECONDS) is None:
            stop = self._reason_to_stop(keeper) or stop
            if stop is Stop.LEASE_LOST:
                child.kill()
            elif stop is not None:
                child.stop(self._place.settings.cancel_grace_seconds)
            if time.monotonic() - self._written_at >= _NEWS_SECONDS:
                self._write_news(child)
        return stop

    def _reason_to_stop(self, keeper: LeaseKeeper) -> Stop | None:
        if keeper.lost:
            return Stop.LEASE_LOST
        if keeper.canceled:
            return Stop.CANCEL
        if keeper.overdue:
            return Stop.DEADLINE
        return Stop.SHUTDOWN if self._place.draining() else None

    def _write_news(self, child: Child) -> bool:
        """Write progress and output since the last time; return whether there may be more to write."""
        events, pieces = child.inbox.take(), self._feed.take()
        self._written_at = time.monotonic()
        if not events and not pieces:
            return False
        try:
            with db.session_scope(self._place.sessions) as session:
                service.record_news(session, self._claim, events, pieces)
        except db.OUTAGES:
            child.inbox.put_back(events)
            return False
        except LeaseLost:
            log.warning("news came too late: the lease is lost")
            return False
        self._feed.kept(pieces)
        return True

    def _conclude(self, keeper: LeaseKeeper, ending: Ending) -> Outcome:
        """Write how the attempt ended; each write holds only if the claim still does."""
        log.info("the child ended", outcome=ending.outcome, exit_code=ending.end.exit_code)
        if ending.outcome is Outcome.ABANDONED:
            raise LeaseLost(self._claim.job_id, self._claim.attempt)
        if ending.outcome is Outcome.DONE:
            return self._finalize(keeper, ending.end)
        ending = self._keep_checkpoint(ending)
        numbers = self._store_logs()
        files = self._store_partial() if ending.outcome is Outcome.TIMED_OUT else []
        self._write_end(ending, files)
        self._forget_pieces(numbers)
        return ending.outcome

    def _keep_checkpoint(self, ending: Ending) -> Ending:
        """Put the checkpoint of a job that may go on elsewhere into the store; tell of it in the attempt."""
        end = ending.end
        if ending.outcome not in _GOES_ON or end.checkpoint is None:
            return ending
        if not self._place.settings.stores_checkpoints:
            return ending
        store, claim = self._place.store, self._claim
        stored = self._try_to_store(
            lambda: checkpoints.keep(store, self._scratch, claim.job_id, claim.attempt)
        )
        return replace(ending, end=replace(end, checkpoint={**end.checkpoint, "stored": stored}))

    def _write_end(self, ending: Ending, files: Sequence[PublishedFile]) -> None:
        claim, end = self._claim, ending.end
        actions: Mapping[Outcome, Callable[[Session], None]] = {
            Outcome.CANCELED: partial(service.acknowledge_cancel, claim=claim, end=end),
            Outcome.TIMED_OUT: partial(service.time_out, claim=claim, artifacts=files, end=end),
            Outcome.HANDED_OVER: partial(service.hand_over, claim=claim, end=end),
        }
        error = ending.error or JobError("internal_error", "the attempt ended for no known reason")
        again = ending.outcome is Outcome.CRASHED
        failing = partial(service.fail, claim=claim, error=error, retryable=again, end=end)
        persist(self._place.sessions, actions.get(ending.outcome, failing))

    def _finalize(self, keeper: LeaseKeeper, end: AttemptEnd) -> Outcome:
        """Store the result's files and publish them."""
        report = self._read_report()
        if report is None:
            error = JobError("crashed", "the process ended well but left no readable report.json")
            return self._conclude(keeper, Ending(Outcome.CRASHED, end, error))
        try:
            persist(self._place.sessions, partial(service.begin_finalizing, claim=self._claim))
            files = self._upload(keeper)
            if files is None:
                return self._conclude(keeper, Ending(Outcome.HANDED_OVER, end))
            publish = partial(service.succeed, claim=self._claim, report=report, artifacts=files, end=end)
            persist(self._place.sessions, publish)
        except IllegalTransition:
            return self._conclude(keeper, Ending(Outcome.CANCELED, end))
        self._forget_pieces([number for number, _ in self._scratch.logs()])
        self._scratch.remove()
        if self._claim.attempt > 1:
            self._try_to_store(lambda: self._place.store.delete(f"jobs/{self._claim.job_id}/checkpoints"))
        return Outcome.DONE

    def _read_report(self) -> dict[str, Any] | None:
        path = self._scratch.out / "report.json"
        try:
            if path.stat().st_size > _REPORT_BYTES:
                return None
            report = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return report if isinstance(report, dict) else None

    def _upload(self, keeper: LeaseKeeper) -> list[PublishedFile] | None:
        """Store the result's files, again and again while the store is away.

        Returns:
            What was stored; None if the worker is to shut down first.

        Raises:
            LeaseLost: If the job belongs to somebody else.
            IllegalTransition: If the job is to be canceled.
        """
        following = pauses()
        while True:
            try:
                return self._publish()
            except StoreUnavailable as error:
                log.warning("the store does not answer; tries again", error=str(error))
                self._explain("the work is done; the artifact store does not answer, storing is tried again")
            stop = self._wait(keeper, following(), ignored=Stop.DEADLINE)
            if stop is Stop.LEASE_LOST:
                raise LeaseLost(self._claim.job_id, self._claim.attempt)
            if stop is Stop.CANCEL:
                raise IllegalTransition("canceling", "succeed")
            if stop is Stop.SHUTDOWN:
                return None

    def _publish(self) -> list[PublishedFile]:
        """Store the result's files and the logs, and remove what earlier attempts had stored of theirs."""
        store, job_id, attempt = self._place.store, self._claim.job_id, self._claim.attempt
        publish_logs(store, self._scratch, job_id)
        files = publish_results(store, self._scratch, job_id, attempt)
        rows = persist(self._place.sessions, partial(service.list_artifacts, job_id=job_id))
        published = {f"jobs/{job_id}/attempts/{attempt}/{item.path}" for item in files}
        remove_leftovers(store, job_id, published | {row.store_path for row in rows})
        return files

    def _wait(self, keeper: LeaseKeeper, seconds: float, *, ignored: Stop | None = None) -> Stop | None:
        """Wait, but not when there is a reason to stop; a deadline is none once the work is done."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            reason = self._reason_to_stop(keeper)
            if reason not in (None, ignored):
                return reason
            threading.Event().wait(_WATCH_SECONDS)
        return None

    def _explain(self, reason: str) -> None:
        persist(self._place.sessions, partial(service.explain, claim=self._claim, reason=reason))

    def _store_logs(self) -> list[int]:
        """Store the attempts' logs and return whose; if the store stays away, they wait where they are."""
        store, job_id = self._place.store, self._claim.job_id
        return self._try_to_store(lambda: publish_logs(store, self._scratch, job_id)) or []

    def _store_partial(self) -> list[PublishedFile]:
        """Store what an attempt without a result made; nothing if the store stays away."""
        store, claim = self._place.store, self._claim
        files = [*self._scratch.partial_results()]
        action = partial(publish_files, store, self._scratch, claim.job_id, claim.attempt, files)
        return self._try_to_store(action) or []

    def _try_to_store(self, action: Callable[[], T]) -> T | None:
        following = pauses()
        for _ in range(_STORE_TRIES):
            try:
                return action()
            except StoreUnavailable as error:
                log.warning("not stored yet", error=str(error))
                time.sleep(following())
        return None

    def _forget_pieces(self, numbers: Sequence[int]) -> None:
        """Take stored logs out of the database."""
        forgetting = partial(service.forget_log, job_id=self._claim.job_id, attempts=numbers)
        persist(self._place.sessions, forgetting)
