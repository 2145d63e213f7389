"""`trsp compare`: several methods on one model, one calibration batch, one table and one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trsp_cli import spec_options as words
from trsp_cli.local import Model, stoppable
from trsp_cli.output import CommandFailed, Output, Usage, person
from trsp_cli.render import ProgressView, print_comparison
from trsp_core import registry
from trsp_core.compare.request import ComparisonRequest
from trsp_core.errors import InvalidSpec, Problem
from trsp_core.options import rules

if TYPE_CHECKING:
    from trsp_core.compare.results import Comparison

MethodNames = Annotated[
    str,
    typer.Option("--methods", help=f"Joined by ',', each one of {registry.listed(registry.METHODS)}."),
]
CompareSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="An option of one method, such as sleb.protect_first=2, or of all that have it, such as"
        " stage2_steps=40; or a field such as evaluation.windows=8; repeatable.",
    ),
]
_SECTIONS = ("target", "calibration", "evaluation")
_FIELDS = ("device", "dtype")


def compare(
    context: typer.Context,
    model: Model,
    methods: MethodNames,
    calibration: words.CalibrationSet,
    out: Annotated[Path, typer.Option(help="Output folder; new, empty, or begun by this command.")],
    sparsity: words.Sparsity = None,
    layers_to_remove: words.LayersToRemove = None,
    max_params: words.MaxParams = None,
    speedup: words.Speedup = None,
    max_perplexity_ratio: words.MaxPerplexityRatio = None,
    sequences: words.Sequences = None,
    sequence_length: words.SequenceLength = None,
    seed: words.Seed = 0,
    perplexity: words.Perplexity = None,
    tasks: words.Tasks = None,
    windows: words.Windows = None,
    window_length: words.WindowLength = None,
    settings: CompareSettings = None,
    device: words.DeviceName = "auto",
) -> None:
    """Compare methods on one model and the same tokens; the same command goes on after an interruption."""
    chosen = _chosen(methods)
    given, shared = _split(settings or [], chosen)
    fields = words.with_settings(
        {
            "model": model,
            "target": words.target(sparsity, layers_to_remove, max_params, speedup, max_perplexity_ratio),
            "calibration": words.calibration(calibration, sequences, sequence_length, seed),
            "evaluation": words.evaluation(perplexity, tasks, False, windows, window_length),
            "device": device,
        },
        shared,
    )
    request = _request({**fields, "methods": [{"name": name, **given[name]} for name in chosen]}, chosen)
    from trsp_core.compare.run import compare as run

    output: Output = context.obj
    where = words.absolute(out)
    with stoppable(where / "checkpoint") as stop, ProgressView(output.notes) as view:
        found = run(request, workdir=where, on_progress=view.update, should_stop=stop.is_set)
    _tell(output, found, where)


def _request(fields: Mapping[str, Any], chosen: Sequence[str]) -> ComparisonRequest:
    """Return the request; what is wrong with a method's option is told in the words of `--set`."""
    try:
        return ComparisonRequest.from_dict(fields)
    except InvalidSpec as error:
        raise InvalidSpec(*(_in_words(problem, chosen) for problem in error.problems)) from error


def _in_words(problem: Problem, chosen: Sequence[str]) -> Problem:
    section, _, rest = problem.pointer.removeprefix("/").partition("/")
    place, _, name = rest.partition("/")
    if section != "methods" or not name:
        return problem
    return replace(problem, pointer=f"--set {chosen[int(place)]}.{name}")


def _chosen(methods: str) -> list[str]:
    """Return the names, each once and known."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    for place, name in enumerate(names):
        registry.find(registry.METHODS, name, "--methods", "method")
        if name in names[:place]:
            raise Usage(Problem("--methods", f"names {name} twice; give each method once.", methods))
    return names


def _split(settings: Sequence[str], chosen: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return each method's own options, and the settings that are none of a method.

    Raises:
        Usage: If one names a method that is not compared, or an option that no compared method has.
    """
    given: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    shared: list[str] = []
    for setting in settings:
        key, text = words.key_and_value(setting)
        if key in _FIELDS or key.partition(".")[0] in _SECTIONS:
            shared.append(setting)
            continue
        for name, option in _owners(setting, key, chosen):
            given[name][option] = words.value_of(text)
    return given, shared


def _owners(setting: str, key: str, chosen: Sequence[str]) -> list[tuple[str, str]]:
    """Return the methods that a setting is for, each with the option's name."""
    method, dot, rest = key.partition(".")
    if dot:
        if method not in chosen:
            message = f"is {setting!r}; {method} is not among the compared methods {', '.join(chosen)}."
            raise Usage(Problem("--set", message, setting, tuple(chosen)))
        return [(method, rest)]
    owners = [(name, key) for name in chosen if key in rules(registry.METHODS[name].options)]
    if not owners:
        message = f"is {setting!r}; none of {', '.join(chosen)} has the option {key}."
        raise Usage(Problem("--set", message, setting))
    return owners


def _tell(output: Output, found: Comparison, folder: Path) -> None:
    """Give the table, and after it the failure where a row has none of its figures.

    Raises:
        CommandFailed: If a method was refused or failed.
    """
    data = found.to_dict()
    if not found.failed:
        output.result(data, lambda console: _show(console, data, folder))
        return
    if not output.json:
        _show(person(), data, folder)
    names = ", ".join(row.label for row in found.failed)
    raise CommandFailed(f"no figures for {names}; the other rows are complete.", data)


def _show(console: Any, data: Mapping[str, Any], folder: Path) -> None:
    print_comparison(console, data)
    console.print(f"picture  {folder / 'comparison.html'}", soft_wrap=True)
