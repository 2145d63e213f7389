"""Jobs as a person sees them in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_STYLES = {"succeeded": "green", "failed": "red", "timed_out": "red", "running": "blue", "starting": "blue"}


def show_preflight(console: Console, found: Mapping[str, Any]) -> None:
    """Show what a dry run found."""
    model = found["model"]
    count, kind = f"{found['layers_to_remove']} of {model['layers']} layers", model["model_type"]
    if found["decided_by_measurement"]:
        console.print(f"at most {count} would go, decided by measurement ({kind})")
    else:
        console.print(f"{count} would go ({kind})")
    console.print(f"about {found['memory_bytes'] / 1e9:.1f} GB of memory would be needed")
    _show_estimate(console, found["estimate"])


def _show_estimate(console: Console, estimate: Mapping[str, Any]) -> None:
    from trsp_core.report import numbers

    took, memory, judged = estimate["seconds"], estimate["memory_bytes"], f"{estimate['jobs']} finished jobs"
    if took is None:
        unknown = ", ".join(item["stage"] for item in estimate["stages"] if item["seconds"] is None)
        console.print(f"how long it takes is unknown: none of {judged} tells of {unknown}")
    else:
        span = f"{numbers.seconds(took['low'])} to {numbers.seconds(took['high'])}"
        console.print(f"about {numbers.seconds(took['likely'])} of work ({span}, by {judged})")
    if memory is not None:
        span = f"{numbers.size(memory['low'])} to {numbers.size(memory['high'])}"
        console.print(f"measured by finished jobs: {span} of memory")


def show_list(console: Console, page: Mapping[str, Any]) -> None:
    """Show one page of jobs."""
    table = Table("id", "status", "progress", "model", "reason", box=None, pad_edge=False)
    for job in page["items"]:
        style = _STYLES.get(job["status"], "dim")
        status = f"[{style}]{job['status']}[/{style}]"
        row = (
            job["id"],
            status,
            f"{job['progress']:.0%}",
            escape(job["spec"]["model"]),
            escape(job["reason"]),
        )
        table.add_row(*row)
    console.print(table if page["items"] else "no jobs")
    if page["next_cursor"]:
        console.print(f"more: --after {page['next_cursor']}", style="dim", soft_wrap=True)


def show_job(console: Console, url: str, job: Mapping[str, Any]) -> None:
    """Show a job to a person, its error with every problem among it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "job": job["id"],
        "page": f"{url}{job['links']['page']}",
        "model": job["spec"]["model"],
        "status": f"{job['status']}: {job['reason']}",
        "stage": f"{job['stage']} ({job['stage_step']} of {job['stage_total']})" if job["stage"] else "–",
        "progress": f"{job['progress']:.0%}",
        "attempt": f"{job['attempt']} (at most {job['max_attempts']} crashes)",
        "labels": ", ".join(f"{name}={text}" for name, text in job["labels"].items()) or "–",
        "created": job["created_at"],
    }
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/dim]", escape(value))
    console.print(table)
    if job["error"]:
        console.print(f"[red]{escape(error_text(job))}[/red]", soft_wrap=True)


def error_text(job: Mapping[str, Any]) -> str:
    """Return why a job failed, with what may help."""
    error = job["error"] or {"message": job["reason"]}
    problems = [f"{item.get('pointer', '')}: {item['message']}" for item in error.get("problems") or ()]
    help_text = [f"What may help: {error['suggestion']}"] if error.get("suggestion") else []
    return "\n".join([error["message"], *problems, *help_text])


def show_comparison(console: Console, found: Mapping[str, Any]) -> None:
    """Show jobs side by side, the best value of each figure in bold."""
    table = Table("", *(f"{job['id']}\n{job['method']}" for job in found["jobs"]), box=None, pad_edge=False)
    for row in found["figures"]:
        values = [
            f"[bold]{_figure(value)}[/bold]" if place in row["best"] else _figure(value)
            for place, value in enumerate(row["values"])
        ]
        table.add_row(f"{row['name']} [dim]{row['unit']}[/dim]", *values)
    console.print(table)


def _figure(value: float | None) -> str:
    from trsp_core.report import numbers

    return "–" if value is None else numbers.significant(value)
