"""What a running compression tells, and how it is told to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from trsp_core.errors import Cancelled

Stage = Literal[
    "resolve", "preflight", "calibrate", "stage1", "stage2", "surgery", "round_trip", "evaluate", "report"
]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class Progress:
    """One sign of life.

    Attributes:
        stage: Where the algorithm is.
        step: Steps of this stage that are done, 0 at its start.
        total: Steps of this stage as far as known; `step == total` means that the stage is done.
        overall: Fraction of the whole job that is done, 0 to 1; never falls within one run.
        eta_seconds: Seconds left in this stage, judged by its steps so far; None while unknown.
        message: One line for a person.
        metrics: Named figures of this step: `loss`, `identity_gap`, `perplexity`, …
        layers: One figure a layer (source index), where the step has them: gate weights, identity gaps.
        chosen: Layers chosen for removal so far, in the order of choice.
    """

    stage: Stage
    step: int
    total: int
    overall: float
    eta_seconds: float | None = None
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    layers: Mapping[int, float] = field(default_factory=dict)
    chosen: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the event as JSON types; the keys of `layers` become strings."""
        data = asdict(self)
        data["layers"] = {str(layer): value for layer, value in self.layers.items()}
        data["chosen"] = list(self.chosen)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Progress:
        """Read what `to_dict` wrote, as it is or as JSON gave it back; fields of a later version are passed over."""
        return cls(
            stage=data["stage"],
            step=data["step"],
            total=data["total"],
            overall=data["overall"],
            eta_seconds=data.get("eta_seconds"),
            message=data.get("message") or "",
            metrics=data.get("metrics") or {},
            layers={int(layer): value for layer, value in (data.get("layers") or {}).items()},
            chosen=tuple(data.get("chosen") or ()),
        )


ProgressFn = Callable[[Progress], None]
StopFn = Callable[[], bool]


def ignore(_: Progress) -> None:
    """Take a progress event and do nothing."""


def never() -> bool:
    """Never ask to stop."""
    return False


def raise_if_stopped(should_stop: StopFn) -> None:
    """Raise `Cancelled` if somebody asked the work to stop."""
    if should_stop():
        raise Cancelled("stopped on request; the same command goes on from the last checkpoint")
