"""`trsp models …`: models that a service has checked once and pinned under a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli.connect import Key, Url, connect
from trsp_cli.output import Output

app = typer.Typer(no_args_is_help=True, help="Registered models of a service.")

Name = Annotated[str, typer.Argument(help="The name under which it is registered.")]


@app.command()
def register(
    context: typer.Context,
    name: Name,
    model: Annotated[str, typer.Argument(help="Folder, hf:ORG/NAME[@REVISION], gguf:FILE or demo:NAME.")],
    url: Url = None,
    key: Key = None,
) -> None:
    """Check a model once and pin it under a name that jobs may use."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.register_model(name, model)
    output.result(found, lambda console: _show(console, found))


@app.command("list")
def list_models(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="Models on a page, 1 to 100.")] = 20,
    after: Annotated[str | None, typer.Option(help="Cursor of the page before.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """List registered models by name."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.models(limit=limit, after=after)
    output.result(page, lambda console: _show_list(console, page))


def _show_list(console: Console, page: Mapping[str, Any]) -> None:
    table = Table("name", "model", "type", "layers", "parameters", box=None, pad_edge=False)
    for item in page["items"]:
        numbers = (str(item["layers"]), f"{item['parameters']:,}")
        table.add_row(item["name"], escape(item["reference"]), item["model_type"], *numbers)
    console.print(table if page["items"] else "no registered models")
    if page["next_cursor"]:
        console.print(f"more: --after {page['next_cursor']}", style="dim")


@app.command()
def show(context: typer.Context, name: Name, url: Url = None, key: Key = None) -> None:
    """Show a registered model."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.model(name)
    output.result(found, lambda console: _show(console, found))


def _show(console: Console, found: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in found.items():
        table.add_row(f"[dim]{name.replace('_', ' ')}[/dim]", escape(str(value)))
    console.print(table)


@app.command()
def delete(context: typer.Context, name: Name, url: Url = None, key: Key = None) -> None:
    """Forget a registered model; jobs that were made with it are not touched."""
    output: Output = context.obj
    with connect(url, key) as client:
        client.delete_model(name)
    output.result({"deleted": name}, lambda console: console.print(f"{name} deleted"))
