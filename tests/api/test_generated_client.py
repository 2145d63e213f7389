"""A client that a generator makes of openapi.json works against the service."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from api.write_openapi import OPENAPI_PATH
from tests.api.conftest import KEY, SPEC, Api
from tests.api.serving import served

GENERATOR = Path(sys.prefix) / "generator"
"""Where the generator lies, apart from the environment: it pins an older typer than the commands use."""
NAME = "generated_trsp"


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package that was generated from the committed document, without a warning."""
    assert GENERATOR.is_dir(), f"the generator is not installed in {GENERATOR}; `make test` installs it"
    config = tmp_path / "config.yml"
    config.write_text("post_hooks: []\n")
    command = [
        *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta", "none"),
        *("--path", str(OPENAPI_PATH), "--output-path", str(tmp_path / NAME), "--config", str(config)),
    ]
    environment = {**os.environ, "PYTHONPATH": str(GENERATOR)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / NAME
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    """Import a module of the generated package."""
    return importlib.import_module(f"{NAME}.{name}")


def test_it_submits_lists_and_gets_a_job(generated: Path, api: Api) -> None:
    models = part("models")
    with served(api) as (url, _, _), part("client").AuthenticatedClient(base_url=url, token=KEY) as client:
        body = models.JobRequest.from_dict(SPEC)
        made = part("api.jobs.jobs_create").sync(client=client, body=body, idempotency_key="once")
        again = part("api.jobs.jobs_create").sync(client=client, body=body, idempotency_key="once")
        assert made.id == again.id
        page = part("api.jobs.jobs_list_jobs").sync(client=client, status=["queued"])
        assert [item.id for item in page.items] == [made.id]
        shown = part("api.jobs.jobs_show").sync(made.id, client=client)
        assert (shown.status, shown.spec["model"]) == ("queued", SPEC["model"])
        canceled = part("api.jobs.jobs_cancel").sync(made.id, client=client)
        assert canceled.status == "canceled"


def test_it_reads_problems(generated: Path, api: Api) -> None:
    models = part("models")
    with served(api) as (url, _, _), part("client").AuthenticatedClient(base_url=url, token=KEY) as client:
        missing = part("api.jobs.jobs_show").sync("job_x", client=client)
        assert isinstance(missing, models.ProblemOut)
        assert missing.type_ == "/problems/job-not-found"
        body = models.JobRequest.from_dict({**SPEC, "sparsity": 2})
        refused = part("api.jobs.jobs_create").sync(client=client, body=body)
        assert [item.pointer for item in refused.errors] == ["/target/sparsity"]


def test_every_operation_was_generated(generated: Path) -> None:
    made = {path.stem for path in generated.glob("api/*/*.py")} - {"__init__"}
    assert len(made) == sum(len(item) for item in json.loads(OPENAPI_PATH.read_text())["paths"].values())
