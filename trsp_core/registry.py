"""Name -> code, resolved only when used: one line for each method, calibration set and export format."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trsp_core.errors import InvalidSpec, Problem, closest
from trsp_core.method_options import (
    Afterwards,
    BaselineOptions,
    LacoOptions,
    MethodOptions,
    RefitOptions,
    ShortenedOptions,
    TrspOptions,
    TuneOptions,
    WholeDepthOptions,
    followed_by,
)


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A method by its class's address, with what can be known of it without torch.

    Attributes:
        target: Address of the class.
        options: Its options.
        summary: What it does, a few words.
        nested: Whether a prefix of its order is its plan for fewer layers.
        measured: Whether it measures the loss after each choice, so that its order has a curve.
        keeps_gradients: Whether the choice holds a gradient of every layer's weights.
        streams: Whether it needs one layer's weights at a time, so that the model need not fit into memory.
        after: What may follow it, by the names in `AFTERWARDS`.
        followed: Whether `target` only chooses and `options` say what follows.
    """

    target: str
    options: type[MethodOptions]
    summary: str
    nested: bool = True
    measured: bool = False
    keeps_gradients: bool = False
    streams: bool = False
    after: tuple[str, ...] = ("absorb", "tune")
    followed: bool = False


@dataclass(frozen=True, slots=True)
class SetEntry:
    """A kind of calibration set.

    Attributes:
        target: Address of its reader.
        summary: What it is, a few words.
        argument: What stands after the colon of its name, such as FILE; empty where nothing does.
        needs_hub: Whether it comes from the hub unless a local copy is named.
    """

    target: str
    summary: str
    argument: str = ""
    needs_hub: bool = False


@dataclass(frozen=True, slots=True)
class ExportEntry:
    """An export format: its class's address and that of its torch-free check of a source; neither for the folder."""

    summary: str
    target: str | None = None
    check: str | None = None


_FOLLOWED = "trsp_core.methods.followed:Followed"

AFTERWARDS: Mapping[str, tuple[type[Afterwards], str, bool]] = {
    "absorb": (RefitOptions, "then the closed-form refit", True),
    "tune": (TuneOptions, "then plain fine-tuning", False),
}
"""What may follow a method that only chooses: `NAME+absorb` is the baseline `NAME` and then the refit.

Options, a few words, and whether it needs one layer's weights at a time.
"""

_ALONE: Mapping[str, MethodEntry] = {
    "trsp": MethodEntry(
        "trsp_core.methods.trsp:Trsp",
        TrspOptions,
        "learned gates, verified; then two-stage transfer",
        measured=True,
        after=(),
    ),
    "shortgpt": MethodEntry(
        "trsp_core.methods.shortgpt:ShortGpt",
        BaselineOptions,
        "one minus cosine of input and output",
        streams=True,
    ),
    "angular": MethodEntry(
        "trsp_core.methods.angular:Angular",
        WholeDepthOptions,
        "the block of neighbours with the least angle between its input and output",
        nested=False,
        streams=True,
    ),
    "sleb": MethodEntry(
        "trsp_core.methods.sleb:Sleb",
        BaselineOptions,
        "greedy: each round the layer without which the loss is smallest",
        measured=True,
    ),
    "shortened-ppl": MethodEntry(
        "trsp_core.methods.shortened_ppl:ShortenedPpl",
        WholeDepthOptions,
        "the loss with each layer alone switched off",
    ),
    "shortened-taylor": MethodEntry(
        "trsp_core.methods.shortened_taylor:ShortenedTaylor",
        ShortenedOptions,
        "sum of weight times gradient over a layer",
        keeps_gradients=True,
    ),
    "magnitude": MethodEntry(
        "trsp_core.methods.magnitude:Magnitude", ShortenedOptions, "sum of absolute weights of a layer"
    ),
    "laco": MethodEntry(
        "trsp_core.methods.laco:Laco",
        LacoOptions,
        "merges neighbouring layers while the final states stay similar",
        nested=False,
        after=("tune",),
    ),
    "random": MethodEntry(
        "trsp_core.methods.random:Random", BaselineOptions, "layers drawn by the seed", streams=True
    ),
    "last": MethodEntry(
        "trsp_core.methods.last:Last", BaselineOptions, "the last unprotected layers", streams=True
    ),
}


def _with_afterwards(name: str, entry: MethodEntry) -> Iterator[tuple[str, MethodEntry]]:
    """Yield the method alone, then followed by each thing that may follow it."""
    yield name, entry
    for after in entry.after:
        options, what, streams = AFTERWARDS[after]
        yield (
            f"{name}+{after}",
            replace(
                entry,
                options=followed_by(entry.options, options),
                summary=f"{entry.summary}; {what}",
                streams=entry.streams and streams,
                after=(),
                followed=True,
            ),
        )


METHODS: Mapping[str, MethodEntry] = {
    full: made for name, entry in _ALONE.items() for full, made in _with_afterwards(name, entry)
}

CALIBRATION_SETS: Mapping[str, SetEntry] = {
    "python-docs": SetEntry(
        "trsp_core.calibration.python_docs:PythonDocs",
        "Python's own documentation, from the standard library",
    ),
    "text": SetEntry("trsp_core.calibration.files:TextFile", "a plain text file", argument="FILE"),
    "jsonl": SetEntry(
        "trsp_core.calibration.files:JsonLines",
        "one JSON object a line; #FIELD, default text",
        argument="FILE",
    ),
    "parquet": SetEntry(
        "trsp_core.calibration.files:ParquetFile",
        "a parquet file; #COLUMN, default text",
        argument="FILE",
    ),
    "upload": SetEntry(
        "trsp_core.calibration.uploads:Upload", "a text that was given to the service", argument="ID"
    ),
    "wikitext2": SetEntry("trsp_core.calibration.hub:WikiText2", "WikiText-2 raw", needs_hub=True),
    "ptb": SetEntry("trsp_core.calibration.hub:PennTreebank", "Penn Treebank", needs_hub=True),
    "c4": SetEntry("trsp_core.calibration.hub:C4", "C4, English, one shard", needs_hub=True),
    "alpaca": SetEntry("trsp_core.calibration.hub:Alpaca", "Alpaca instructions", needs_hub=True),
}

EXPORTS: Mapping[str, ExportEntry] = {
    "safetensors": ExportEntry("the model folder"),
    "gguf": ExportEntry(
        "one file for llama.cpp",
        "trsp_core.export.gguf:GgufExport",
        "trsp_core.export.gguf_models:check_source",
    ),
}


def find(entries: Mapping[str, Any], name: str, pointer: str, kind: str) -> Any:
    """Return the entry of `name`.

    Raises:
        InvalidSpec: Naming the known ones and the closest.
    """
    if name in entries:
        return entries[name]
    known = tuple(entries)
    message = f"is {name!r}, which is no known {kind}; known are {listed(known)}."
    raise InvalidSpec(Problem(pointer, message, name, known, closest(name, known)))


def listed(known: Iterable[str]) -> str:
    """Say the names, those with something behind them in a word."""
    names = tuple(known)
    alone = ", ".join(name for name in names if "+" not in name)
    after = sorted({name.partition("+")[2] for name in names if "+" in name})
    return f"{alone}, most of them also as NAME+{' or NAME+'.join(after)}" if after else alone


def create(name: str, options: MethodOptions) -> Any:
    """Return the registered method `name` with its options, ready to work; see `methods.base.Method`."""
    entry = METHODS[name]
    method = load(entry.target)(options)
    return load(_FOLLOWED)(method, options, name) if entry.followed else method


def load(target: str) -> Any:
    """Import `module:object` and return the object."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
