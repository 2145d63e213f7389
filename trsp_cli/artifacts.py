"""`trsp jobs artifacts`: a job's files, and links to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli.connect import Key, Url, connect
from trsp_cli.output import Output


def artifacts(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(help="The job's id, job_…")],
    links: Annotated[
        bool, typer.Option("--links", help="Make links that download the files without a key.")
    ] = False,
    seconds: Annotated[int, typer.Option(help="How long the links download, a week at most.")] = 3600,
    path: Annotated[list[str] | None, typer.Option(help="Only this file; repeatable.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """List a job's files with their hashes, or make links to them."""
    output: Output = context.obj
    with connect(url, key) as client:
        if links:
            items = client.links(job_id, paths=path or None, seconds=seconds)
        else:
            items = [item for item in client.artifacts(job_id) if not path or item["path"] in path]
    show = _show_links if links else _show_files
    output.result({"job_id": job_id, "items": items}, lambda console: show(console, items))


def _show_links(console: Console, items: Sequence[Mapping[str, Any]]) -> None:
    for item in items:
        console.print(f"{escape(item['path'])}  until {item['expires_at']}", highlight=False)
        console.print(item["url"], soft_wrap=True, highlight=False)


def _show_files(console: Console, items: Sequence[Mapping[str, Any]]) -> None:
    table = Table("path", "bytes", "SHA-256", "", box=None, pad_edge=False)
    for item in items:
        gone = f"[red]not in the store since {item['missing_since']}[/red]" if item["missing_since"] else ""
        table.add_row(escape(item["path"]), str(item["size"]), item["sha256"], gone)
    console.print(table if items else "no files")
