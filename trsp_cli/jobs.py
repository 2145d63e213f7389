"""`trsp jobs …`: the service's jobs over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from trsp_cli import job_files
from trsp_cli import spec_options as words
from trsp_cli.client import Client
from trsp_cli.connect import Key, Url, connect
from trsp_cli.job_tables import error_text, show_comparison, show_job, show_list, show_preflight
from trsp_cli.output import CommandFailed, Output, Usage
from trsp_core.errors import Problem

app = typer.Typer(no_args_is_help=True, help="Submit, watch and fetch jobs of a service.")

JobId = Annotated[str, typer.Argument(help="The job's id, job_…")]


@app.command()
def submit(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="The model; or give the whole job by --spec.")] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Text to learn from; several joined by '+'.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="File with the job spec as JSON, in place of the rest.")
    ] = None,
    sparsity: words.Sparsity = None,
    layers_to_remove: words.LayersToRemove = None,
    max_params: words.MaxParams = None,
    speedup: words.Speedup = None,
    max_perplexity_ratio: words.MaxPerplexityRatio = None,
    method: words.MethodName = "trsp",
    sequences: words.Sequences = None,
    sequence_length: words.SequenceLength = None,
    seed: words.Seed = 0,
    perplexity: words.Perplexity = None,
    tasks: words.Tasks = None,
    speed: words.Speed = False,
    windows: words.Windows = None,
    window_length: words.WindowLength = None,
    settings: words.Settings = None,
    device: words.DeviceName = "auto",
    label: Annotated[list[str] | None, typer.Option(help="NAME=TEXT; repeatable.")] = None,
    priority: Annotated[int, typer.Option(help="Jobs of a higher priority start first.")] = 0,
    queue_deadline: Annotated[
        float | None, typer.Option(help="Seconds that it may wait for its start.")
    ] = None,
    run_deadline: Annotated[float | None, typer.Option(help="Seconds that it may take.")] = None,
    once: Annotated[
        str | None, typer.Option(help="Your name for this wish; said again within a day, no second job.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(help="Id of a webhook of yours that hears of its end.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the job would do.")] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create a job."""
    if (model is None) == (spec is None):
        raise Usage(Problem("MODEL", "give either a model, or the whole job by --spec."))
    if spec is not None:
        body = read_spec(spec)
    else:
        if calibration is None:
            raise Usage(Problem("--calibration", "is required, such as --calibration python-docs."))
        body = words.with_settings(
            {
                "model": model or "",
                "target": words.target(sparsity, layers_to_remove, max_params, speedup, max_perplexity_ratio),
                "calibration": words.calibration(calibration, sequences, sequence_length, seed),
                "method": {"name": method},
                "evaluation": words.evaluation(perplexity, tasks, speed, windows, window_length),
                "device": device,
            },
            settings,
        )
    body |= _service_options(label, priority, queue_deadline, run_deadline, webhook)
    output: Output = context.obj
    with connect(url, key) as client:
        if dry_run:
            found = client.validate(body)
            output.result(found, lambda console: show_preflight(console, found))
        else:
            job = client.submit(body, idempotency_key=once)
            output.result(job, lambda console: _show_submitted(console, client, job))


