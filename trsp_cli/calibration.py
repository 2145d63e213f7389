"""`trsp calibration …`: texts that a service keeps for its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli.connect import Key, Url, connect
from trsp_cli.output import Output, Usage
from trsp_core.errors import Problem

app = typer.Typer(no_args_is_help=True, help="Uploaded texts of a service; a job names one as upload:ID.")

SetId = Annotated[str, typer.Argument(help="The text's id, cal_…")]


@app.command()
def upload(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The text: .txt, .jsonl or .parquet.")],
    name: Annotated[str | None, typer.Option(help="What you call it; the file's name unless given.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="text, jsonl or parquet; by the file's name unless given.")
    ] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Upload a text; the very same bytes are kept once."""
    if not file.is_file():
        raise Usage(Problem("FILE", f"is {file}, which is no file.", str(file)))
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.upload_text(file, name=name, kind=kind)
    output.result(found, lambda console: console.print(found["reference"]))


@app.command("list")
def list_sets(
    context: typer.Context,
    deleted: Annotated[bool, typer.Option("--deleted", help="The deleted ones instead.")] = False,
    limit: Annotated[int, typer.Option(help="Texts on a page, 1 to 100.")] = 20,
    after: Annotated[str | None, typer.Option(help="Cursor of the page before.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """List uploaded texts, newest first."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.calibration_sets(deleted=deleted, limit=limit, after=after)
    output.result(page, lambda console: _show_list(console, page))


def _show_list(console: Console, page: Mapping[str, Any]) -> None:
    table = Table("id", "name", "kind", "bytes", "created", box=None, pad_edge=False)
    for item in page["items"]:
        table.add_row(item["id"], escape(item["name"]), item["kind"], f"{item['size']:,}", item["created_at"])
    console.print(table if page["items"] else "no uploaded texts")
    if page["next_cursor"]:
        console.print(f"older: --after {page['next_cursor']}", style="dim")


@app.command()
def show(
    context: typer.Context,
    set_id: SetId,
    tokens_for: Annotated[
        str | None, typer.Option(help="Also count its tokens for this model; may take minutes.")
    ] = None,
    field: Annotated[str | None, typer.Option(help="Field or column to count (text).")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show an uploaded text and the jobs that named it; of a deleted one, the proof."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.calibration_set(set_id)
        if tokens_for is not None:
            found["tokens"] = client.count_tokens(set_id, tokens_for, field=field)["tokens"]
    output.result(found, lambda console: _show(console, found))


def _show(console: Console, found: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in found.items():
        shown = (", ".join(value) or "–") if isinstance(value, list) else str(value)
        table.add_row(f"[dim]{name.replace('_', ' ')}[/dim]", escape(shown))
    console.print(table)


@app.command()
def delete(context: typer.Context, set_id: SetId, url: Url = None, key: Key = None) -> None:
    """Delete an uploaded text; what is printed is the proof."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.delete_calibration_set(set_id)
    output.result(found, lambda console: _show(console, found))
