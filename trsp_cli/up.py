"""`trsp up`: the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli import runfile
from trsp_cli.credentials import KEY_FILE
from trsp_cli.output import Output

if TYPE_CHECKING:
    from trsp_cli.embedded import Service

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where it keeps everything (TRSP_DATA_DIR).")
]
AllowFiles = Annotated[
    list[Path] | None,
    typer.Option("--allow-files", help="Folder whose models and texts jobs may name; repeatable."),
]


def up(
    context: typer.Context,
    data_dir: DataDir = None,
    host: Annotated[str, typer.Option(help="Address that the API listens on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Its port; 8000 or the next free one unless given.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Jobs at a time.")] = 1,
    allow_files: AllowFiles = None,
    key: Annotated[str | None, typer.Option(envvar="TRSP_KEY", help="Key that clients must send.")] = None,
) -> None:
    """Start database, broker, API, dashboard, housekeeping and workers here, and stop them on Ctrl-C."""
    from trsp_cli import embedded

    output: Output = context.obj
    config = embedded.Config(
        data_dir=(data_dir or runfile.default_data_dir()).expanduser().resolve(),
        host=host,
        port=port,
        workers=workers,
        allow_files=tuple(folder.expanduser() for folder in allow_files or ()),
        key=key,
    )
    notes = output.notes
    with embedded.running(config, lambda line: notes.print(escape(line), style="dim")) as service:
        output.result(started(service), lambda console: show_started(console, service))
        notes.print("Ctrl-C stops it.")
        wait_for_interruption()


def wait_for_interruption() -> None:
    """Return on Ctrl-C or SIGTERM, which is how a service that is up is meant to end."""
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def started(service: Service) -> dict[str, object]:
    """Return what was started as JSON."""
    parts = [
        {"name": item.part.name, "address": item.part.address, "pid": item.pid, "log": str(item.part.log)}
        for item in service.parts
    ]
    data_dir = str(service.config.data_dir)
    return {"url": service.url, "pid": os.getpid(), "data_dir": data_dir, "parts": parts}


def show_started(console: Console, service: Service) -> None:
    """Show what was started and where."""
    table = Table("part", "address", "pid", "log", box=None, pad_edge=False)
    for item in service.parts:
        log = item.part.log.relative_to(service.config.data_dir)
        table.add_row(item.part.name, item.part.address or "–", str(item.pid), str(log))
    console.print(table)
    console.print(f"data       {service.config.data_dir}", soft_wrap=True, highlight=False)
    console.print(f"dashboard  {service.url}/", soft_wrap=True, highlight=False)
    key = service.config.data_dir / KEY_FILE
    if key.exists():
        console.print(f"sign in    with the key in {key}", soft_wrap=True, highlight=False)
