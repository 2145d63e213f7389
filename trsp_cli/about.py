"""What a service says of itself: `trsp status`, `trsp workers`, `trsp methods`, `trsp usage`, `trsp audit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli.connect import Key, Url, connect
from trsp_cli.output import CommandFailed, Output
from trsp_core.report import numbers


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, workers, methods, usage, audit):
        app.command()(command)


def status(context: typer.Context, url: Url = None, key: Key = None) -> None:
    """Tell whether the service can work, and what runs there; exit code 1 if it cannot."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = {"url": client.url, **client.alive(), **client.version(), **client.ready()}
    if found["status"] == "unready":
        down = [name for name, check in found["checks"].items() if check["status"] == "down"]
        raise CommandFailed(f"{found['url']} cannot work: {', '.join(down)} down", found)
    output.result(found, lambda console: _show_status(console, found))


def _show_status(console: Console, found: Mapping[str, Any]) -> None:
    console.print(f"{found['url']} is {found['status']}: {found['name']} {found['version']}", soft_wrap=True)
    for name, check in found["checks"].items():
        console.print(f"  {name} {check['status']} {escape(check['detail'])}".rstrip())


def workers(context: typer.Context, url: Url = None, key: Key = None) -> None:
    """List the workers that are online."""
    with connect(url, key) as client:
        _table(context, client.workers(), ("id", "device", "current_job", "last_seen"), "no workers online")


def methods(context: typer.Context, url: Url = None, key: Key = None) -> None:
    """List the methods that the service knows; with --json the ranges of their options too."""
    with connect(url, key) as client:
        _table(context, client.methods(), ("name", "summary"), "no methods")


def usage(context: typer.Context, url: Url = None, key: Key = None) -> None:
    """Show what each key has used."""
    with connect(url, key) as client:
        items = client.usage()
    output: Output = context.obj
    output.result({"items": items}, lambda console: console.print(_usage_table(items)))


def _usage_table(items: Sequence[Mapping[str, Any]]) -> Table | str:
    table = Table(
        "key",
        "owner",
        "jobs",
        "succeeded",
        "device time",
        "gradient tokens",
        "stored",
        box=None,
        pad_edge=False,
    )
    for item in items:
        table.add_row(
            escape(item["name"] or item["key_id"] or "operator"),
            escape(item["owner"]),
            str(item["jobs"]),
            str(item["succeeded"]),
            numbers.seconds(item["device_seconds"]),
            str(item["gradient_tokens"]),
            numbers.size(item["stored_bytes"]),
        )
    return table if items else "no key has jobs"


def audit(
    context: typer.Context,
    subject: Annotated[str | None, typer.Option(help="Only changes of this id.")] = None,
    limit: Annotated[int, typer.Option(help="Changes on a page, 1 to 1000.")] = 50,
    after: Annotated[int | None, typer.Option(help="Cursor of the page before.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show who changed what, newest first."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.audit(subject=subject, limit=limit, after=after)
    output.result(page, lambda console: _show_audit(console, page))


def _show_audit(console: Console, page: Mapping[str, Any]) -> None:
    console.print(_rows(page["items"], ("at", "key_name", "action", "subject", "address"), "no changes"))
    if page["next_cursor"]:
        console.print(f"older: --after {page['next_cursor']}", style="dim")


def _table(
    context: typer.Context, items: Sequence[Mapping[str, Any]], columns: Sequence[str], nothing: str
) -> None:
    output: Output = context.obj
    output.result({"items": items}, lambda console: console.print(_rows(items, columns, nothing)))


def _rows(items: Sequence[Mapping[str, Any]], columns: Sequence[str], nothing: str) -> Table | str:
    table = Table(*(name.replace("_", " ") for name in columns), box=None, pad_edge=False)
    for item in items:
        table.add_row(*(escape(str(item[name] if item[name] is not None else "–")) for name in columns))
    return table if items else nothing
