from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from trsp_core.config import CompressionSpec
from trsp_jobs import db, service
from trsp_jobs.leases import Claim
from trsp_jobs.settings import Settings

SPEC = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}

Submit = Callable[..., str]


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url,
        broker_url="redis://127.0.0.1:1/0",
        store_url=f"file://{tmp_path}/store",
        data_dir=tmp_path / "data",
    )


@pytest.fixture
def submit(sessions: sessionmaker[Session], settings: Settings) -> Submit:
    """Submits a job in a transaction of its own and returns its id."""

    def act(**options: object) -> str:
        spec = CompressionSpec.from_dict({**SPEC, **options.pop("spec", {})})  # type: ignore[dict-item]
        with db.session_scope(sessions) as session:
            return service.submit(session, spec, settings=settings, **options).id  # type: ignore[arg-type]

    return act


@pytest.fixture
def claimed(sessions: sessionmaker[Session]) -> Callable[..., Claim]:
    """Claims a job in a transaction of its own."""

    def act(job_id: str, owner: str = "worker-1", lease_seconds: float = 30) -> Claim:
        with db.session_scope(sessions) as session:
            claim = service.claim(session, job_id, owner=owner, lease_seconds=lease_seconds)
        assert claim is not None
        return claim

    return act
