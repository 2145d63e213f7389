"""`trsp slots …`: what is published under which name, since when, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli.connect import Key, Url, connect
from trsp_cli.output import Output

app = typer.Typer(no_args_is_help=True, help="What is published under which name.")

Name = Annotated[str, typer.Argument(help="The slot's name.")]
JobId = Annotated[str, typer.Argument(help="The job whose result it is, job_…")]
_STYLES = {"published": "green", "rejected": "red", "rolled_back": "yellow"}


@app.command("list")
def list_slots(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="Slots on a page, 1 to 100.")] = 20,
    after: Annotated[str | None, typer.Option(help="Cursor of the page before.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """List the slots by name, each with its current result."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.slots(limit=limit, after=after)
    output.result(page, lambda console: _show_list(console, page))


def _show_list(console: Console, page: Mapping[str, Any]) -> None:
    table = Table("slot", "current", "published", box=None, pad_edge=False)
    for item in page["items"]:
        current = item["current"] or {}
        table.add_row(
            escape(item["name"]), current.get("job_id", "nothing"), current.get("published_at", "–")
        )
    console.print(table if page["items"] else "no slots")
    if page["next_cursor"]:
        console.print(f"more: --after {page['next_cursor']}", style="dim")


@app.command()
def show(context: typer.Context, name: Name, url: Url = None, key: Key = None) -> None:
    """Show a slot and its current result."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.slot(name)
    output.result(found, lambda console: _show_list(console, {"items": [found], "next_cursor": None}))


@app.command()
def history(
    context: typer.Context,
    name: Name,
    limit: Annotated[int, typer.Option(help="Decisions on a page, 1 to 100.")] = 20,
    before: Annotated[int | None, typer.Option(help="Number that the page before ended with.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what was decided about a slot, latest first."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.slot_history(name, limit=limit, before=before)
    output.result(page, lambda console: _show_history(console, page))


def _show_history(console: Console, page: Mapping[str, Any]) -> None:
    for item in page["items"]:
        _show_decision(console, item)
    if page["next_before"]:
        console.print(f"earlier: --before {page['next_before']}", style="dim")


@app.command()
def publish(context: typer.Context, job_id: JobId, name: Name, url: Url = None, key: Key = None) -> None:
    """Make a job's result the current one of a slot, whatever the gate would say."""
    output: Output = context.obj
    with connect(url, key) as client:
        made = client.publish(job_id, name)
    output.result(made, lambda console: _show_decision(console, made))


@app.command()
def rollback(
    context: typer.Context,
    job_id: JobId,
    name: Annotated[
        str | None, typer.Argument(help="The slot; may be left out for a result that is current in one.")
    ] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Take a current result off its slot; the one before it becomes current again."""
    output: Output = context.obj
    with connect(url, key) as client:
        made = client.rollback(job_id, name)
    output.result(made, lambda console: _show_decision(console, made))


def _show_decision(console: Console, item: Mapping[str, Any]) -> None:
    style = _STYLES.get(item["decision"], "dim")
    line = f"{item['number']}  {item['at']}  [{style}]{item['decision']}[/{style}]  {item['job_id']}"
    console.print(f"{line}  {escape(item['reason'])}", soft_wrap=True)
