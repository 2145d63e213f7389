"""`trsp webhooks`: have a service tell an address of what becomes of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trsp_cli.connect import Key, Url, connect
from trsp_cli.output import Output

app = typer.Typer(no_args_is_help=True, help="Have a service tell an address of what becomes of jobs.")

WebhookId = Annotated[str, typer.Argument(help="The webhook's id, wh_….")]


@app.command()
def create(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="Where to, https://HOST/PATH.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="Kind of event, such as job.succeeded; repeatable. The ends of jobs unless given."),
    ] = None,
    only_named: Annotated[
        bool, typer.Option("--only-named", help="Only the ends of the jobs that name it.")
    ] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Create a webhook and print its secret."""
    output: Output = context.obj
    with connect(url, key) as client:
        made = client.create_webhook(address, events=[] if only_named else event)
    output.result(made, lambda console: _show_made(console, made))


def _show_made(console: Console, made: Mapping[str, Any]) -> None:
    console.print(made["secret"], soft_wrap=True, highlight=False)
    heard = ", ".join(made["events"]) or "only the jobs that name it"
    Console(stderr=True).print(f"{made['id']} hears of {heard}; verify with this secret.", style="dim")


@app.command("list")
def list_webhooks(context: typer.Context, url: Url = None, key: Key = None) -> None:
    """List the webhooks, newest first."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.webhooks()
    output.result({"items": found}, lambda console: _show_list(console, found))


def _show_list(console: Console, found: list[dict[str, Any]]) -> None:
    table = Table("id", "address", "events", "state", box=None, pad_edge=False)
    for item in found:
        state = item["disabled_reason"] or "active"
        table.add_row(*map(escape, (item["id"], item["url"], " ".join(item["events"]), state)))
    console.print(table if found else "no webhooks")


@app.command()
def show(context: typer.Context, webhook_id: WebhookId, url: Url = None, key: Key = None) -> None:
    """Show a webhook, without its secret."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.webhook(webhook_id)
    output.result(found, lambda console: _show_list(console, [found]))


@app.command()
def deliveries(
    context: typer.Context,
    webhook_id: WebhookId,
    status: Annotated[str | None, typer.Option(help="pending, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option(help="Deliveries on a page, 1 to 100.")] = 20,
    after: Annotated[str | None, typer.Option(help="Cursor of the page before.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """List what was or is to be sent, newest first."""
    output: Output = context.obj
    with connect(url, key) as client:
        page = client.deliveries(webhook_id, status=status, limit=limit, after=after)
    output.result(page, lambda console: _show_deliveries(console, page))


def _show_deliveries(console: Console, page: Mapping[str, Any]) -> None:
    table = Table("id", "event", "job", "status", "tries", "last answer", box=None, pad_edge=False)
    for item in page["items"]:
        said = item["error"] or str(item["answer"] or "–")
        row = (
            item["id"],
            item["event"],
            item["body"]["data"]["job_id"],
            item["status"],
            str(item["tries"]),
            said,
        )
        table.add_row(*map(escape, row))
    console.print(table if page["items"] else "no deliveries")
    if page["next_cursor"]:
        console.print(f"older: --after {page['next_cursor']}", style="dim")


@app.command()
def redeliver(
    context: typer.Context,
    webhook_id: WebhookId,
    delivery_id: Annotated[str, typer.Argument(help="The delivery's id, msg_….")],
    url: Url = None,
    key: Key = None,
) -> None:
    """Send a delivery again under its id."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.redeliver(webhook_id, delivery_id)
    output.result(found, lambda console: console.print(f"{delivery_id} is sent again"))


@app.command("rotate-secret")
def rotate_secret(context: typer.Context, webhook_id: WebhookId, url: Url = None, key: Key = None) -> None:
    """Give a webhook a new secret and print it; the one before signs as well for a day."""
    output: Output = context.obj
    with connect(url, key) as client:
        found = client.rotate_webhook_secret(webhook_id)
    output.result(found, lambda console: console.print(found["secret"], soft_wrap=True, highlight=False))


@app.command()
def delete(context: typer.Context, webhook_id: WebhookId, url: Url = None, key: Key = None) -> None:
    """Remove a webhook with its deliveries."""
    output: Output = context.obj
    with connect(url, key) as client:
        client.delete_webhook(webhook_id)
    output.result({"id": webhook_id, "deleted": True}, lambda console: console.print(f"{webhook_id} deleted"))
