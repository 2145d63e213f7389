"""`trsp doctor`: what is wrong with this installation, and the mend."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli import runfile
from trsp_cli.client import Client, ServiceError
from trsp_cli.connect import Key, Url, connect
from trsp_cli.output import CommandFailed, Output, person
from trsp_cli.up import DataDir
from trsp_core.errors import InputRefused

ROOM_BYTES = 3_000_000_000
NEEDED = (
    "torch",
    "transformers",
    "safetensors",
    "gguf",
    "peft",
    "fastapi",
    "sqlalchemy",
    "celery",
    "obstore",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `state` is ok, note or wrong; `mend` is what to do."""

    name: str
    state: str
    detail: str
    mend: str = ""


def doctor(
    context: typer.Context,
    data_dir: DataDir = None,
    url: Url = None,
    key: Key = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what has to load torch.")] = False,
) -> None:
    """Check the installation, the devices and the service; exit code 1 if something is wrong."""
    folder = (data_dir or runfile.default_data_dir()).expanduser().resolve()
    findings = [
        _python(),
        *(_package(name) for name in NEEDED),
        _embedded(),
        _demo_model(),
        _room(folder),
        *([] if quick else [_device()]),
        _service(url, key),
    ]
    wrong = [item for item in findings if item.state == "wrong"]
    data = {"ok": not wrong, "findings": [asdict(item) for item in findings]}
    output: Output = context.obj
    if not output.json:
        _show(person(), findings)
    if wrong:
        raise CommandFailed("; ".join(f"{item.name}: {item.detail}" for item in wrong), data)
    output.result(data, lambda _: None)


def _show(console: Console, findings: list[Finding]) -> None:
    marks = {"ok": "[green]✓[/green]", "note": "[yellow]·[/yellow]", "wrong": "[red]✗[/red]"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for item in findings:
        mend = f" [dim]{escape(item.mend)}[/dim]" if item.mend else ""
        table.add_row(marks[item.state], item.name, f"{escape(item.detail)}{mend}")
    console.print(table)


def _python() -> Finding:
    return Finding("python", "ok", f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}")


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "wrong", "is missing", "Install the project again: make demo.")


def _embedded() -> Finding:
    from trsp_cli import servers

    try:
        servers.require()
    except InputRefused as error:
        return Finding("embedded servers", "note", str(error), "Only `trsp up` and `trsp demo` need them.")
    return Finding("embedded servers", "ok", "PostgreSQL and Valkey are installed")


def _demo_model() -> Finding:
    from trsp_core.sources import SourcePolicy, inspect, resolve

    try:
        facts = inspect(resolve("demo:smollm2-135m", SourcePolicy.from_environment()))
    except InputRefused as error:
        return Finding("demo model", "note", str(error), "Only the demo needs it.")
    return Finding("demo model", "ok", f"{facts.layers} layers, {facts.parameters / 1e6:.1f} M parameters")


def _room(folder: Path) -> Finding:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    said = f"{folder}, {free / 1e9:.1f} GB free"
    if not os.access(existing, os.W_OK):
        return Finding("data folder", "wrong", f"{existing} cannot be written", "Name another: --data-dir.")
    if free < ROOM_BYTES:
        return Finding("data folder", "note", said, "A job on the demo model takes about 3 GB.")
    return Finding("data folder", "ok", said)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("device", "ok", f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
    return Finding("device", "ok", f"CPU, {torch.get_num_threads()} threads; no CUDA device")


def _service(url: str | None, key: str | None) -> Finding:
    try:
        with connect(url, key) as client:
            return _judge(client)
    except ServiceError as error:
        state = "wrong" if url else "note"
        return Finding("service", state, str(error))


def _judge(client: Client) -> Finding:
    ready = client.ready()
    down = [name for name, check in ready["checks"].items() if check["status"] != "ok"]
    workers = len(client.workers()) if "database" not in down else 0
    said = f"{client.url} is {ready['status']}, {workers} worker{'' if workers == 1 else 's'} online"
    if down:
        return Finding("service", "wrong", f"{said}; does not answer: {', '.join(down)}", _mend(down))
    return Finding(
        "service", "ok" if workers else "note", said, "" if workers else "Start one: python -m worker."
    )


def _mend(down: list[str]) -> str:
    places: dict[str, str] = {
        "database": "TRSP_DATABASE_URL",
        "broker": "TRSP_BROKER_URL",
        "store": "TRSP_STORE_URL",
    }
    return f"Look at {', '.join(places[name] for name in down)} and at the log of that server."
