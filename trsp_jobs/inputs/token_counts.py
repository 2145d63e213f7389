"""How many tokens an uploaded text has for a model: counted on demand, once, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from trsp_core.errors import CalibrationRefused, InputRefused, InvalidSpec, Problem
from trsp_jobs import db
from trsp_jobs.callers import OPERATOR, Caller
from trsp_jobs.errors import ResourceNotFound
from trsp_jobs.inputs import repository
from trsp_jobs.inputs.calibration_sets import get_set
from trsp_jobs.inputs.registered_models import check_model, named
from trsp_jobs.inputs.rows import CalibrationSet, TokenCount
from trsp_jobs.settings import Settings, source_policy
from trsp_jobs.storage import ArtifactStore

COUNT_SECONDS = 300
"""Longest that one count may take."""
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "HF_HOME", "TRSP_DATASETS")
_MOST_FIELD = 200


def count(
    sessions: sessionmaker[Session],
    store: ArtifactStore,
    settings: Settings,
    set_id: str,
    model: str,
    field: str = "",
    *,
    caller: Caller = OPERATOR,
) -> TokenCount:
    """Return how many tokens a text has for a model's tokenizer.

    Args:
        sessions: The way to the database.
        store: Where the text lies.
        settings: Say which models may be used.
        set_id: The text.
        model: A model's reference, or the name of a registered one.
        field: Field or column to read; empty for the kind's default.
        caller: Says which registered models count.

    Raises:
        ResourceNotFound: If the text is not there (any more).
        InputRefused: If the model or the text cannot be read, or counting takes too long.
    """
    if len(field) > _MOST_FIELD:
        message = f"is longer than {_MOST_FIELD} characters."
        raise InvalidSpec(Problem("/query/field", message, field[:80]))
    with db.session_scope(sessions) as session:
        row = get_set(session, set_id)
        reference = named(
            session, model, caller.shared_owners, only_registered=settings.registered_models_only
        )
    if row.stored_at is None or row.deleted_at is not None:
        raise ResourceNotFound("calibration set", set_id)
    found = check_model(reference, source_policy(settings))
    with db.session_scope(sessions) as session:
        known = repository.get_count(session, set_id, found.facts.revision, field)
    if known is not None:
        return known
    counted = _count(store, settings, row, found.reference, field)
    key = {"set_id": set_id, "revision": found.facts.revision, "field": field}
    with db.session_scope(sessions) as session:
        repository.save_count(session, {**key, **counted})
    return TokenCount(**key, **counted)


def _count(
    store: ArtifactStore, settings: Settings, row: CalibrationSet, model: str, field: str
) -> dict[str, Any]:
    settings.upload_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.upload_dir, prefix="count-") as name:
        text = Path(name) / "text"
        with text.open("wb") as file:
            file.writelines(store.open_range(row.store_path))
        request = Path(name) / "request.json"
        request.write_text(json.dumps(_request(settings, row, model, field, text)))
        return _run(request, Path(name))


def _request(
    settings: Settings, row: CalibrationSet, model: str, field: str, text: Path
) -> Mapping[str, Any]:
    policy = source_policy(settings)
    return {
        "model": model,
        "set": f"upload:{row.id}" + (f"#{field}" if field else ""),
        "path": str(text),
        "kind": row.kind,
        "size": row.size,
        "cache_dir": str(policy.cache_dir),
        "roots": [str(root) for root in policy.roots or ()],
        "hub_enabled": policy.hub_enabled,
    }


def _run(request: Path, folder: Path) -> dict[str, Any]:
    """Run the counting process; its environment is an allow-list, so that no secret reaches it."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    root = str(Path(__file__).resolve().parents[2])
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "trsp_core.calibration.count_child", str(request)],
            cwd=folder,
            env={**kept, "PYTHONPATH": root, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COUNT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"could not be counted within {COUNT_SECONDS} seconds; take a smaller text."
        raise CalibrationRefused(Problem("/set", message)) from error
    return _read(done)


def _read(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
        raise RuntimeError(f"counting ended with code {done.returncode} and said {said}") from error
    if "problems" in answer:
        raise InputRefused(*(Problem(item["pointer"], item["message"]) for item in answer["problems"]))
    return {"tokens": answer["tokens"], "characters": answer["characters"], "whole": answer["whole"]}
