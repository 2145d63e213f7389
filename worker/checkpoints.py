"""Checkpoints in the store: how a job goes on on another machine than the one that it was begun on.

The hash of every file is in a manifest, and the manifest's own in the attempt's row; so nothing is gone on from
but what an attempt of this very job left.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from trsp_jobs import service
from trsp_jobs.errors import ArtifactNotFound, DamagedFile
from trsp_jobs.leases import Claim
from trsp_jobs.storage import ArtifactStore
from worker.publisher import publish_file
from worker.scratch import Scratch, write_whole

log = structlog.get_logger(__name__)

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint that lies in the store.

    Attributes:
        job_id: The job.
        attempt: The attempt that left it.
        sha256: Hash of its manifest.
    """

    job_id: str
    attempt: int
    sha256: str

    @property
    def folder(self) -> str:
        """Where it lies in the store."""
        return folder_of(self.job_id, self.attempt)


def folder_of(job_id: str, attempt: int) -> str:
    """Return where an attempt's checkpoint lies in the store."""
    return f"jobs/{job_id}/checkpoints/{attempt}"


def keep(store: ArtifactStore, scratch: Scratch, job_id: str, attempt: int) -> str:
    """Put all that an attempt has made so far into the store, in place of what earlier ones had put there.

    Returns:
        The hash of its manifest, which comes last: without it there is no checkpoint.

    Raises:
        StoreUnavailable: If the store does not answer.
    """
    folder = folder_of(job_id, attempt)
    files = {}
    for path in scratch.made():
        name = path.relative_to(scratch.out).as_posix()
        files[name] = publish_file(store, f"{folder}/out", name, path).sha256
    manifest = scratch.root / "checkpoint.json"
    write_whole(manifest, json.dumps({"attempt": attempt, "files": files}).encode())
    stored = store.put_file(f"{folder}/{MANIFEST}", manifest)
    for number in store.folders(f"jobs/{job_id}/checkpoints"):
        if number != str(attempt):
            store.delete(f"jobs/{job_id}/checkpoints/{number}")
    return stored.sha256


def find(session: Session, claim: Claim) -> StoredCheckpoint | None:
    """Return the latest checkpoint of a job that lies in the store and that it may go on from."""
    for attempt in reversed(service.list_attempts(session, claim.job_id)):
        if attempt.number <= claim.fresh_after:
            return None
        stored = (attempt.checkpoint or {}).get("stored")
        if stored:
            return StoredCheckpoint(claim.job_id, attempt.number, str(stored))
    return None


def restore(store: ArtifactStore, scratch: Scratch, found: StoredCheckpoint) -> bool:
    """Bring a checkpoint here, unless what lies here is as late; return whether it was brought.

    One that is damaged or gone is left alone: the job goes on from what lies here, or begins again.

    Raises:
        StoreUnavailable: If the store does not answer.
    """
    if scratch.checkpoint() is not None and scratch.last_attempt() >= found.attempt:
        return False
    scratch.kill_leftover()
    shutil.rmtree(scratch.incoming, ignore_errors=True)
    try:
        _fetch(store, scratch, found)
    except (ArtifactNotFound, DamagedFile) as error:
        log.warning("the stored checkpoint cannot be used", job=found.job_id, error=str(error))
        return False
    shutil.rmtree(scratch.out, ignore_errors=True)
    scratch.incoming.rename(scratch.out)
    return True


def _fetch(store: ArtifactStore, scratch: Scratch, found: StoredCheckpoint) -> None:
    scratch.incoming.mkdir(parents=True)
    manifest = scratch.root / "checkpoint.json"
    store.fetch_file(f"{found.folder}/{MANIFEST}", manifest, sha256=found.sha256)
    files: Mapping[str, Any] = json.loads(manifest.read_bytes())["files"]
    for name, sha256 in files.items():
        target = scratch.incoming / Path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        store.fetch_file(f"{found.folder}/out/{name}", target, sha256=sha256)
