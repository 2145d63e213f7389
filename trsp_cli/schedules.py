"""`trsp schedules …`: job specs that become jobs at times of a cron."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli.client import Client
from trsp_cli.connect import Key, Url, connect
from trsp_cli.jobs import read_spec
from trsp_cli.output import Output, Usage
from trsp_core.errors import Problem

app = typer.Typer(no_args_is_help=True, help="Jobs that come again at the times of a cron.")

ScheduleId = Annotated[str, typer.Argument(help="The schedule's id, sch_…")]
Cron = Annotated[
    str | None, typer.Option(help="Minute, hour, day of month, month, day of week: '0 3 * * MON'.")
]
Zone = Annotated[str | None, typer.Option(help="Time zone of the cron, such as Europe/Berlin (UTC).")]
Misfire = Annotated[
    str | None, typer.Option(help="Times at which the service was away: skip (default) or run_once.")
]
Overlap = Annotated[
    str | None, typer.Option(help="A run while another is unfinished: forbid (default) or allow.")
]
Spec = Annotated[
    Path | None, typer.Option(help="File with the job as JSON, as `jobs submit --spec` takes it.")
]
Slot = Annotated[
    str | None, typer.Option(help="Slot that each result is offered to; it stays out if it is worse.")
]
_STYLES = {"fired": "green", "failed": "red", "missed": "yellow", "overlapped": "yellow"}


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What you call it.")],
    cron: Cron = None,
    spec: Spec = None,
    zone: Zone = None,
    misfire: Misfire = None,
    overlap: Overlap = None,
    slot: Slot = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create a schedule."""
    for flag, value in (("--cron", cron), ("--spec", spec)):
        if value is None:
            raise Usage(Problem(flag, "is required."))
    body = {"name": name, **_changes(cron, zone, misfire, overlap, spec, slot)}
    _give(context, url, key, lambda client: client.create_schedule(body))


def _changes(
    cron: str | None,
    zone: str | None,
    misfire: str | None,
    overlap: str | None,
    spec: Path | None,
    slot: str | None,
) -> dict[str, Any]:
    given: dict[str, Any] = {"cron": cron, "zone": zone, "misfire": misfire, "overlap": overlap}
    if slot is not None and spec is None:
        raise Usage(Problem("--slot", "belongs to a job; give it together with --spec.", slot))
    if spec is not None:
        given["job"] = read_spec(spec) | ({"publish": {"slot": slot}} if slot else {})
    return {field: value for field, value in given.items() if value is not None}


