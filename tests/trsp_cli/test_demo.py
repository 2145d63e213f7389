"""The demo's way from submission to the report on disk; a thread stands in for the worker."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.api.conftest import KEY
from tests.api.work import claim, fail, succeed, work_until
from tests.trsp_cli.conftest import Said, Service
from trsp_cli import runfile
from trsp_cli.demo import DEMO_SPEC
from trsp_core.config import CompressionSpec
from trsp_jobs.leases import Claim, JobError


@contextmanager
def worked_on(service: Service, folder: Path, end: Callable[[Claim], None]) -> Iterator[None]:
    """Let the service appear as the one that runs on a folder, and work on its first job."""

    def work() -> None:
        while not service.api.dispatcher.rung:
            time.sleep(0.02)
        held = claim(service.api, service.api.dispatcher.rung[0])
        work_until(service.api, held, "report")
        end(held)

    thread = threading.Thread(target=work)
    thread.start()
    with runfile.hold(folder):
        runfile.write(folder, runfile.RunRecord(service.url, KEY, 1))
        yield
    thread.join()


@pytest.mark.parametrize("flags", [(), ("--keep",)])
def test_the_last_line_says_where_the_report_is(
    trsp: Callable[..., Said], service: Service, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    folder = tmp_path / "data"
    with worked_on(service, folder, lambda held: succeed(service.api, held, tmp_path / "made") and None):
        said = trsp("demo", "--data-dir", str(folder), *flags)
    assert said.code == 0, said.err
    assert "8 of 30 layers removed" in said.out
    assert f"{service.url}/jobs/" in said.out
    label, _, path = said.out.splitlines()[-1].partition(": ")
    assert label == "report"
    report = json.loads(Path(path).read_text())
    assert report["plan"]["removed_layers"]
    assert Path(path).with_suffix(".html").exists()


def test_a_job_that_fails_is_1_and_leaves_no_report(
    trsp: Callable[..., Said], service: Service, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    with worked_on(service, folder, lambda held: fail(service.api, held, JobError("x", "It broke."))):
        said = trsp("demo", "--data-dir", str(folder))
    assert said.code == 1
    assert "It broke." in said.err
    assert "report:" not in said.out


def test_the_demos_job_is_a_job() -> None:
    spec = {name: value for name, value in DEMO_SPEC.items() if name != "labels"}
    assert CompressionSpec.from_dict(spec).target.sparsity == 0.25
