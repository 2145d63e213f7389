"""Work without a service: `prune`, `plan`, `remove`, `evaluate`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from trsp_cli import spec_options as words
from trsp_cli.output import Output, Usage
from trsp_cli.render import ProgressView, StatusLine, print_evaluation, print_summary
from trsp_core.config import CompressionSpec
from trsp_core.errors import Cancelled, Problem

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help=r"Folder, \[hf:]ORG/NAME\[@REVISION], gguf:FILE or demo:smollm2-135m."
    ),
]


EvaluationSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A field of the evaluation by its path, such as evaluation.speed.batch=8; repeatable."
    ),
]
_STANDARD_ERROR = 2
_STOPPING = b"stopping after this step; Ctrl-C again stops at once\n"
"""Written past all buffers: a signal may come in the middle of another write."""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("prune")(prune)
    app.command("plan")(plan)
    app.command("remove")(remove)
    app.command("evaluate")(evaluate)


def prune(
    context: typer.Context,
    model: Model,
    calibration: words.CalibrationSet,
    out: Annotated[Path, typer.Option(help="Output folder; new, empty, or the checkpoint of this command.")],
    sparsity: words.Sparsity = None,
    layers_to_remove: words.LayersToRemove = None,
    max_params: words.MaxParams = None,
    speedup: words.Speedup = None,
    max_perplexity_ratio: words.MaxPerplexityRatio = None,
    method: words.MethodName = "trsp",
    sequences: words.Sequences = None,
    sequence_length: words.SequenceLength = None,
    seed: words.Seed = 0,
    perplexity: words.Perplexity = None,
    tasks: words.Tasks = None,
    speed: words.Speed = False,
    windows: words.Windows = None,
    window_length: words.WindowLength = None,
    settings: words.Settings = None,
    device: words.DeviceName = "auto",
) -> None:
    """Make a model shallower, here, without a service; the same command goes on after an interruption."""
    spec = _spec(
        model=model,
        target=words.target(sparsity, layers_to_remove, max_params, speedup, max_perplexity_ratio),
        calibration=words.calibration(calibration, sequences, sequence_length, seed),
        method={"name": method},
        evaluation=words.evaluation(perplexity, tasks, speed, windows, window_length),
        device=device,
        settings=settings,
    )
    from trsp_core.pipeline import compress

    output: Output = context.obj
    where = words.absolute(out)
    with _stoppable(where / "checkpoint") as stop, ProgressView(output.notes) as view:
        report = compress(spec, workdir=where, on_progress=view.update, should_stop=stop.is_set)
    data = report.to_dict()
    output.result(data, lambda console: _show_result(console, data, where))


def plan(
    context: typer.Context,
    model: Model,
    calibration: words.CalibrationSet,
    out: Annotated[Path, typer.Option(help="File of the plan, JSON.")],
    sparsity: words.Sparsity = None,
    layers_to_remove: words.LayersToRemove = None,
    max_params: words.MaxParams = None,
    speedup: words.Speedup = None,
    max_perplexity_ratio: words.MaxPerplexityRatio = None,
    method: words.MethodName = "trsp",
    sequences: words.Sequences = None,
    sequence_length: words.SequenceLength = None,
    seed: words.Seed = 0,
    settings: words.Settings = None,
    device: words.DeviceName = "auto",
) -> None:
    """Choose the layers only: scores, order and plan as JSON, for `remove --plan`."""
    spec = _spec(
        model=model,
        target=words.target(sparsity, layers_to_remove, max_params, speedup, max_perplexity_ratio),
        calibration=words.calibration(calibration, sequences, sequence_length, seed),
        method={"name": method},
        evaluation={},
        device=device,
        settings=settings,
    )
    target = words.absolute(out)
    if target.exists():
        raise Usage(Problem("--out", f"is {out}, which exists; choose another file.", str(out)))
    from trsp_core.files import write_json_atomically
    from trsp_core.pipeline import make_plan

    output: Output = context.obj
    working = target.with_name(f"{target.name}.working")
    with _stoppable(working) as stop, ProgressView(output.notes) as view:
        made, used = make_plan(spec, workdir=working, on_progress=view.update, should_stop=stop.is_set)
    data = {**made.to_dict(), "spec": spec.to_dict(), "resources": asdict(used)}
    write_json_atomically(target, data)
    shutil.rmtree(working)
    output.result(data, lambda console: _show_plan(console, data, target))


def remove(
    context: typer.Context,
    model: Model,
    out: Annotated[
        Path, typer.Option(help="Folder of the result, new or empty; of a GGUF model also a new FILE.gguf.")
    ],
    layers: Annotated[str | None, typer.Option(help="0-based indices to remove, such as 3,12,13.")] = None,
    plan_file: Annotated[Path | None, typer.Option("--plan", help="A plan that `trsp plan` wrote.")] = None,
) -> None:
    """Cut layers out of a checkpoint, tensor by tensor, without loading the model."""
    if (layers is None) == (plan_file is None):
        raise Usage(Problem("--layers", "give exactly one of --layers and --plan."))
    if out.suffix == ".gguf":
        _remove_from_gguf(context.obj, model, words.absolute(out), layers, plan_file)
        return
    from trsp_core.sources import SourcePolicy, inspect, materialize, resolve
    from trsp_core.surgery import remove_streamed

    output: Output = context.obj
    policy = SourcePolicy.from_environment()
    source = resolve(model, policy)
    facts = inspect(source)
    gone = words.layer_list(layers) if layers is not None else _planned(plan_file, facts.layers)
    _check_layers(gone, facts.layers)
    kept = [layer for layer in range(facts.layers) if layer not in set(gone)]
    target = words.absolute(out)
    with _stoppable() as stop:
        remove_streamed(materialize(source, policy), target, kept, should_stop=stop.is_set)
    _tell_removed(output, target, gone, kept)


def _remove_from_gguf(
    output: Output, model: str, target: Path, layers: str | None, plan_file: Path | None
) -> None:
    """Cut layers out of a GGUF file into another one, with its blocks as they are."""
    from trsp_core.gguf_surgery import read_gguf_model, remove_from_gguf
    from trsp_core.sources import SourcePolicy, gguf_file

    path = gguf_file(model, SourcePolicy.from_environment())
    if path is None:
        message = f"is {target.name}, which a GGUF model (gguf:FILE) becomes; {model} becomes a folder."
        raise Usage(Problem("--out", message, str(target)))
    source = read_gguf_model(path)
    gone = words.layer_list(layers) if layers is not None else _planned(plan_file, source.layers)
    _check_layers(gone, source.layers)
    kept = [layer for layer in range(source.layers) if layer not in set(gone)]
    with _stoppable() as stop:
        remove_from_gguf(source, target, kept, should_stop=stop.is_set)
    _tell_removed(output, target, gone, kept)


def _tell_removed(output: Output, target: Path, gone: list[int], kept: list[int]) -> None:
    data = {"model": str(target), "removed_layers": sorted(gone), "kept_layers": kept}
    said = f"{len(gone)} of {len(gone) + len(kept)} layers removed: {target}"
    output.result(data, lambda console: console.print(said, soft_wrap=True))


def evaluate(
    context: typer.Context,
    model: Model,
    against: Annotated[str | None, typer.Option(help="The dense model to compare with.")] = None,
    perplexity: words.Perplexity = None,
    tasks: words.Tasks = None,
    speed: words.Speed = False,
    windows: words.Windows = None,
    window_length: words.WindowLength = None,
    seed: words.Seed = 0,
    settings: EvaluationSettings = None,
    device: words.DeviceName = "auto",
) -> None:
    """Measure the perplexity of a model, or of two on the same windows, and their speed side by side."""
    from trsp_core.comparison import EvaluationRequest, evaluate_models

    output: Output = context.obj
    request = EvaluationRequest.of(
        model=model,
        against=against,
        evaluation=_measured(
            words.evaluation(perplexity, tasks, speed, windows, window_length), settings or []
        ),
        seed=seed,
        device=device,
    )
    with _stoppable() as stop, StatusLine(output.notes) as status:
        data = evaluate_models(request, tell=status.update, should_stop=stop.is_set)
    output.result(data, lambda console: print_evaluation(console, data))


def _measured(evaluation: Mapping[str, Any], settings: list[str]) -> Mapping[str, Any]:
    """Return the spec's `evaluation` with each `--set` put in.

    Raises:
        Usage: If one sets anything else.
    """
    for setting in settings:
        if not setting.startswith("evaluation."):
            message = f"is {setting!r}; only fields of the evaluation, such as evaluation.speed.batch=8, matter here."
            raise Usage(Problem("--set", message, setting))
    found: Mapping[str, Any] = words.with_settings({"evaluation": evaluation}, settings)["evaluation"]
    return found


def _spec(*, settings: list[str] | None, **fields: Mapping[str, Any] | str) -> CompressionSpec:
    return CompressionSpec.from_dict(words.with_settings(fields, settings))


@contextmanager
def _stoppable(checkpoint: Path | None = None) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or TERM into a stop at the next step; the second one interrupts at once.

    Args:
        checkpoint: What the same command can go on from, for the words at the end.
    """
    stop = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        os.write(_STANDARD_ERROR, _STOPPING)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except (Cancelled, KeyboardInterrupt) as error:
        raise Cancelled(_left(checkpoint)) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _left(checkpoint: Path | None) -> str:
    """Say what an interruption left behind."""
    if checkpoint is not None and checkpoint.exists():
        return f"the checkpoint is in {checkpoint}, and the same command goes on from it."
    return "nothing was written."


