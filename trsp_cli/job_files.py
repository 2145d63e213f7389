"""`trsp jobs download|artifacts|attempts|events`: what a job leaves and what happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from trsp_cli.artifacts import artifacts
from trsp_cli.client import FINAL, Client, Event
from trsp_cli.connect import Key, Url, connect
from trsp_cli.downloads import OnBytes, say_nothing
from trsp_cli.output import CommandFailed, Output

JobId = Annotated[str, typer.Argument(help="The job's id, job_…")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (download, artifacts, attempts, events):
        app.command()(command)


def download(
    context: typer.Context,
    job_id: JobId,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path(),
    path: Annotated[list[str] | None, typer.Option(help="Only this file; repeatable.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Fetch a job's files, each checked by its SHA-256; said again, it goes on where it broke off."""
    output: Output = context.obj
    with connect(url, key) as client:
        with progress_of(client, job_id, output.notes) as on_bytes:
            written = client.download_all(job_id, out, only=path, on_bytes=on_bytes)
        if not written:
            raise CommandFailed(f"{job_id} {_why_nothing(client, job_id)}")
    data = {"job_id": job_id, "files": [str(item) for item in written]}
    output.result(data, lambda console: console.print("\n".join(data["files"]), soft_wrap=True))


def _why_nothing(client: Client, job_id: str) -> str:
    state = client.get(job_id)["status"]
    return "has no such file" if state in FINAL else f"is {state}; its files appear once it has succeeded"


@contextmanager
def progress_of(client: Client, job_id: str, console: Console) -> Iterator[OnBytes]:
    """Show a bar for each file that comes, where a person looks."""
    if not console.is_terminal:
        yield say_nothing
        return
    sizes = {item["path"]: item["size"] for item in client.artifacts(job_id)}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(path: str, done: int) -> None:
            if path not in tasks:
                tasks[path] = bars.add_task(escape(path), total=sizes.get(path))
            bars.update(tasks[path], completed=done)

        yield show


def attempts(context: typer.Context, job_id: JobId, url: Url = None, key: Key = None) -> None:
    """List the tries at a job, each with its end."""
    output: Output = context.obj
    with connect(url, key) as client:
        items = client.attempts(job_id)
    output.result({"job_id": job_id, "items": items}, lambda console: console.print(_tries(items)))


def _tries(items: Sequence[Mapping[str, Any]]) -> Table | str:
    table = Table("attempt", "worker", "started", "outcome", "reason", box=None, pad_edge=False)
    for item in items:
        row = (item["owner"], item["started_at"], item["outcome"] or "at work", item["reason"])
        table.add_row(str(item["number"]), *map(escape, row))
    return table if items else "no attempts yet"


def events(
    context: typer.Context,
    job_id: JobId,
    after: Annotated[int, typer.Option(help="Only events with a higher number.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what happened to a job, event by event."""
    output: Output = context.obj
    seen: list[Event] = []
    with connect(url, key) as client:
        for event in (
            client.events(job_id, after=after) if follow else client.events_so_far(job_id, after=after)
        ):
            seen.append(event) if output.json else typer.echo(_line(event))
    if output.json:
        items = [
            {"sequence": item.sequence, "kind": item.kind, "at": item.at, "data": item.data} for item in seen
        ]
        output.result({"job_id": job_id, "items": items}, lambda _: None)


def _line(event: Event) -> str:
    words = event.data.get("reason") or event.data.get("message") or ""
    state = event.data.get("to") or event.data.get("stage") or ""
    return f"{event.sequence}  {event.at}  {event.kind}  {state}  {words}".rstrip()
