"""What a compression finds out, each part a frozen value that is written down, read back and tested alone.

`CompressionReport.to_dict` is `report.json`; HTML and CSV are made from the same value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

SCHEMA_VERSION = 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model without loading its weights.

    Attributes:
        reference: The model as the spec named it.
        revision: What pins its content: a commit hash, or the SHA-256 of config and weight sizes.
        model_type: The config's `model_type`.
        layers: Number of decoder layers.
        parameters: Number of weights, tied ones once.
        layer_parameters: Number of weights of each decoder layer.
        hidden_size: Width of the residual stream.
        vocabulary: Rows of the embedding.
        max_positions: Longest sequence the model takes; None where it has no limit.
        stored_bytes: Size of the weight files, bytes.
        stored_dtype: Precision of most weights as stored.
    """

    reference: str
    revision: str
    model_type: str
    layers: int
    parameters: int
    layer_parameters: tuple[int, ...]
    hidden_size: int
    vocabulary: int
    max_positions: int | None
    stored_bytes: int
    stored_dtype: str

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON types."""
        return {**asdict(self), "layer_parameters": list(self.layer_parameters)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelFacts:
        """Read what `to_dict` wrote."""
        return cls(**{**data, "layer_parameters": tuple(data["layer_parameters"])})


@dataclass(frozen=True, slots=True)
class ChoiceRound:
    """How one layer was chosen.

    Attributes:
        layer: Source index of the layer that went.
        scores: The method's score of each candidate in this round; the smallest matters least.
        verified: Mean cross-entropy with each verified candidate off, nats a token; empty if none was.
        loss: Mean cross-entropy on the calibration text after this choice, nats a token; None if unknown.
        steps: Gate steps that the round took.
        part_scores: By the part's name, the score of that part of each candidate, where the method scores
            parts of layers; `scores` are then what it makes of them.
    """

    layer: int
    scores: Mapping[int, float]
    verified: Mapping[int, float] = field(default_factory=dict)
    loss: float | None = None
    steps: int = 0
    part_scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the round as JSON types."""
        return {
            **asdict(self),
            "scores": _text_keys(self.scores),
            "verified": _text_keys(self.verified),
            "part_scores": {part: _text_keys(scores) for part, scores in self.part_scores.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ChoiceRound:
        """Read what `to_dict` wrote."""
        parts = {part: _int_keys(scores) for part, scores in data.get("part_scores", {}).items()}
        read = {"scores": _int_keys(data["scores"]), "verified": _int_keys(data["verified"])}
        return cls(**{**data, **read, "part_scores": parts})


@dataclass(frozen=True, slots=True)
class PruningPlan:
    """Which layers go. The order's prefixes are the plans for every smaller number, if the method is nested.

    Attributes:
        method: Name of the method that chose.
        layers: Number of layers of the source model.
        order: Source indices (0-based) in the order of choice.
        rounds: One record a chosen layer, in the same order.
        dense_loss: Mean cross-entropy of the dense model on the calibration text, nats a token.
    """

    method: str
    layers: int
    order: tuple[int, ...]
    rounds: tuple[ChoiceRound, ...] = ()
    dense_loss: float | None = None

    @property
    def removed(self) -> tuple[int, ...]:
        """Source indices of the removed layers, ascending."""
        return tuple(sorted(self.order))

    @property
    def kept(self) -> tuple[int, ...]:
        """Source indices of the kept layers, ascending: position in the result -> index in the source."""
        return tuple(layer for layer in range(self.layers) if layer not in set(self.order))

    def prefix(self, count: int) -> PruningPlan:
        """Return the plan that removes only the first `count` layers of the order."""
        return replace(self, order=self.order[:count], rounds=self.rounds[:count])

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON types (`plan.json`)."""
        return {
            "method": self.method,
            "layers": self.layers,
            "removed_layers": list(self.removed),
            "order": list(self.order),
            "kept_layers": list(self.kept),
            "scores": _text_keys(self.rounds[0].scores) if self.rounds else {},
            "rounds": [item.to_dict() for item in self.rounds],
            "dense_loss": self.dense_loss,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PruningPlan:
        """Read what `to_dict` wrote; only `order` and `layers` are required."""
        return cls(
            method=data.get("method", "by hand"),
            layers=data["layers"],
            order=tuple(data["order"]),
            rounds=tuple(ChoiceRound.from_dict(item) for item in data.get("rounds", ())),
            dense_loss=data.get("dense_loss"),
        )


@dataclass(frozen=True, slots=True)
class PerplexityResult:
    """Perplexity of one text, dense and pruned over the same windows.

    Attributes:
        dense, pruned: exp of the token-weighted mean cross-entropy; None where that model was not measured.
        windows: Number of windows measured.
        window_length: Tokens of a window.
        predicted_tokens: Tokens that were predicted.
        text_sha256: Hash of the token ids, little-endian 64-bit, so that two results can be told apart.
        calibration_text: Whether the method was calibrated on this very text, which flatters the figure.
    """

    dense: float | None
    pruned: float | None
    windows: int
    window_length: int
    predicted_tokens: int
    text_sha256: str
    calibration_text: bool = False

    @property
    def ratio(self) -> float | None:
        """Pruned over dense."""
        return self.pruned / self.dense if self.dense and self.pruned else None


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """One speed test, dense and pruned interleaved.

    Attributes:
        dense, pruned: Medians, in `unit`.
        unit: `ms` for latency (less is better), `tokens/s` for throughput (more is better).
        ratio: How many times faster the pruned model is: the median of the ratios of neighbouring repeats.
        ceiling: 1 / (1 - c), with c the share of the dense forward's time that the removed layers take.
        repeats: Measured pairs.
        spread: Lower and upper quartile of the ratio.
        above_ceiling: The ratio's lower quartile exceeds the ceiling: a measurement error, to be distrusted.
        sizes: The sizes used.
    """

    dense: float
    pruned: float
    unit: str
    ratio: float
    ceiling: float
    repeats: int
    spread: tuple[float, float]
    above_ceiling: bool
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SizeResult:
    """Weights and bytes before and after; bytes are those of the model as saved in the working precision."""

    dense_parameters: int
    pruned_parameters: int
    dense_bytes: int
    pruned_bytes: int


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the round trip's certificate.

    Attributes:
        name: Which check; see `trsp_core/round_trip_child.py`.
        ok: Whether it held; None where it does not apply, for the reason in `detail`.
        figure: What was found, in `unit`; None where it does not apply.
        tolerance: The largest figure that holds.
        unit: What the figure counts or measures, in words.
        detail: What was compared, or what went wrong.
    """

    name: str
    ok: bool | None
    figure: float | None
    tolerance: float | None
    unit: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """What a fresh process found that loaded the saved folder with the plain loader.

    Attributes:
        ok: No check failed.
        max_abs_logit_difference: Largest difference to the in-memory model's logits.
        tolerance: Largest difference that was allowed.
        generated_tokens_equal: Greedy generation with and without the KV cache gave the same tokens.
        loader: The call that loaded it.
        warnings: Warnings that transformers gave while loading.
        checks: Every check with its figure; empty in a report of a version that kept none.
    """

    ok: bool
    max_abs_logit_difference: float
    tolerance: float
    generated_tokens_equal: bool
    loader: str
    warnings: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not hold."""
        return tuple(item for item in self.checks if item.ok is False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RoundTrip:
        """Read what `asdict` wrote."""
        checks = tuple(Check(**item) for item in data.get("checks", ()))
        return cls(**{**data, "warnings": tuple(data["warnings"]), "checks": checks})


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The model after the first `removed` layers of the order went, untouched otherwise.

    Attributes:
        removed: Number of layers gone.
        layer: The layer that went last; None for the dense model.
        perplexity: On the calibration text, before any transfer of knowledge.
        parameters: Weights left.
    """

    removed: int
    layer: int | None
    perplexity: float
    parameters: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One logged step of stage 2: the loss's parts and the mean identity gap of the chosen layers."""

    step: int
    loss: float
    identity_gap: float
    learning_rate: float
    lm: float | None = None
    distill: float | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What the job used. Bytes are peaks of this process; tokens count every pass of the calibration text."""

    peak_rss_bytes: int
    peak_cuda_bytes: int | None
    gradient_tokens: int
    forward_tokens: int


@dataclass(frozen=True, slots=True)
class CompressionReport:
    """Everything that a reader needs to judge a result and to repeat it."""

    spec: Mapping[str, Any]
    spec_fingerprint: str
    model: ModelFacts
    plan: PruningPlan
    perplexity: Mapping[str, PerplexityResult]
    speed: Mapping[str, SpeedResult]
    size: SizeResult
    round_trip: RoundTrip
    curve: tuple[CurvePoint, ...]
    identity_gap: Mapping[int, tuple[float, float]]
    stage2: tuple[StepRecord, ...]
    refitted_layers: tuple[int, ...]
    timings: Mapping[str, float]
    resources: Resources
    environment: Mapping[str, Any]
    seed: int
    started_at: str
    finished_at: str
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return `report.json`."""
        data = asdict(self)
        model = self.model.to_dict()
        data.update(
            model=model,
            plan=self.plan.to_dict(),
            identity_gap={str(layer): list(gap) for layer, gap in self.identity_gap.items()},
            tasks={},
        )
        return dict(_listed(data))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CompressionReport:
        """Read a `report.json`."""
        rest = {key: value for key, value in data.items() if key != "tasks"}
        rest.update(
            model=ModelFacts.from_dict(data["model"]),
            plan=PruningPlan.from_dict(data["plan"]),
            perplexity={name: PerplexityResult(**item) for name, item in data["perplexity"].items()},
            speed={
                name: SpeedResult(**{**item, "spread": tuple(item["spread"])})
                for name, item in data["speed"].items()
            },
            size=SizeResult(**data["size"]),
            round_trip=RoundTrip.from_dict(data["round_trip"]),
            curve=tuple(CurvePoint(**item) for item in data["curve"]),
            identity_gap={int(layer): (gap[0], gap[1]) for layer, gap in data["identity_gap"].items()},
            stage2=tuple(StepRecord(**item) for item in data["stage2"]),
            refitted_layers=tuple(data["refitted_layers"]),
            resources=Resources(**data["resources"]),
            notes=tuple(data["notes"]),
        )
        return cls(**rest)


def _text_keys(values: Mapping[int, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in values.items()}


def _int_keys(values: Mapping[str, Any]) -> dict[int, Any]:
    return {int(key): value for key, value in values.items()}


def _listed(value: Any) -> Any:
    """Return `value` with tuples as lists, as JSON would read it back."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value
