"""Everything that can be refused before any work, from headers and file sizes alone. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from trsp_core import registry
from trsp_core.calibration.base import check_text
from trsp_core.config import CompressionSpec, Evaluation
from trsp_core.errors import InputRefused, InvalidSpec, Problem
from trsp_core.method_checks import check_gate_parts, check_optimizer
from trsp_core.method_options import ADAMW, ADAMW_8BIT, MethodOptions, stage2_of
from trsp_core.residence import STREAMED, obstacles, streamed_bytes
from trsp_core.results import ModelFacts
from trsp_core.sources import Looked, Source, SourcePolicy, look
from trsp_core.workload import window_length

_RUNTIME_BYTES = 450 * 2**20
"""Python, torch and transformers before a model is loaded."""
_FLOAT_BYTES = 4
_ITEM_BYTES = {"float16": 2, "bfloat16": 2}
MOMENTS = {ADAMW: 2.0, ADAMW_8BIT: 0.52}
"""Floats that an optimizer keeps a trained weight; beside its codes the 8-bit one keeps two scales a block of 256."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a job will do, decided before it starts.

    Attributes:
        source: The resolved model.
        facts: What its headers tell.
        layers_to_remove: Number of layers that go; at most so many where that is `decided_by_measurement`.
        decided_by_measurement: Whether the job must measure the model to know how many layers go.
        removable_layers: Layers that the protection leaves to choose from.
        sequence_length: Tokens of a calibration window.
        window_length: Tokens of an evaluation window.
        memory_bytes: Estimate of the job's peak memory in fp32 on a CPU, the model resident unless the spec
            says that it is streamed.
        least_memory_bytes: Memory without which the job cannot be done: in the precision that it asks for, and
            streamed where that is left to the job.
    """

    source: Source
    facts: ModelFacts
    layers_to_remove: int
    decided_by_measurement: bool
    removable_layers: int
    sequence_length: int
    window_length: int
    memory_bytes: int
    least_memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the part that a client needs, as JSON types."""
        data = asdict(self)
        data.pop("source")
        data["facts"] = self.facts.to_dict()
        return data


def preflight(
    spec: CompressionSpec,
    policy: SourcePolicy,
    looking: Callable[[str, SourcePolicy], Looked] = look,
) -> Preflight:
    """Check a whole spec against its model and its texts.

    Args:
        spec: The job spec.
        policy: Which models and texts may be used.
        looking: Finds and inspects the model; `Lookups.look` where the same models come again and again.

    Raises:
        InputRefused: With every problem found.
    """
    looked = looking(spec.model, policy)
    source, facts = looked.source, looked.facts
    problems: list[Problem] = []
    count = _collect(problems, lambda: layers_to_remove(spec, facts))
    sequence = _collect(
        problems,
        lambda: _length(spec.calibration.sequence_length, facts, "/calibration/sequence_length"),
    )
    window = _collect(problems, lambda: window_of(spec.evaluation, facts))
    _collect(problems, lambda: check_gate_parts(spec.method.options, source, facts))
    _collect(problems, lambda: check_optimizer(spec.method.options))
    for reference in spec.calibration.references():
        _collect(problems, partial(check_text, reference, sequence or 1, policy))
    for place, reference in enumerate(spec.evaluation.references()):
        pointer = f"/evaluation/perplexity/{place}"
        _collect(problems, partial(check_text, reference, window or 1, policy, pointer=pointer))
    for name in spec.export.formats:
        check = registry.EXPORTS[name].check
        if check is not None:
            _collect(problems, partial(registry.load(check), source, facts))
    if spec.memory == STREAMED:
        problems.extend(obstacles(spec))
    if problems or count is None or sequence is None or window is None:
        raise InvalidSpec(*problems)
    return Preflight(
        source=source,
        facts=facts,
        layers_to_remove=count,
        decided_by_measurement=spec.target.measured,
        removable_layers=removable_layers(spec, facts),
        sequence_length=sequence,
        window_length=window,
        memory_bytes=memory_needed(spec, facts),
        least_memory_bytes=least_memory(spec, facts),
    )


def removable_layers(spec: CompressionSpec, facts: ModelFacts) -> int:
    """Return how many layers the protection leaves to choose from; one layer always stays."""
    options = spec.method.options
    inner = facts.layers - options.protect_first - options.protect_last
    return max(0, min(inner, facts.layers - 1))


def layers_to_remove(spec: CompressionSpec, facts: ModelFacts) -> int:
    """Return how many layers the target means on this model, at most where only a measurement will tell.

    Raises:
        InvalidSpec: If it is out of reach, or the method cannot tell when it is reached.
    """
    target, most = spec.target, removable_layers(spec, facts)
    if target.sparsity is not None:
        count = max(1, math.floor(target.sparsity * facts.layers + 0.5))
        return _reachable(count, most, "/target/sparsity", target.sparsity, facts)
    if target.layers_to_remove is not None:
        return _reachable(
            target.layers_to_remove, most, "/target/layers_to_remove", target.layers_to_remove, facts
        )
    if target.max_params is not None:
        return _for_parameters(target.max_params, most, facts)
    if target.speedup is not None:
        return _for_speed(target.speedup, most, facts)
    return _for_perplexity(spec, most, facts)


