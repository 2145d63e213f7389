"""`trsp jobs …`: the service's jobs over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli import spec_options as words
from trsp_cli.client import FINAL, Client
from trsp_cli.connect import Key, Url, connect
from trsp_cli.output import CommandFailed, Output, Usage
from trsp_core.errors import Problem

app = typer.Typer(no_args_is_help=True, help="Submit, watch and fetch jobs of a service.")

JobId = Annotated[str, typer.Argument(help="The job's id, job_…")]
_STYLES = {"succeeded": "green", "failed": "red", "timed_out": "red", "running": "blue", "starting": "blue"}


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
    body |= _service_options(label, priority, queue_deadline, run_deadline)
    output: Output = context.obj
    with connect(url, key) as client:
        if dry_run:
            found = client.validate(body)
            output.result(found, lambda console: _show_preflight(console, found))
        else:
            job = client.submit(body)
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
    label: list[str] | None, priority: int, queue_deadline: float | None, run_deadline: float | None
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
    }
    return {name: value for name, value in given.items() if value is not None}


def _show_submitted(console: Console, client: Client, job: Mapping[str, Any]) -> None:
    console.print(job["id"])
    notes = Console(stderr=True)
    notes.print(f"{client.url}{job['links']['page']}", style="dim", soft_wrap=True)
    notes.print(f"trsp jobs watch {job['id']}", style="dim", soft_wrap=True)


def _show_preflight(console: Console, found: Mapping[str, Any]) -> None:
    model = found["model"]
    count, kind = f"{found['layers_to_remove']} of {model['layers']} layers", model["model_type"]
    if found["decided_by_measurement"]:
        console.print(f"at most {count} would go, decided by measurement ({kind})")
    else:
        console.print(f"{count} would go ({kind})")
    console.print(f"about {found['memory_bytes'] / 1e9:.1f} GB of memory would be needed")


@app.command("list")
def list_jobs(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only jobs of this status.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    label: Annotated[str | None, typer.Option(help="Only jobs with this label, NAME or NAME=TEXT.")] = None,
    limit: Annotated[int, typer.Option(help="Jobs on a page, 1 to 100.")] = 20,
    after: Annotated[str | None, typer.Option(help="Cursor of the page before.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """List jobs, newest first."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.list(status=status, model=model, label=label, limit=limit, after=after)
    output.result(page, lambda console: _show_list(console, page))


def _show_list(console: Console, page: Mapping[str, Any]) -> None:
    table = Table("id", "status", "progress", "model", "reason", box=None, pad_edge=False)
    for job in page["items"]:
        style = _STYLES.get(job["status"], "dim")
        status = f"[{style}]{job['status']}[/{style}]"
        row = (
            job["id"],
            status,
            f"{job['progress']:.0%}",
            escape(job["spec"]["model"]),
            escape(job["reason"]),
        )
        table.add_row(*row)
    console.print(table if page["items"] else "no jobs")
    if page["next_cursor"]:
        console.print(f"older: --after {page['next_cursor']}", style="dim")


@app.command()
def show(context: typer.Context, job_id: JobId, url: Url = None, key: Key = None) -> None:
    """Show a job."""
    output: Output = context.obj
    with connect(url, key) as client:
        job = client.get(job_id)
        output.result(job, lambda console: show_job(console, client, job))


def show_job(console: Console, client: Client, job: Mapping[str, Any]) -> None:
    """Show a job to a person, its error with every problem among it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "job": job["id"],
        "page": f"{client.url}{job['links']['page']}",
        "model": job["spec"]["model"],
        "status": f"{job['status']}: {job['reason']}",
        "stage": f"{job['stage']} ({job['stage_step']} of {job['stage_total']})" if job["stage"] else "–",
        "progress": f"{job['progress']:.0%}",
        "attempt": f"{job['attempt']} (at most {job['max_attempts']} crashes)",
        "labels": ", ".join(f"{name}={text}" for name, text in job["labels"].items()) or "–",
        "created": job["created_at"],
    }
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/dim]", escape(value))
    console.print(table)
    if job["error"]:
        console.print(f"[red]{escape(error_text(job))}[/red]", soft_wrap=True)


def error_text(job: Mapping[str, Any]) -> str:
    """Return why a job failed, with what may help."""
    error = job["error"] or {"message": job["reason"]}
    problems = [f"{item.get('pointer', '')}: {item['message']}" for item in error.get("problems") or ()]
    help_text = [f"What may help: {error['suggestion']}"] if error.get("suggestion") else []
    return "\n".join([error["message"], *problems, *help_text])


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


@app.command()
def cancel(context: typer.Context, job_id: JobId, url: Url = None, key: Key = None) -> None:
    """Ask a job to stop; asking again changes nothing."""
    _act(context, url, key, "cancel", job_id)


@app.command()
def retry(context: typer.Context, job_id: JobId, url: Url = None, key: Key = None) -> None:
    """Queue a failed, timed out or canceled job again; it goes on from its checkpoint."""
    _act(context, url, key, "retry", job_id)


def _act(context: typer.Context, url: str | None, key: str | None, verb: str, job_id: str) -> None:
    output: Output = context.obj
    with connect(url, key) as client:
        job = client.cancel(job_id) if verb == "cancel" else client.retry(job_id)
    output.result(job, lambda console: console.print(f"{job['id']} {job['status']}: {escape(job['reason'])}"))


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


@app.command()
def download(
    context: typer.Context,
    job_id: JobId,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path(),
    path: Annotated[list[str] | None, typer.Option(help="Only this file; repeatable.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Fetch a job's files, each checked by its SHA-256."""
    output: Output = context.obj
    with connect(url, key) as client:
        written = client.download_all(job_id, out, only=path)
        if not written:
            state = client.get(job_id)["status"]
            hint = (
                "has no such file"
                if state in FINAL
                else f"is {state}; its files appear once it has succeeded"
            )
            raise CommandFailed(f"{job_id} {hint}")
    data = {"job_id": job_id, "files": [str(item) for item in written]}
    output.result(data, lambda console: console.print("\n".join(data["files"]), soft_wrap=True))
