"""How every command speaks and ends: one JSON object or text for a person, and one table of exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rich.console import Console
from rich.markup import escape

from trsp_cli.client import Refused, ServiceError, Unreachable
from trsp_cli.flags import in_flags
from trsp_core.errors import Cancelled, InputRefused, Problem, TrspError

_ANY_WIDTH = 1000
"""Columns where nobody looks at a terminal."""


class Exit(IntEnum):
    """What the exit code tells."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command did what it was asked, and the outcome is a failure (exit code 1).

    Attributes:
        result: What `--json` prints; None for a plain error object.
    """

    def __init__(self, message: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result


class Usage(InputRefused):
    """An argument of the command line cannot be used."""

    code = "usage"


@dataclass
class Output:
    """Where a command's words go: with `json`, stdout carries one object and stderr all the rest."""

    json: bool = False

    @property
    def notes(self) -> Console:
        """The console for progress and remarks; stdout is left to the result."""
        return Console(stderr=True)

    def result(self, value: Mapping[str, Any], show: Callable[[Console], None]) -> None:
        """Give a command's result: as JSON, or as `show` draws it for a person."""
        if self.json:
            print_json(value)
        else:
            show(person())


def person() -> Console:
    """Return the console of stdout; where that is no terminal, lines are as long as they need to be."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_ANY_WIDTH)


def print_json(value: Mapping[str, Any]) -> None:
    """Print the one JSON object of `--json`."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (InputRefused, Exit.REFUSED),
    (Cancelled, Exit.INTERRUPTED),
    (KeyboardInterrupt, Exit.INTERRUPTED),
    (Refused, Exit.REFUSED),
    (Unreachable, Exit.UNREACHABLE),
    (ServiceError, Exit.FAILED),
    (CommandFailed, Exit.FAILED),
    (TrspError, Exit.FAILED),
    (OSError, Exit.FAILED),
)


def exit_code(error: BaseException) -> Exit:
    """Return the exit code of an error; the only place that decides it."""
    if isinstance(error, Refused) and error.status >= 500:
        return Exit.FAILED
    return next(code for cls, code in _CODES if isinstance(error, cls))


HANDLED = tuple(cls for cls, _ in _CODES)


def report(error: BaseException, *, as_json: bool, flags: bool = True) -> Exit:
    """Tell an error, every problem with its suggestion, and return the exit code.

    Args:
        error: What ended the command.
        as_json: Whether stdout gets it as JSON; its problems name fields by JSON pointers.
        flags: Whether a person reads of flags where a problem names a field of the job spec.
    """
    code = exit_code(error)
    described = describe(error)
    if as_json:
        given = error.result if isinstance(error, CommandFailed) else None
        print_json(given if given is not None else {"error": {**described, "exit_code": int(code)}})
    _tell(Console(stderr=True), described, flags)
    return code


def describe(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON: `code`, `message` and `errors` with pointers."""
    if isinstance(error, InputRefused):
        problems = [problem.to_dict() for problem in error.problems]
        return {"code": error.code, "message": str(error), "errors": problems}
    if isinstance(error, Refused):
        return _describe_refused(error)
    if isinstance(error, (KeyboardInterrupt, Cancelled)):
        return {"code": "interrupted", "message": str(error) or "by Ctrl-C", "errors": []}
    code = "unreachable" if isinstance(error, Unreachable) else getattr(error, "code", "failed")
    return {"code": code, "message": str(error) or type(error).__name__, "errors": []}


def _describe_refused(error: Refused) -> dict[str, Any]:
    problem = error.problem
    return {
        "code": str(problem.get("type", "refused")).rpartition("/")[2],
        "message": str(error),
        "advice": problem.get("advice", ""),
        "request_id": problem.get("request_id", ""),
        "errors": problem.get("errors", []),
    }


def _tell(console: Console, described: Mapping[str, Any], flags: bool) -> None:
    problems = described["errors"]
    if described["code"] == "interrupted":
        console.print(f"[yellow]interrupted[/yellow]: {escape(described['message'])}", soft_wrap=True)
    elif not problems:
        console.print(f"[red]error[/red] {escape(described['message'])}", soft_wrap=True)
    for problem in problems:
        console.print(f"[red]error[/red] {escape(problem_line(problem, flags=flags))}", soft_wrap=True)
    if not problems and described.get("advice"):
        console.print(f"      {escape(described['advice'])}", soft_wrap=True)


def problem_line(problem: Mapping[str, Any], *, flags: bool = False) -> str:
    """Return one problem of an error as a line, with `flags` in the words of the command line."""
    read = Problem(
        str(problem.get("pointer", "")), str(problem.get("message", "")), suggestion=problem.get("suggestion")
    )
    return str(in_flags(read) if flags else read)