def window_of(evaluation: Evaluation, facts: ModelFacts) -> int:
    """Return the tokens of an evaluation window.

    Raises:
        InvalidSpec: If it is longer than the model takes.
    """
    return _length(evaluation.window_length, facts, "/evaluation/window_length")


def _reachable(count: int, most: int, pointer: str, value: float, facts: ModelFacts) -> int:
    if count <= most:
        return count
    share = math.floor(1000 * (most + 0.499) / facts.layers) / 1000
    message = (
        f"is {value:g}, which means {count} of {facts.layers} layers; with the protected ones at most {most}"
        f" can go (sparsity {share:g}). Ask for less, or lower protect_first and protect_last."
    )
    raise InvalidSpec(Problem(pointer, message, value, f"at most {most} layers"))


def _for_parameters(limit: int, most: int, facts: ModelFacts) -> int:
    """Return the fewest layers whose removal surely reaches `limit`, whichever go."""
    smallest = sorted(facts.layer_parameters)
    for count in range(1, most + 1):
        if facts.parameters - sum(smallest[:count]) <= limit:
            return count
    least = facts.parameters - sum(smallest[:most])
    message = (
        f"is {limit:,}; with at most {most} layers gone {least:,} parameters are left. Ask for that or more."
    )
    raise InvalidSpec(Problem("/target/max_params", message, limit, f"at least {least}"))


def _for_speed(speedup: float, most: int, facts: ModelFacts) -> int:
    """Return `most`, unless the speed-up would be too much even for a model that is nothing but its layers."""
    _reachable(1, most, "/target/speedup", speedup, facts)
    ceiling = facts.layers / (facts.layers - most)
    if speedup <= ceiling:
        return most
    below = math.floor(100 * ceiling) / 100
    message = (
        f"is {speedup:g}; with at most {most} of {facts.layers} layers gone the model cannot be more than"
        f" {below:g} times as fast. Ask for less, or lower protect_first and protect_last."
    )
    raise InvalidSpec(Problem("/target/speedup", message, speedup, f"at most {below:g}"))


def _for_perplexity(spec: CompressionSpec, most: int, facts: ModelFacts) -> int:
    """Return `most`, unless the method does not measure the loss after each of its choices."""
    pointer, ratio = "/target/max_perplexity_ratio", spec.target.max_perplexity_ratio or 0.0
    _reachable(1, most, pointer, ratio, facts)
    if registry.METHODS[spec.method.name].measured:
        return most
    able = tuple(name for name, entry in registry.METHODS.items() if entry.measured)
    message = (
        f"is {ratio:g}; {spec.method.name} does not measure what each layer costs, so that it cannot tell when"
        f" to stop. Methods that can are {', '.join(able)}."
    )
    raise InvalidSpec(Problem(pointer, message, ratio, able))


def _length(given: int | None, facts: ModelFacts, pointer: str) -> int:
    most = facts.max_positions
    if given is not None and most is not None and given > most:
        message = f"is {given}; this model takes at most {most} tokens."
        raise InvalidSpec(Problem(pointer, message, given, f"at most {most}"))
    return window_length(given, facts)


def least_memory(spec: CompressionSpec, facts: ModelFacts) -> int:
    """Estimate the memory without which a job cannot be done, bytes.

    A job that may stream its model counts as streamed. A precision counts where the spec names it, and that of
    the stored weights where it is bound to CUDA, which takes it if fp32 does not fit.
    """
    free = spec.memory == "auto" and not any(obstacles(spec))
    resident = memory_needed(spec, facts)
    needed = min(resident, _streamed(spec, facts)) if free else resident
    name = spec.dtype
    if name == "auto" and spec.device.startswith("cuda"):
        name = facts.stored_dtype
    return _RUNTIME_BYTES + (needed - _RUNTIME_BYTES) * _ITEM_BYTES.get(name, _FLOAT_BYTES) // _FLOAT_BYTES


def _streamed(spec: CompressionSpec, facts: ModelFacts) -> int:
    length = window_length(spec.calibration.sequence_length, facts)
    return _RUNTIME_BYTES + streamed_bytes(spec, facts, length)


def memory_needed(spec: CompressionSpec, facts: ModelFacts) -> int:
    """Estimate the peak, bytes: the runtime, the weights, and what stage 2 keeps of each weight it trains."""
    if spec.memory == STREAMED:
        return _streamed(spec, facts)
    weights = facts.parameters * _FLOAT_BYTES
    layers = sum(facts.layer_parameters) * _FLOAT_BYTES
    choosing = float(registry.METHODS[spec.method.name].keeps_gradients)
    most = max(choosing, _kept_a_weight(spec.method.options))
    return _RUNTIME_BYTES + int(1.4 * weights) + int(most * layers)


def _kept_a_weight(options: MethodOptions) -> float:
    """Return the floats that stage 2 keeps a weight of the layers: gradients and the optimizer's moments."""
    stage2 = stage2_of(options)
    if stage2 is None:
        return 0.0
    return (1 + MOMENTS[stage2.optimizer]) * {"full": 1.0, "norms+down": 0.3, "lora": 0.1}[stage2.trainable]


def _collect(problems: list[Problem], check: Any) -> Any:
    """Run a check; keep its problems instead of its error."""
    try:
        return check()
    except InputRefused as error:
        problems.extend(error.problems)
        return None
