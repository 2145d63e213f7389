"""How much a job has to do, counted from its spec and its model's facts. Torch-free.

The unit is one weight applied to one token: a forward pass of `t` tokens through a model whose layers and
head have `w` weights is `t * w`, a backward pass twice that. Divided by the time that finished jobs took, it
gives their speed, by which new jobs are judged; so what counts is that it grows as the work does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trsp_core import registry
from trsp_core.config import CompressionSpec, SpeedOptions
from trsp_core.method_options import (
    CHOICE_TOKENS,
    SCREENED,
    TRIED,
    Afterwards,
    MethodOptions,
    TrspOptions,
    own_sequences,
)
from trsp_core.results import ModelFacts

DEFAULT_LENGTH = 2048
"""Tokens of a window where none is given, in calibration and evaluation: the protocol's."""
_FORWARD, _BOTH = 1, 3
"""Passes that a forward, and a forward with its backward, are worth."""


@dataclass(frozen=True, slots=True)
class Part:
    """The work of one stage.

    Attributes:
        kind: What sort of work it is: only parts of a kind are compared.
        tokens: Tokens that pass through the whole model, a backward pass counted twice.
        work: Weights times tokens.
    """

    kind: str
    tokens: float
    work: float


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What the counts are made of: weights, layers, layers that go, calibration sequences and their length."""

    weights: int
    layers: int
    count: int
    sequences: int
    length: int

    @property
    def text(self) -> int:
        return self.sequences * self.length

    def part(self, kind: str, tokens: float) -> Part:
        return Part(kind, tokens, tokens * self.weights)


def window_length(given: int | None, facts: ModelFacts) -> int:
    """Return the tokens of a window, by default the protocol's or the most that the model takes."""
    return given or min(DEFAULT_LENGTH, facts.max_positions or DEFAULT_LENGTH)


def workload(
    spec: CompressionSpec, facts: ModelFacts, *, count: int, windows: Mapping[str, int] | None
) -> dict[str, Part]:
    """Return the parts of a job by stage: `stage1`, `stage2`, `evaluate`, and `rest` for all others.

    Args:
        spec: The job.
        facts: Its model's.
        count: Layers that go.
        windows: Evaluation windows of each set; None where nobody knows, and `evaluate` is left out.
    """
    length = window_length(spec.calibration.sequence_length, facts)
    weights = sum(facts.layer_parameters) + facts.vocabulary * facts.hidden_size
    sizes = _Sizes(weights, facts.layers, count, spec.calibration.sequences, length)
    parts = {"stage1": _choice(spec, sizes), "rest": Part("rest", 0, facts.parameters)}
    transfer = _transfer(spec.method.options, sizes)
    if transfer is not None:
        parts["stage2"] = transfer
    if windows is not None:
        parts["evaluate"] = _evaluation(spec, facts, sizes, sum(windows.values()))
    return parts


def _choice(spec: CompressionSpec, sizes: _Sizes) -> Part:
    """Return what choosing the layers takes, at most; a method's own factor is part of its speed."""
    name, options = spec.method.name.partition("+")[0], spec.method.options
    if isinstance(options, TrspOptions):
        return sizes.part(name, _passes_of_rounds(options, sizes) * _stage1_tokens(options, sizes))
    if registry.METHODS[spec.method.name].measured:
        trials = sum((sizes.layers - gone) ** 2 / (2 * sizes.layers) for gone in range(sizes.count))
        return sizes.part(name, trials * sizes.text)
    return sizes.part(name, _FORWARD * sizes.text)


def _passes_of_rounds(options: TrspOptions, sizes: _Sizes) -> float:
    """Return the passes of all rounds: what names candidates, and trials, which skip what comes before them."""
    gates = options.candidates == "gates"
    screening = 0 if gates else SCREENED * (1 + sizes.layers / 2)
    trials = options.verify_top / 2 * (1 if gates else SCREENED * TRIED + 1 - SCREENED)
    a_round = (_BOTH * options.stage1_steps if gates else 0) + trials
    return _FORWARD + screening + sum(a_round * (1 - gone / sizes.layers) for gone in range(sizes.count))


def _stage1_tokens(options: TrspOptions, sizes: _Sizes) -> int:
    sequences = options.stage1_sequences or -(-CHOICE_TOKENS // sizes.length)
    return min(sequences * sizes.length, sizes.text)


def _transfer(options: MethodOptions, sizes: _Sizes) -> Part | None:
    """Return what the refit and the steps of stage 2 take; None where nothing follows the choice."""
    stage2 = options.stage2() if isinstance(options, Afterwards) else options
    if not isinstance(stage2, TrspOptions):
        return None
    steps = stage2.steps_for(sizes.sequences)
    own = own_sequences(sizes.sequences, sizes.length, stage2.own_text) * sizes.length
    read = sizes.text + own
    refit = 2 * _FORWARD * sizes.count * read if stage2.absorb else 0
    taught = _FORWARD * read if steps and stage2.objective != "lm" else 0
    trained = _BOTH * steps * stage2.batch_sequences * sizes.length
    kind = stage2.trainable if steps else "refit"
    kind = f"{kind}+refit" if stage2.absorb and steps else kind
    return sizes.part(kind, refit + own + taught + trained)


def _evaluation(spec: CompressionSpec, facts: ModelFacts, sizes: _Sizes, windows: int) -> Part:
    """Return what measuring takes, on the dense model and on what is left of it."""
    both = 2 - sizes.count / sizes.layers
    read = windows * window_length(spec.evaluation.window_length, facts)
    speed = spec.evaluation.speed
    timed = 0 if speed is None else _timed_tokens(speed)
    return sizes.part("perplexity" if speed is None else "perplexity+speed", both * (read + timed))


def _timed_tokens(speed: SpeedOptions) -> int:
    generated = speed.batch * (speed.generation_prompt + speed.new_tokens)
    return (speed.repeats + speed.warmup) * (speed.prompt_tokens + generated)
