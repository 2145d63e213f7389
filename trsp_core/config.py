"""The job spec: what is to be compressed, how far, on which text, by which method, judged how.

Frozen, validated as a whole, torch-free. Each field says its unit, range, default and why where it is
declared; `CompressionSpec.from_dict` reads the JSON form that `compress`, REST and schedules share.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from trsp_core import registry
from trsp_core.errors import InvalidSpec, Problem
from trsp_core.method_options import MethodOptions, TrspOptions
from trsp_core.options import option, read, schema
from trsp_core.sets import SetReference, parse_sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How far to go. Exactly one field is set."""

    sparsity: float | None = option(None, about="Share of the decoder layers to remove.", above=0, below=1)
    layers_to_remove: int | None = option(None, about="Number of decoder layers to remove.", at_least=1)
    max_params: int | None = option(
        None,
        about="Most parameters that the result may have; the fewest layers that reach it go.",
        at_least=1,
    )
    speedup: float | None = option(
        None,
        about="Wanted speed of the result as a multiple of the dense model's; the fewest layers whose measured"
        " share of a forward pass allows it go.",
        above=1,
    )
    max_perplexity_ratio: float | None = option(
        None,
        about="Most that the calibration perplexity may grow by the removal alone, as a multiple of the dense"
        " one; layers go until the next would be too much.",
        above=1,
    )

    def __post_init__(self) -> None:
        given = [item.name for item in fields(self) if getattr(self, item.name) is not None]
        if len(given) != 1:
            names = ", ".join(item.name for item in fields(self))
            said = " and ".join(given) if given else "none"
            raise InvalidSpec(Problem("/target", f"must have exactly one of {names}; it has {said}.", given))

    @property
    def kind(self) -> str:
        """Name of the field that is set."""
        return next(item.name for item in fields(self) if getattr(self, item.name) is not None)

    @property
    def measured(self) -> bool:
        """Whether only a measurement on the model tells how many layers it means."""
        return self.kind in ("speedup", "max_perplexity_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The text that the method learns from."""

    set: str = option(about="Calibration set, several joined by '+' and sampled in equal parts.")
    sequences: int = option(
        128, about="Windows of text; the paper's 128.", unit="sequences", at_least=1, at_most=1_000_000
    )
    sequence_length: int | None = option(
        None,
        about="Length of a window; 2,048, or the model's maximum where that is less, unless given.",
        unit="tokens",
        at_least=8,
        at_most=1_048_576,
    )
    seed: int = option(
        0, about="Seed of everything that is random in the job.", at_least=0, at_most=2**63 - 1
    )

    def __post_init__(self) -> None:
        self.references()

    def references(self) -> tuple[SetReference, ...]:
        """Return the sets that the text is drawn from."""
        return parse_sets(self.set, "/calibration/set")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedOptions:
    """Sizes of the speed measurement. The defaults are the protocol's; the report says what was used."""

    prompt_tokens: int = option(2048, about="Prompt of the latency test.", unit="tokens", at_least=1)
    batch: int = option(64, about="Batch of the generation test.", unit="sequences", at_least=1)
    generation_prompt: int = option(64, about="Prompt of the generation test.", unit="tokens", at_least=1)
    new_tokens: int = option(128, about="Tokens made in the generation test.", unit="tokens", at_least=2)
    repeats: int = option(10, about="Measured repeats, after the warm-up.", at_least=3, at_most=1000)
    warmup: int = option(2, about="Repeats that are not counted.", at_least=0, at_most=100)


def _read_speed(value: Any, pointer: str) -> SpeedOptions | None:
    if isinstance(value, bool) or value is None:
        return SpeedOptions() if value else None
    return read(SpeedOptions, value, pointer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How the result is judged."""

    perplexity: tuple[str, ...] = option(
        ("python-docs",), about="Sets whose held-out text gives a perplexity, dense and pruned."
    )
    tasks: tuple[str, ...] = option((), about="lm-eval tasks; none in this release.")
    speed: SpeedOptions | None = option(
        None,
        about="Measure speed, by the protocol's sizes (true) or by those given.",
        reader=_read_speed,
        shape={"anyOf": [{"type": "boolean"}, schema(SpeedOptions), {"type": "null"}]},
    )
    windows: int | None = option(None, about="Most windows a set; all unless given.", at_least=1)
    window_length: int | None = option(
        None,
        about="Length of a window; 2,048, or the model's maximum where that is less, unless given.",
        unit="tokens",
        at_least=8,
        at_most=1_048_576,
    )

    def __post_init__(self) -> None:
        if not self.perplexity:
            raise InvalidSpec(Problem("/evaluation/perplexity", "must name at least one set.", []))
        self.references()
        if self.tasks:
            message = "zero-shot tasks are not in this release; leave the list empty."
            raise InvalidSpec(Problem("/evaluation/tasks", message, list(self.tasks), "an empty list"))

    def references(self) -> tuple[SetReference, ...]:
        """Return the sets that perplexity is measured on."""
        return tuple(
            parse_sets(name, f"/evaluation/perplexity/{index}", joined=False)[0]
            for index, name in enumerate(self.perplexity)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is written beside the reports."""

    formats: tuple[str, ...] = option(
        ("safetensors",),
        about="Formats of the result; the safetensors folder, which the proofs need, is always written.",
        choices=tuple(registry.EXPORTS),
    )
    gguf_type: str = option(
        "f16",
        about="Element type of a GGUF result; vectors stay float32 in each.",
        choices=("f16", "f32", "q8_0"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """The method's registered name and its options."""

    name: str = "trsp"
    options: MethodOptions = TrspOptions()


def read_method(value: Any, pointer: str) -> MethodSpec:
    """Read a method's JSON form: its name, or an object of name and options.

    Raises:
        InvalidSpec: On an unknown name or a wrong option.
    """
    data = {"name": value} if isinstance(value, str) else value
    if not isinstance(data, Mapping):
        raise InvalidSpec(
            Problem(pointer, "must be a method's name, or an object with name and options.", None)
        )
    name = data.get("name", "trsp")
    if not isinstance(name, str):
        raise InvalidSpec(Problem(f"{pointer}/name", "must be a string.", None, tuple(registry.METHODS)))
    entry = registry.find(registry.METHODS, name, f"{pointer}/name", "method")
    options = {key: item for key, item in data.items() if key != "name"}
    return MethodSpec(name=name, options=read(entry.options, options, pointer))


def read_calibration(value: Any, pointer: str) -> Calibration:
    """Read the JSON form of the calibration text: a set's name, or an object.

    Raises:
        InvalidSpec: If a field is wrong.
    """
    return read(Calibration, {"set": value} if isinstance(value, str) else value, pointer)


def _method_shape() -> dict[str, Any]:
    variants = []
    for name, entry in registry.METHODS.items():
        shape = schema(entry.options)
        shape["properties"] = {"name": {"const": name, "description": entry.summary}, **shape["properties"]}
        variants.append({**shape, "title": name})
    return {"anyOf": [{"type": "string", "enum": list(registry.METHODS)}, *variants]}


DEVICE_NAME = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionSpec:
    """A whole job: same spec, same seed, same machine, same result."""

    model: str = option(about="Folder, [hf:]ORG/NAME[@REVISION], gguf:FILE or demo:smollm2-135m.")
    target: Target = option(
        about="How far to go: exactly one field.",
        reader=lambda value, pointer: read(Target, value, pointer),
        shape={**schema(Target), "minProperties": 1, "maxProperties": 1},
    )
    calibration: Calibration = option(
        about="Text to learn from: a set's name, or an object.",
        reader=read_calibration,
        shape={"anyOf": [{"type": "string"}, schema(Calibration)]},
    )
    method: MethodSpec = option(
        MethodSpec(), about="Method and its options.", reader=read_method, shape=_method_shape()
    )
    evaluation: Evaluation = option(
        Evaluation(),
        about="How the result is judged.",
        reader=lambda value, pointer: read(Evaluation, value, pointer),
        shape=schema(Evaluation),
    )
    export: Export = option(
        Export(),
        about="What is written.",
        reader=lambda value, pointer: read(Export, value, pointer),
        shape=schema(Export),
    )
    device: str = option("auto", about="auto, cpu, cuda or cuda:N.")
    dtype: str = option(
        "auto",
        about="Precision of the work: float32 on a CPU, the checkpoint's own on CUDA, unless given.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    memory: str = option(
        "auto",
        about="Whether the whole model is in memory (resident) or one layer at a time, from disk (streamed), which"
        " methods without gradients can do; auto streams only what does not fit.",
        choices=("auto", "resident", "streamed"),
    )

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise InvalidSpec(
                Problem("/model", "is empty; give a folder, hf:ORG/NAME, gguf:FILE or demo:NAME.", "")
            )
        if not DEVICE_NAME.fullmatch(self.device):
            message = f"is {self.device!r}; it must be auto, cpu, cuda or cuda:N."
            raise InvalidSpec(Problem("/device", message, self.device, ("auto", "cpu", "cuda", "cuda:N")))

    @property
    def seed(self) -> int:
        """Seed of everything that is random in the job."""
        return self.calibration.seed

    @classmethod
    def from_dict(cls, data: Any) -> CompressionSpec:
        """Read the JSON job spec, shorthands included.

        Raises:
            InvalidSpec: With one problem for every wrong field.
        """
        return read(cls, _expand(data), "")

    def to_dict(self) -> dict[str, Any]:
        """Return the full JSON form: no shorthand, every option with its value."""
        data = asdict(self)
        data["target"] = {self.target.kind: getattr(self.target, self.target.kind)}
        data["method"] = {"name": self.method.name, **asdict(self.method.options)}
        return dict(json.loads(json.dumps(data)))

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON form: equal specs, equal fingerprints."""
        return fingerprint_of(self.to_dict())


def fingerprint_of(data: Mapping[str, Any]) -> str:
    """Return the fingerprint of the spec whose full JSON form this is."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _expand(data: Any) -> Any:
    """Write out the shorthand `sparsity` at the top; a copy, `data` is left as it is."""
    if not isinstance(data, Mapping) or "sparsity" not in data:
        return data
    if "target" in data:
        raise InvalidSpec(
            Problem("/sparsity", "stands beside target; give only one of them.", data["sparsity"])
        )
    rest = {key: value for key, value in data.items() if key != "sparsity"}
    return {**rest, "target": {"sparsity": data["sparsity"]}}


def spec_schema() -> dict[str, Any]:
    """Return the JSON Schema of the job spec with its shorthand."""
    result = schema(CompressionSpec)
    result["properties"]["sparsity"] = {**schema(Target)["properties"]["sparsity"]}
    result["required"] = ["model", "calibration"]
    return result