def _planned(file: Path | None, layers: int) -> list[int]:
    """Return the layers that a plan file removes.

    Raises:
        Usage: If the file cannot be read, is no plan, or is a plan for another depth.
    """
    try:
        data = json.loads(Path(str(file)).read_text())
        removed, depth = [int(layer) for layer in data["removed_layers"]], int(data["layers"])
    except OSError as error:
        message = f"is {file}, which cannot be read: {error.strerror}. Give a file that `trsp plan` wrote."
        raise Usage(Problem("--plan", message, str(file))) from error
    except (ValueError, KeyError, TypeError) as error:
        message = (
            f"is {file}, which is no plan. Give a file that `trsp plan` wrote, or plan.json of `trsp prune`."
        )
        raise Usage(Problem("--plan", message, str(file))) from error
    if depth != layers:
        message = f"is a plan for a model of {depth} layers; this one has {layers}."
        raise Usage(Problem("--plan", message, str(file)))
    return removed


def _check_layers(gone: list[int], layers: int) -> None:
    wrong = [layer for layer in gone if not 0 <= layer < layers]
    if wrong or len(set(gone)) != len(gone) or len(gone) >= layers:
        said = ",".join(map(str, gone))
        message = f"is {said}; it must be different indices from 0 to {layers - 1}, and not all of them."
        raise Usage(Problem("--layers", message, gone, f"0 to {layers - 1}"))


def _show_result(console: Console, report: Mapping[str, Any], folder: Path) -> None:
    print_summary(console, report)
    console.print(f"model   {folder / 'model'}", soft_wrap=True)
    console.print(f"report  {folder / 'report.html'}", soft_wrap=True)


def _show_plan(console: Console, data: Mapping[str, Any], file: Path) -> None:
    order = ", ".join(str(layer) for layer in data["order"])
    console.print(f"{len(data['order'])} of {data['layers']} layers, in order of choice: {order}")
    console.print(f"plan  {file}", soft_wrap=True)
