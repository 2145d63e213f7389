"""`trsp demo`: the whole way once, on a real model: service up, job over HTTP, report on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from trsp_cli import jobs, runfile
from trsp_cli.client import Client
from trsp_cli.connect import DEMO_DIR
from trsp_cli.job_tables import error_text
from trsp_cli.output import CommandFailed, Output
from trsp_cli.up import DataDir, show_started, wait_for_interruption

DEMO_SPEC: Mapping[str, Any] = {
    "model": "demo:smollm2-135m",
    "sparsity": 0.25,
    "calibration": {"set": "python-docs", "sequences": 48, "sequence_length": 256},
    "method": {"name": "trsp", "stage1_sequences": 4, "stage2_steps": 24},
    "evaluation": {
        "perplexity": ["python-docs"],
        "windows": 8,
        "window_length": 512,
        "speed": {
            "prompt_tokens": 256,
            "batch": 2,
            "generation_prompt": 16,
            "new_tokens": 12,
            "repeats": 3,
            "warmup": 1,
        },
    },
    "labels": {"run": "demo"},
}
"""The demo's job: small enough for two cores, real in every stage."""

REPORT_FILES = ("report.json", "report.html", "report.csv", "plan.json", "manifest.json")


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running until Ctrl-C.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Compress a real 135M-parameter model on a service started here, and show what came out."""
    output: Output = context.obj
    folder = (data_dir or DEMO_DIR).expanduser().resolve()
    with _service(folder) as (client, is_ours):
        outcome = _run(client, folder / "reports", output)
        stays = keep or not is_ours
        if stays:
            _tell(output, outcome, stays=True)
        if keep and is_ours:
            wait_for_interruption()
    if not stays:
        _tell(output, outcome, stays=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo's job came to, and where its report was written."""

    job: dict[str, Any]
    report: dict[str, Any]
    path: Path
    page: str


@contextmanager
def _service(folder: Path) -> Iterator[tuple[Client, bool]]:
    """Give a client of the service that runs on the folder, or of one started for the demo."""
    record = runfile.read(folder)
    if record is not None and runfile.is_held(folder):
        with Client(record.url, record.key) as client:
            yield client, False
        return
    from trsp_cli import embedded

    notes = Console(stderr=True)
    with (
        embedded.running(
            embedded.Config(data_dir=folder), lambda line: notes.print(escape(line), style="dim")
        ) as service,
        service.client() as client,
    ):
        show_started(notes, service)
        yield client, True


def _run(client: Client, folder: Path, output: Output) -> Outcome:
    job = client.submit(DEMO_SPEC)
    page = f"{client.url}{job['links']['page']}"
    Console(stderr=True).print(f"job        {page}", soft_wrap=True, highlight=False)
    job = jobs.follow(client, job["id"], output)
    if job["status"] != "succeeded":
        raise CommandFailed(f"{job['id']} {job['status']}: {error_text(job)}", job)
    paths = client.download_all(job["id"], folder / job["id"], only=REPORT_FILES)
    path = next(item for item in paths if item.name == "report.json")
    return Outcome(job, client.report(job["id"]), path, page)


def _tell(output: Output, outcome: Outcome, *, stays: bool) -> None:
    """Give the result; for a person its last line is where the report is."""
    data = {"job": outcome.job, "report": outcome.report, "path": str(outcome.path), "page": outcome.page}
    output.result(data, lambda console: _show(console, outcome, stays=stays))


def _show(console: Console, outcome: Outcome, *, stays: bool) -> None:
    from trsp_cli.render import print_summary

    print_summary(console, outcome.report)
    again = "the service is up; Ctrl-C here, or where it was started, stops it"
    if not stays:
        again = f"after `trsp up --data-dir {outcome.path.parents[2]}`"
    console.print(f"dashboard: {outcome.page} ({again})", soft_wrap=True, highlight=False)
    console.print(f"page: {outcome.path.with_suffix('.html')}", soft_wrap=True, highlight=False)
    console.print(f"report: {outcome.path}", soft_wrap=True, highlight=False, markup=False)
