"""Puts an attempt's files into the store."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Collection, Iterable
from pathlib import Path

from trsp_jobs.errors import StoreUnavailable
from trsp_jobs.leases import PublishedFile
from trsp_jobs.logs import LOG_NAME, stored_log
from trsp_jobs.storage import ArtifactStore
from worker.scratch import Scratch

_MEDIA_TYPES = {".jsonl": "application/jsonl", ".safetensors": "application/octet-stream"}


def publish_file(store: ArtifactStore, folder: str, path: str, local: Path) -> PublishedFile:
    """Store one file and check that what was sent is what lies on the disk.

    Args:
        store: The store.
        folder: The attempt's folder in the store.
        path: Where the file is to lie in it.
        local: The file.

    Raises:
        StoreUnavailable: If the store does not answer, or the file changed while it was sent.
    """
    sent = store.put_file(f"{folder}/{path}", local)
    with local.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sent.sha256:
            raise StoreUnavailable(f"{path} changed while it was sent")
    return PublishedFile(path, sent.size, sent.sha256, media_type(path))


def media_type(path: str) -> str:
    """Return the media type of a file, by its name."""
    suffix = Path(path).suffix
    return _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"


def publish_results(store: ArtifactStore, scratch: Scratch, job_id: str, attempt: int) -> list[PublishedFile]:
    """Store all files that an attempt made for publication, and its log."""
    return publish_files(store, scratch, job_id, attempt, scratch.results())


def publish_files(
    store: ArtifactStore, scratch: Scratch, job_id: str, attempt: int, files: Iterable[Path]
) -> list[PublishedFile]:
    """Store files of an attempt's work folder under their paths in it, and the attempt's log."""
    folder = f"jobs/{job_id}/attempts/{attempt}"
    named = [(path.relative_to(scratch.out).as_posix(), path) for path in files]
    named += [(LOG_NAME, path) for number, path in scratch.logs() if number == attempt]
    return [publish_file(store, folder, name, path) for name, path in named]


def remove_leftovers(store: ArtifactStore, job_id: str, kept: Collection[str]) -> None:
    """Remove what broken-off attempts at a job have left in the store: all but its logs and the files `kept`.

    Raises:
        StoreUnavailable: If the store does not answer.
    """
    found = [item.path for item in store.list(f"jobs/{job_id}/attempts")]
    store.delete_files([path for path in found if path not in kept and not path.endswith(f"/{LOG_NAME}")])


def publish_logs(store: ArtifactStore, scratch: Scratch, job_id: str) -> list[int]:
    """Store the logs of all attempts that lie in the scratch folder, anew where they were stored before.

    Returns:
        The attempts' numbers.
    """
    logs = scratch.logs()
    for number, path in logs:
        store.put_file(stored_log(job_id, number), path)
    return [number for number, _ in logs]
