"""`trsp replay`: a result made again from its manifest, file by file equal or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from trsp_cli import spec_options as words
from trsp_cli.local import stoppable
from trsp_cli.output import CommandFailed, Output, person
from trsp_cli.render import ProgressView

if TYPE_CHECKING:
    from trsp_core.replay import FileVerdict, Replay


def replay(
    context: typer.Context,
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST",
            help="manifest.json of `trsp prune`, trsp_manifest.json of `trsp remove`, or the folder of either.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the new result; beside the old one, NAME-replay, by default."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the source is now, if it is elsewhere than the manifest says.")
    ] = None,
) -> None:
    """Make a result again from its manifest and compare the model's files and the plan byte for byte."""
    from trsp_core.manifest import COMPRESSION
    from trsp_core.replay import manifest_file, read_manifest
    from trsp_core.replay import replay as run

    output: Output = context.obj
    file = manifest_file(words.absolute(manifest))
    kind = read_manifest(file)["kind"]
    where = words.absolute(out) if out else file.parent.with_name(f"{file.parent.name}-replay")
    checkpoint = where / "checkpoint" if kind == COMPRESSION else None
    with stoppable(checkpoint) as stop, ProgressView(output.notes) as view:
        found = run(file, where, model=model, on_progress=view.update, should_stop=stop.is_set)
    if not output.json:
        _show(person(), found)
    if not found.equal:
        raise CommandFailed(_difference(found), found.to_dict())
    output.result(found.to_dict(), lambda _: None)


def _difference(found: Replay) -> str:
    """Return what is not the same and, as far as it is known, why."""
    changed = [item.name for item in found.files if not item.equal]
    touched = [item.name for item in found.files if item.untouched is False]
    said = [
        *([f"not made again as the manifest says: {', '.join(changed)}"] if changed else []),
        *([f"changed beside the manifest: {', '.join(touched)}"] if touched else []),
    ]
    if changed:
        said.append(_environment(found))
    return "; ".join(said) + "."


def _environment(found: Replay) -> str:
    if not found.environment:
        return "versions, device and threads are the same"
    return "other than then: " + ", ".join(
        f"{name} ({then} then, {now} now)" for name, (then, now) in found.environment.items()
    )


def _show(console: Console, found: Replay) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("file", "made again", "beside the manifest"):
        table.add_column(name)
    for item in found.files:
        table.add_row(item.name, _made(item), _kept(item))
    console.print(table)
    if found.equal:
        console.print(
            f"all {len(found.files)} files are the same; reports, which carry times, are not compared"
        )
    console.print(f"out  {found.out}", soft_wrap=True)


def _made(item: FileVerdict) -> str:
    if item.equal:
        return "equal"
    if item.rebuilt is None:
        return "not made"
    return "different" if item.stated is not None else "new"


def _kept(item: FileVerdict) -> str:
    if item.untouched is None or (item.stated is None and item.beside is None):
        return "–"
    if item.untouched:
        return "equal"
    return "missing" if item.beside is None else "different"