@app.command("list")
def list_schedules(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="Schedules on a page, 1 to 100.")] = 20,
    after: Annotated[str | None, typer.Option(help="Cursor of the page before.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """List schedules, newest first."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.schedules(limit=limit, after=after)
    output.result(page, lambda console: _show_list(console, page))


def _show_list(console: Console, page: Mapping[str, Any]) -> None:
    table = Table("id", "name", "cron", "zone", "next", "model", box=None, pad_edge=False)
    for item in page["items"]:
        row = (item["name"], item["cron"], item["zone"], _next(item), item["job"]["model"])
        table.add_row(item["id"], *map(escape, row))
    console.print(table if page["items"] else "no schedules")
    if page["next_cursor"]:
        console.print(f"older: --after {page['next_cursor']}", style="dim")


def _next(item: Mapping[str, Any]) -> str:
    return "suspended" if item["suspended"] else str(item["next_fire_at"] or "never")


@app.command()
def show(context: typer.Context, schedule_id: ScheduleId, url: Url = None, key: Key = None) -> None:
    """Show a schedule, its next times, and what came of its latest ones."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = {
            **client.schedule(schedule_id),
            "next_times": client.preview_schedule(schedule_id),
            "fires": client.fires(schedule_id, limit=10)["items"],
        }
    output.result(found, lambda console: _show(console, found))


def _show(console: Console, item: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    rules = f"misfire {item['misfire']}, overlap {item['overlap']}"
    when = f"{item['cron']} in {item['zone']}"
    rows = {"schedule": item["id"], "name": item["name"], "when": when, "rules": rules, "next": _next(item)}
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/dim]", escape(str(value)))
    for time in item.get("next_times", ())[1:]:
        table.add_row("", escape(time))
    console.print(table)
    _show_fires(console, item.get("fires", ()))


def _show_fires(console: Console, fires: Sequence[Mapping[str, Any]]) -> None:
    for fire in fires:
        style = _STYLES.get(fire["outcome"], "dim")
        line = f"{fire['fire_at']}  [{style}]{fire['outcome']}[/{style}]  {escape(fire['reason'])}"
        console.print(f"{line}  {fire['job_id'] or ''}", soft_wrap=True)


@app.command()
def update(
    context: typer.Context,
    schedule_id: ScheduleId,
    name: Annotated[str | None, typer.Option(help="What you call it.")] = None,
    cron: Cron = None,
    spec: Spec = None,
    zone: Zone = None,
    misfire: Misfire = None,
    overlap: Overlap = None,
    slot: Slot = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Change what is given of a schedule; a job is replaced as a whole."""
    changes = _changes(cron, zone, misfire, overlap, spec, slot) | ({"name": name} if name else {})
    if not changes:
        raise Usage(Problem("", "nothing to change was given."))

    def change(client: Client) -> dict[str, Any]:
        version = client.schedule(schedule_id)["version"]
        return client.change_schedule(schedule_id, changes, version=version)

    _give(context, url, key, change)


@app.command()
def preview(
    context: typer.Context,
    cron: Annotated[str, typer.Argument(help="Minute, hour, day of month, month, day of week.")],
    zone: Annotated[str, typer.Option(help="Time zone of the cron, such as Europe/Berlin.")] = "UTC",
    url: Url = None,
    key: Key = None,
) -> None:
    """Show the next five times of a cron, in UTC, without creating anything."""
    output: Output = context.obj
    with connect(url, key) as client:
        times = client.preview_times(cron, zone)
    output.result({"times": times}, lambda console: console.print("\n".join(times)))


@app.command()
def history(
    context: typer.Context,
    schedule_id: ScheduleId,
    limit: Annotated[int, typer.Option(help="Times on a page, 1 to 100.")] = 20,
    before: Annotated[str | None, typer.Option(help="Time that the page before ended with.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what came of a schedule's times, latest first."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.fires(schedule_id, limit=limit, before=before)
    output.result(page, lambda console: _show_fires(console, page["items"]))


@app.command()
def pause(context: typer.Context, schedule_id: ScheduleId, url: Url = None, key: Key = None) -> None:
    """Suspend a schedule; asking again changes nothing."""
    _give(context, url, key, lambda client: client.pause_schedule(schedule_id))


@app.command()
def resume(context: typer.Context, schedule_id: ScheduleId, url: Url = None, key: Key = None) -> None:
    """Go on with the next time from now."""
    _give(context, url, key, lambda client: client.resume_schedule(schedule_id))


@app.command("run-now")
def run_now(context: typer.Context, schedule_id: ScheduleId, url: Url = None, key: Key = None) -> None:
    """Make a job of a schedule at once."""
    output: Output = context.obj
    with connect(url, key) as client:
        fire = client.run_schedule(schedule_id)
    output.result(fire, lambda console: console.print(fire["job_id"] or escape(fire["reason"])))


@app.command()
def delete(context: typer.Context, schedule_id: ScheduleId, url: Url = None, key: Key = None) -> None:
    """Remove a schedule with its history; its jobs stay."""
    output: Output = context.obj
    with connect(url, key) as client:
        client.delete_schedule(schedule_id)
    output.result({"deleted": schedule_id}, lambda console: console.print(f"{schedule_id} deleted"))


def _give(
    context: typer.Context, url: str | None, key: str | None, call: Callable[[Client], dict[str, Any]]
) -> None:
    output: Output = context.obj
    with connect(url, key) as client:
        item = call(client)
    output.result(item, lambda console: _show(console, item))
