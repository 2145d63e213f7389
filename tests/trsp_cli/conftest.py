"""A real service on a port, without workers, for the commands and the client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import KEY, Api, api, make_api, settings
from tests.api.serving import served
from trsp_cli.client import Client
from trsp_cli.main import run

__all__ = ["api", "make_api", "settings"]


@dataclass
class Service:
    """A served application and its address."""

    api: Api
    url: str


@dataclass(frozen=True)
class Said:
    """What a command line ended with and said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        return dict(json.loads(self.out))


@pytest.fixture
def service(api: Api) -> Iterator[Service]:
    """The application on a port."""
    with served(api) as (url, _, _):
        yield Service(api, url)


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """A client of the service."""
    with Client(service.url, KEY) as client:
        yield client


@pytest.fixture
def trsp(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Said]:
    """Run a command line; without `url` no service is to be found."""
    monkeypatch.setenv("TRSP_DATA_DIR", str(tmp_path_factory.mktemp("none")))
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, url: str | None = None) -> Said:
        if url is not None:
            monkeypatch.setenv("TRSP_URL", url)
            monkeypatch.setenv("TRSP_KEY", KEY)
        capsys.readouterr()
        code = run(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, made once; see `local_work.furnish`."""
    from tests.trsp_cli.local_work import furnish

    return furnish(tmp_path_factory.mktemp("furnished"))


@pytest.fixture
def here(furnished: Path, tmp_path: Path, trsp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the furnished folder, where commands run."""
    folder = tmp_path / "here"
    shutil.copytree(furnished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRSP_CACHE", str(tmp_path / "cache"))
    for name in ("TRSP_HUB_ENABLED", "TRSP_S3_ENABLED", "TRSP_FILE_ROOTS", "TRSP_DATASETS"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the fresh process of the round trip."""
    from tests.trsp_cli.local_work import HELD

    monkeypatch.setattr("trsp_core.job.round_trip", lambda *_, **__: HELD)
