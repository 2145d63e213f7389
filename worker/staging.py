"""The uploaded texts that a job names, brought from the store onto this machine for the time of an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from trsp_core.config import CompressionSpec
from trsp_core.errors import CalibrationRefused, Problem
from trsp_core.sources import UploadedText
from trsp_jobs.errors import ArtifactNotFound
from trsp_jobs.inputs import calibration_sets
from trsp_jobs.inputs.rows import CalibrationSet
from trsp_jobs.storage import ArtifactStore


def find_uploads(session: Session, spec: Mapping[str, Any]) -> list[CalibrationSet]:
    """Return the uploaded texts that a stored job spec names.

    Raises:
        CalibrationRefused: If one of them has been deleted.
    """
    rows = [
        calibration_sets.get_set(session, name)
        for name in calibration_sets.named_in(CompressionSpec.from_dict(spec))
    ]
    for row in rows:
        if row.deleted_at is not None:
            when = row.deleted_at.astimezone(UTC)
            message = f"upload:{row.id} was deleted at {when:%Y-%m-%d %H:%M} UTC by {row.deleted_by}."
            raise CalibrationRefused(Problem("/calibration/set", message, row.id))
    return rows


def fetch(store: ArtifactStore, row: CalibrationSet, folder: Path) -> UploadedText:
    """Bring one text into a folder, piece by piece, and check its hash; one that lies there whole is kept.

    Raises:
        StoreUnavailable: If the store does not answer, or what it gives is not what was uploaded.
        CalibrationRefused: If the store does not have it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / row.id
    try:
        if not target.is_file():
            store.fetch_file(row.store_path, target, sha256=row.sha256)
    except ArtifactNotFound as error:
        message = f"upload:{row.id} is not in the store."
        raise CalibrationRefused(Problem("/calibration/set", message, row.id)) from error
    return UploadedText(row.kind, row.size, target)
