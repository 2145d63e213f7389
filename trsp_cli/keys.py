"""`trsp keys`: create, list and revoke the keys of a service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli.connect import Key, Url, connect
from trsp_cli.output import Output

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke keys of a service.")

KeyId = Annotated[str, typer.Argument(help="The key's id, key_….")]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    owner: Annotated[
        str | None, typer.Option(help="Whose jobs it reaches; those of your own key unless given.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="A right, such as jobs:read; repeatable. Runs jobs unless given.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="Days until it ends; never unless given.", min=0)] = None,
    max_queued: Annotated[int | None, typer.Option(help="Jobs that may wait at a time.")] = None,
    max_running: Annotated[int | None, typer.Option(help="Jobs that are worked on at a time.")] = None,
    max_stored_bytes: Annotated[int | None, typer.Option(help="Bytes of results that it may hold.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create a key and print it, this once."""
    output: Output = context.obj
    expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    with connect(url, key) as client:
        made = client.create_key(
            name,
            owner=owner,
            scopes=scope,
            expires_at=expires,
            max_queued=max_queued,
            max_running=max_running,
            max_stored_bytes=max_stored_bytes,
        )
    output.result(made, lambda console: _show_made(console, made))


def _show_made(console: Console, made: Mapping[str, Any]) -> None:
    console.print(made["key"], soft_wrap=True, highlight=False)
    rights = ", ".join(made["scopes"])
    Console(stderr=True).print(
        f"{made['id']} of {made['owner']}: {rights}. It is shown this once.", style="dim"
    )


@app.command("list")
def list_keys(context: typer.Context, url: Url = None, key: Key = None) -> None:
    """List the keys, newest first."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.keys()
    output.result({"items": found}, lambda console: _show_list(console, found))


def _show_list(console: Console, found: list[dict[str, Any]]) -> None:
    table = Table("id", "name", "owner", "begins", "state", "rights", box=None, pad_edge=False)
    for item in found:
        row = (item["id"], item["name"], item["owner"], item["hint"], _state(item), " ".join(item["scopes"]))
        table.add_row(*map(escape, row))
    console.print(table if found else "no keys")


def _state(item: Mapping[str, Any]) -> str:
    if item["revoked_at"]:
        return f"revoked {item['revoked_at']}"
    return f"ends {item['expires_at']}" if item["expires_at"] else "valid"


@app.command()
def show(context: typer.Context, key_id: KeyId, url: Url = None, key: Key = None) -> None:
    """Show a key, without its text."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.key(key_id)
    output.result(found, lambda console: _show_list(console, [found]))


@app.command()
def revoke(context: typer.Context, key_id: KeyId, url: Url = None, key: Key = None) -> None:
    """End a key at once; doing it again changes nothing."""
    output: Output = context.obj
    with connect(url, key) as client:
        client.revoke_key(key_id)
    output.result({"id": key_id, "revoked": True}, lambda console: console.print(f"{key_id} revoked"))
