"""Whether a job holds the whole model in memory or one part of it at a time, and what it then needs. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator

from trsp_core import registry
from trsp_core.config import CompressionSpec
from trsp_core.errors import Problem
from trsp_core.method_options import RefitOptions
from trsp_core.results import ModelFacts

POINTER = "/memory"
RESIDENT, STREAMED = "resident", "streamed"
_FLOAT_BYTES = 4
_STREAMS = 2
"""Residual streams that a refit advances: the reference's and the pruned model's."""
_MOMENTS = 6
"""Square matrices in double precision that a refit holds at its peak: of both roles, their sum, and the solver's."""


def obstacles(spec: CompressionSpec) -> Iterator[Problem]:
    """Yield what in a spec needs the whole model at once, each as a refusal of `memory: streamed`."""
    if not registry.METHODS[spec.method.name].streams:
        able = tuple(name for name, entry in registry.METHODS.items() if entry.streams)
        yield _refusal(f"{spec.method.name} goes through the whole model again and again", able)
    if spec.evaluation.speed is not None:
        yield _refusal("a speed is that of a model in memory", "evaluation.speed false")
    if spec.target.measured:
        yield _refusal(f"the target {spec.target.kind} is measured on a model in memory", "another target")
    others = [name for name in spec.export.formats if registry.EXPORTS[name].target]
    if others:
        yield _refusal(f"the proof of {', '.join(others)} loads a whole model", "safetensors alone")


def _refusal(reason: str, right: str | tuple[str, ...]) -> Problem:
    allowed = right if isinstance(right, str) else registry.listed(right)
    message = f"is streamed, but {reason}. Ask for {allowed}, or for memory resident."
    return Problem(POINTER, message, STREAMED, right)


def streams(spec: CompressionSpec, needed_bytes: int, room_bytes: int) -> bool:
    """Decide whether a job's model is streamed: as the spec says, else where it is too large and can be.

    Args:
        spec: A spec that preflight accepted.
        needed_bytes: What the job needs with the whole model in memory.
        room_bytes: What the device has left.
    """
    if spec.memory != "auto":
        return spec.memory == STREAMED
    return needed_bytes > room_bytes and not any(obstacles(spec))


def streamed_bytes(spec: CompressionSpec, facts: ModelFacts, sequence_length: int) -> int:
    """Estimate what a streamed job needs beside the runtime, in fp32: a part, the streams, a refit's moments."""
    part = max(facts.vocabulary * facts.hidden_size, *facts.layer_parameters) * _FLOAT_BYTES
    tokens = spec.calibration.sequences * sequence_length
    held = _STREAMS * tokens * facts.hidden_size * _FLOAT_BYTES
    refit = isinstance(spec.method.options, RefitOptions)
    return part + held + (_MOMENTS * inner_width(facts) ** 2 * 8 if refit else 0)


def inner_width(facts: ModelFacts) -> int:
    """Return about how wide the MLP of a layer is, taken for a gated one beside an attention of four squares."""
    width = facts.hidden_size
    return max(0, max(facts.layer_parameters) - 4 * width**2) // (3 * width)
