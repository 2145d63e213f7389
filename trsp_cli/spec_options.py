"""The words of the command line that make up a job spec: TARGET, CALIBRATION, EVALUATION, `--set`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from trsp_cli.output import Usage
from trsp_core import registry
from trsp_core.errors import Problem

Sparsity = Annotated[float | None, typer.Option(help="Share of the layers to remove, above 0 and below 1.")]
LayersToRemove = Annotated[int | None, typer.Option(help="Number of layers to remove.")]
MaxParams = Annotated[str | None, typer.Option(help="Most parameters of the result, such as 100M or 6.5B.")]
Speedup = Annotated[float | None, typer.Option(help="Wanted speed, as a multiple.")]
MaxPerplexityRatio = Annotated[
    float | None, typer.Option(help="Most that the perplexity may grow, as a multiple.")
]
CalibrationSet = Annotated[
    str,
    typer.Option(
        "--calibration",
        help="Text to learn from: python-docs, wikitext2, ptb, c4, alpaca, text:FILE, jsonl:FILE#FIELD or"
        " parquet:FILE#COLUMN; several joined by '+'.",
    ),
]
Sequences = Annotated[int | None, typer.Option(help="Windows of calibration text (128).")]
SequenceLength = Annotated[
    int | None, typer.Option(help="Tokens of a window (2048, or the model's maximum).")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Perplexity = Annotated[
    str | None, typer.Option(help="Sets to measure perplexity on, joined by ',' (python-docs).")
]
Tasks = Annotated[str | None, typer.Option(help="Zero-shot tasks; none in this release.")]
Speed = Annotated[
    bool, typer.Option("--speed/--no-speed", help="Measure speed, dense and pruned side by side.")
]
Windows = Annotated[int | None, typer.Option(help="Most evaluation windows a set (all).")]
WindowLength = Annotated[int | None, typer.Option(help="Tokens of an evaluation window (2048).")]
MethodName = Annotated[str, typer.Option("--method", help=f"One of {registry.listed(registry.METHODS)}.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="A method option, such as stage2_steps=40, or any field of the job spec by its dotted path, such as"
        " evaluation.speed.batch=8; repeatable.",
    ),
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9}
_SECTIONS = ("target", "calibration", "method", "evaluation", "export")
_FIELDS = ("device", "dtype", "memory")


def target(
    sparsity: float | None,
    layers_to_remove: int | None,
    max_params: str | None,
    speedup: float | None,
    max_perplexity_ratio: float | None,
) -> dict[str, Any]:
    """Return the spec's `target`; that exactly one is set the spec itself checks."""
    given = {
        "sparsity": sparsity,
        "layers_to_remove": layers_to_remove,
        "max_params": None if max_params is None else count(max_params, "/target/max_params"),
        "speedup": speedup,
        "max_perplexity_ratio": max_perplexity_ratio,
    }
    return {name: value for name, value in given.items() if value is not None}


def count(text: str, pointer: str) -> int:
    """Read a number such as `100M`.

    Raises:
        Usage: If it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMBG]?)", text.strip(), re.IGNORECASE)
    if match is None:
        raise Usage(Problem(pointer, f"is {text!r}; it must be a number such as 100M or 6.5B.", text))
    return round(float(match[1]) * _UNITS[match[2].upper()])


def calibration(name: str, sequences: int | None, length: int | None, seed: int) -> dict[str, Any]:
    """Return the spec's `calibration`."""
    given = {"set": name, "sequences": sequences, "sequence_length": length, "seed": seed}
    return {key: value for key, value in given.items() if value is not None}


def evaluation(
    perplexity: str | None,
    tasks: str | None,
    speed: bool,
    windows: int | None,
    window_length: int | None,
) -> dict[str, Any]:
    """Return the spec's `evaluation`."""
    given: dict[str, Any] = {
        "perplexity": _names(perplexity),
        "tasks": _names(tasks),
        "windows": windows,
        "window_length": window_length,
    }
    return {"speed": speed, **{key: value for key, value in given.items() if value is not None}}


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def key_and_value(setting: str) -> tuple[str, str]:
    """Return the two sides of a `--set`.

    Raises:
        Usage: If it is not of the form `key=value`.
    """
    key, equals, text = setting.partition("=")
    if not equals or not key:
        message = f"is {setting!r}; it must be key=value, such as stage2_steps=40."
        raise Usage(Problem("--set", message, setting))
    return key, text


def with_settings(spec: Mapping[str, Any], settings: list[str] | None) -> dict[str, Any]:
    """Return the spec with each `key=value` of `--set` put in: a method option, or a dotted path.

    Raises:
        Usage: If one is not of that form.
    """
    result = json.loads(json.dumps(spec))
    for setting in settings or []:
        key, text = key_and_value(setting)
        if key in _FIELDS:
            result[key] = text
            continue
        section, dot, rest = key.partition(".")
        place, name = (section, rest) if dot and section in _SECTIONS else ("method", key)
        inner = result.setdefault(place, {})
        *path, last = name.split(".")
        for part in path:
            inner = _section(inner, part)
        inner[last] = value_of(text)
    return dict(result)


def _section(inner: dict[str, Any], part: str) -> dict[str, Any]:
    """Return a nested object to write into; a switch such as `speed` becomes an object of sizes."""
    if not isinstance(inner.get(part), dict):
        inner[part] = {}
    section: dict[str, Any] = inner[part]
    return section


def value_of(text: str) -> Any:
    """Read a value as JSON where it is JSON, else as a string."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def layer_list(text: str) -> list[int]:
    """Read `3,12,13`.

    Raises:
        Usage: If it is no list of layer indices.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        message = f"is {text!r}; it must be 0-based layer indices joined by commas, such as 3,12,13."
        raise Usage(Problem("--layers", message, text))
    return [int(part) for part in parts]


def absolute(path: Path) -> Path:
    """Return a path that a message can show without ambiguity."""
    return path.expanduser().absolute()
