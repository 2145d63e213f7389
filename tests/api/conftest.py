"""The application on a real database, with a store in memory and a dispatcher that writes down its rings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from api.deps import Services
from api.main import create_app
from trsp_jobs.db import session_scope
from trsp_jobs.settings import Settings
from trsp_jobs.testing import MemoryStore, RecordingDispatcher

KEY = "the-operators-key"
SECRET = "the-secret-of-the-tests"
BEARER = {"Authorization": f"Bearer {KEY}"}
SPEC = {"model": "demo:smollm2-135m", "sparsity": 0.25, "calibration": "python-docs"}


@dataclass
class Api:
    """An application with what stands behind it."""

    client: TestClient
    services: Services
    dispatcher: RecordingDispatcher
    store: MemoryStore
    spec: dict[str, Any]

    def submit(self, **changes: Any) -> dict[str, Any]:
        """Create a job and return it."""
        answer = self.client.post("/v1/jobs", json={**self.spec, **changes})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())


@pytest.fixture
def settings(tmp_path: Path, postgres_url: str) -> Settings:
    """Settings of a local service; nothing listens at the broker's address."""
    return Settings(
        database_url=postgres_url,
        broker_url="redis://127.0.0.1:1/0",
        store_url=(tmp_path / "store").as_uri(),
        data_dir=tmp_path / "data",
        secret=SecretStr(SECRET),
        api_key=SecretStr(KEY),
    )


@pytest.fixture
def make_api(sessions: sessionmaker[Session], settings: Settings) -> Iterator[Callable[..., Api]]:
    """Make applications with other settings."""
    opened: list[TestClient] = []

    def make(**changes: Any) -> Api:
        own = settings.model_copy(update=changes)
        dispatcher, store = RecordingDispatcher(), MemoryStore()
        services = Services(own, sessions, store, dispatcher)
        client = TestClient(create_app(own, services), base_url="http://localhost", headers=BEARER)
        client.__enter__()
        opened.append(client)
        return Api(client, services, dispatcher, store, dict(SPEC))

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """The application with the default settings."""
    return make_api()


@pytest.fixture
def database(sessions: sessionmaker[Session]) -> Callable[[], Any]:
    """A session that commits at its end."""
    return lambda: session_scope(sessions)
