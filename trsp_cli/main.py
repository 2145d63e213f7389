"""The command `trsp`: its parts, and how every command ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from trsp_cli import about, calibration, jobs, keys, local, models, schedules, slots, webhooks
from trsp_cli.compare import compare
from trsp_cli.demo import demo
from trsp_cli.doctor import doctor
from trsp_cli.export import export
from trsp_cli.output import HANDLED, Exit, Output, Usage, report
from trsp_cli.replay import replay
from trsp_cli.up import up
from trsp_cli.usage import problem_of
from trsp_core.allocator import ENVIRONMENT

app = typer.Typer(
    name="trsp",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Makes causal language models shallower by two-stage layer pruning.",
    epilog="Exit codes: 0 done, 1 the work failed, 2 refused, 3 service unreachable, 130 interrupted.",
)
app.command()(up)
app.command()(demo)
app.command()(doctor)
local.register(app)
app.command()(compare)
app.command()(export)
app.command()(replay)
about.register(app)
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(schedules.app, name="schedules")
app.add_typer(slots.app, name="slots")
app.add_typer(models.app, name="models")
app.add_typer(calibration.app, name="calibration")

_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""What typer raises for a wrong command line; it has no public name of its own."""


@app.callback()
def settings(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print exactly one JSON object on stdout, the rest on stderr.")
    ] = False,
) -> None:
    """Take the options that every command has; `main` takes `--json` wherever it stands."""
    context.obj = Output(json=as_json)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = "--json" in arguments
    flags = not any(item.partition("=")[0] == "--spec" for item in arguments)
    rest = [item for item in arguments if item != "--json"]
    try:
        code = app(["--json", *rest] if as_json else rest, prog_name="trsp", standalone_mode=False)
    except HANDLED as error:
        return int(report(error, as_json=as_json, flags=flags))
    except _USAGE_ERROR as error:
        return int(report(Usage(problem_of(error, arguments)), as_json=as_json))
    if code == Exit.INTERRUPTED:
        return int(report(KeyboardInterrupt(), as_json=as_json))
    return int(code or 0)


def main() -> None:
    """Entry of the command."""
    os.environ.update({**ENVIRONMENT, **os.environ})
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