def read_spec(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        Usage: If the file holds none.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Usage(Problem("--spec", f"is {path}, which is no JSON file: {error}", str(path))) from error
    if not isinstance(data, dict):
        raise Usage(Problem("--spec", f"is {path}, which holds no JSON object.", str(path)))
    return data


def _service_options(
    label: list[str] | None,
    priority: int,
    queue_deadline: float | None,
    run_deadline: float | None,
    webhook: str | None,
) -> dict[str, Any]:
    labels = {}
    for item in label or []:
        name, equals, text = item.partition("=")
        if not equals:
            raise Usage(Problem("--label", f"is {item!r}; it must be NAME=TEXT.", item))
        labels[name] = text
    given = {
        "labels": labels or None,
        "priority": priority or None,
        "queue_deadline": queue_deadline,
        "run_deadline": run_deadline,
        "webhook": webhook,
    }
    return {name: value for name, value in given.items() if value is not None}


def _show_submitted(console: Console, client: Client, job: Mapping[str, Any]) -> None:
    console.print(job["id"])
    notes = Console(stderr=True)
    notes.print(f"{client.url}{job['links']['page']}", style="dim", soft_wrap=True)
    notes.print(f"trsp jobs watch {job['id']}", style="dim", soft_wrap=True)


@app.command("list")
def list_jobs(
    context: typer.Context,
    status: Annotated[list[str] | None, typer.Option(help="Only jobs of this status; repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Only jobs with this label, NAME or NAME=TEXT; repeatable.")
    ] = None,
    created_after: Annotated[str | None, typer.Option(help="Only jobs created later, RFC 3339.")] = None,
    created_before: Annotated[str | None, typer.Option(help="Only jobs created earlier, RFC 3339.")] = None,
    sort: Annotated[
        str | None, typer.Option(help="created_at, finished_at or priority; with - in front largest first.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Jobs on a page, 1 to 100.")] = 20,
    after: Annotated[str | None, typer.Option(help="Cursor of the page before.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """List jobs, newest first unless sorted otherwise."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.list(
            status=status,
            model=model,
            label=label,
            created_after=created_after,
            created_before=created_before,
            sort=sort,
            limit=limit,
            after=after,
        )
    output.result(page, lambda console: show_list(console, page))


@app.command()
def show(context: typer.Context, job_id: JobId, url: Url = None, key: Key = None) -> None:
    """Show a job."""
    output: Output = context.obj
    with connect(url, key) as client:
        job = client.get(job_id)
        output.result(job, lambda console: show_job(console, client.url, job))


@app.command()
def watch(context: typer.Context, job_id: JobId, url: Url = None, key: Key = None) -> None:
    """Follow a job to its end; exit code 0 if it succeeded."""
    output: Output = context.obj
    with connect(url, key) as client:
        job = follow(client, job_id, output)
        conclude(client, job, output)


def follow(client: Client, job_id: str, output: Output) -> dict[str, Any]:
    """Show a job's progress until it is final and return it."""
    from trsp_cli.render import ProgressView

    with ProgressView(output.notes) as view:
        for event in client.events(job_id):
            if event.kind == "progress":
                view.update(event.data)
    return client.wait(job_id)


def conclude(client: Client, job: dict[str, Any], output: Output) -> None:
    """Give a final job as the command's result.

    Raises:
        CommandFailed: If it did not succeed.
    """
    if job["status"] != "succeeded":
        raise CommandFailed(f"{job['id']} {job['status']}: {error_text(job)}", job)
    output.result(job, lambda console: _show_report(console, client.report(job["id"])))


def _show_report(console: Console, report: Mapping[str, Any]) -> None:
    from trsp_cli.render import print_summary

    print_summary(console, report)


Known = Annotated[
    str | None, typer.Option("--etag", help="ETag of the job as you know it; nothing is done if it changed.")
]


@app.command()
def cancel(
    context: typer.Context, job_id: JobId, etag: Known = None, url: Url = None, key: Key = None
) -> None:
    """Ask a job to stop; asking again changes nothing."""
    with connect(url, key) as client:
        _show_state(context, client.cancel(job_id, etag=etag))


@app.command()
def retry(
    context: typer.Context,
    job_id: JobId,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Begin again, whatever checkpoint there is.")
    ] = False,
    etag: Known = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Queue a failed, timed out or canceled job again; it goes on from its checkpoint."""
    with connect(url, key) as client:
        _show_state(context, client.retry(job_id, from_scratch=from_scratch, etag=etag))


def _show_state(context: typer.Context, job: dict[str, Any]) -> None:
    output: Output = context.obj
    output.result(job, lambda console: console.print(f"{job['id']} {job['status']}: {escape(job['reason'])}"))


@app.command()
def clone(
    context: typer.Context,
    job_id: JobId,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="As with submit, such as calibration.seed=1; repeatable."),
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="File with the changes as JSON, a merge patch.")] = None,
    once: Annotated[
        str | None, typer.Option(help="Your name for this wish; said again within a day, no second job.")
    ] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create a job like another, with some fields changed."""
    changes = words.with_settings(read_spec(spec) if spec else {}, settings)
    output: Output = context.obj
    with connect(url, key) as client:
        job = client.clone(job_id, changes, idempotency_key=once)
        output.result(job, lambda console: _show_submitted(console, client, job))


@app.command()
def delete(
    context: typer.Context, job_id: JobId, etag: Known = None, url: Url = None, key: Key = None
) -> None:
    """Delete a job that has ended, with its events, logs and files. There is no way back."""
    output: Output = context.obj
    with connect(url, key) as client:
        client.delete(job_id, etag=etag)
    output.result({"id": job_id, "deleted": True}, lambda console: console.print(f"{job_id} deleted"))


@app.command()
def compare(
    context: typer.Context,
    job_ids: Annotated[list[str], typer.Argument(help="Two jobs or more.")],
    url: Url = None,
    key: Key = None,
) -> None:
    """Show the key figures of several jobs side by side."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.compare(job_ids)
    output.result(found, lambda console: show_comparison(console, found))


@app.command()
def logs(
    context: typer.Context,
    job_id: JobId,
    attempt: Annotated[int | None, typer.Option(help="The latest unless given.")] = None,
    follow_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt ends.")] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print an attempt's log."""
    output: Output = context.obj
    with connect(url, key) as client:
        pieces = []
        for text in client.follow_logs(job_id, attempt=attempt, to_the_end=follow_on):
            pieces.append(text) if output.json else typer.echo(text, nl=False)
    if output.json:
        output.result({"job_id": job_id, "text": "".join(pieces)}, lambda _: None)


@app.command()
def report(context: typer.Context, job_id: JobId, url: Url = None, key: Key = None) -> None:
    """Show the report of a job that succeeded; with --json the whole report.json."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.report(job_id)
    output.result(found, lambda console: _show_report(console, found))


job_files.register(app)
