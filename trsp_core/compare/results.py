"""What a comparison finds out: one row a method, figures or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trsp_core.results import ModelFacts

SCHEMA_VERSION = 1
_DERIVED = ("seconds", "against_dense")


@dataclass(frozen=True, slots=True)
class RowResult:
    """The figures of a row; all are of one unbroken run in a process of its own.

    Attributes:
        order: Source indices of the removed layers as chosen; empty for a reference.
        perplexity: By evaluation set, with the layers switched off.
        gradient_tokens, forward_tokens: Calibration tokens that passed with and without a gradient; a pass with
            one counts in both.
        choosing_seconds, transfer_seconds: Wall time of stage 1 and of stage 2; loading and judging are in
            neither.
        peak_rss_bytes: Largest resident size of the process, judging included.
        peak_cuda_bytes: Most that torch held on a CUDA device; None elsewhere.
        notes: What a reader should know.
    """

    order: tuple[int, ...]
    perplexity: Mapping[str, float]
    gradient_tokens: int
    forward_tokens: int
    choosing_seconds: float
    transfer_seconds: float
    peak_rss_bytes: int
    peak_cuda_bytes: int | None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Wall time of the compression itself."""
        return self.choosing_seconds + self.transfer_seconds

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RowResult:
        """Read what `asdict` wrote, as it is or as JSON gave it back."""
        return cls(**{**data, "order": tuple(data["order"]), "notes": tuple(data["notes"])})


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row has no figures.

    Attributes:
        refused: Whether the method was never begun.
        code: The error's code.
        message: What went wrong and what would help.
    """

    refused: bool
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; exactly one of `result` and `problem` is there.

    Attributes:
        label: Its name.
        method: Name and options, every one with its value.
        reference: Whether no layer went; it is then no candidate for the best.
    """

    label: str
    method: Mapping[str, Any]
    reference: bool
    result: RowResult | None
    problem: RowProblem | None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """Read what `asdict` wrote, as it is or as JSON gave it back."""
        result, problem = data["result"], data["problem"]
        return cls(
            data["label"],
            data["method"],
            data["reference"],
            RowResult.from_dict(result) if result else None,
            RowProblem(**problem) if problem else None,
        )


@dataclass(frozen=True, slots=True)
class TextFacts:
    """A text that judged.

    Attributes:
        in_domain: Whether it is of the calibration's own domain.
        windows, window_length: How it was cut, tokens.
        predicted_tokens: Tokens that were predicted.
        text_sha256: Hash of the token ids, little-endian 64-bit.
        calibration_text: Whether calibration read this very text, which flatters every row but the dense one.
    """

    in_domain: bool
    windows: int
    window_length: int
    predicted_tokens: int
    text_sha256: str
    calibration_text: bool


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """The calibration batch: its size and the hash of its token ids, little-endian 64-bit."""

    sequences: int
    sequence_length: int
    sha256: str

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.sequences * self.sequence_length


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a reader needs to judge the methods side by side and to repeat it.

    The first row is the dense model; `texts` are in the order of the table, in-domain first.
    """

    spec: Mapping[str, Any]
    spec_fingerprint: str
    model: ModelFacts
    calibration: BatchFacts
    texts: Mapping[str, TextFacts]
    rows: tuple[Row, ...]
    environment: Mapping[str, Any]
    seed: int
    started_at: str
    finished_at: str
    schema_version: int = SCHEMA_VERSION

    @property
    def dense(self) -> RowResult:
        """Figures of the dense model."""
        result = self.rows[0].result
        if result is None:
            raise ValueError("a comparison without the figures of the dense model")
        return result

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows without figures."""
        return tuple(row for row in self.rows if row.problem is not None)

    def row(self, label: str) -> Row:
        """Return a row by its name.

        Raises:
            KeyError: If there is none.
        """
        found = next((row for row in self.rows if row.label == label), None)
        if found is None:
            raise KeyError(label)
        return found

    def against_dense(self, result: RowResult) -> dict[str, float]:
        """Return a row's perplexity on each text as a multiple of the dense model's."""
        return {name: result.perplexity[name] / self.dense.perplexity[name] for name in self.texts}

    def to_dict(self) -> dict[str, Any]:
        """Return `comparison.json`; each result has `seconds` and `against_dense` beside what they follow from."""
        data = asdict(self)
        for shown, row in zip(data["rows"], self.rows, strict=True):
            if row.result is not None:
                listed = {"order": list(row.result.order), "notes": list(row.result.notes)}
                change = self.against_dense(row.result)
                shown["result"].update(listed, seconds=row.result.seconds, against_dense=change)
        data.update(model=self.model.to_dict(), rows=list(data["rows"]))
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Comparison:
        """Read a `comparison.json`."""
        rest = dict(data)
        rest.update(
            model=ModelFacts.from_dict(data["model"]),
            calibration=BatchFacts(**data["calibration"]),
            texts={name: TextFacts(**item) for name, item in data["texts"].items()},
            rows=tuple(Row.from_dict(_without_derived(item)) for item in data["rows"]),
        )
        return cls(**rest)


def _without_derived(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of `comparison.json` without what follows from its figures."""
    result = row["result"]
    own = {key: value for key, value in result.items() if key not in _DERIVED} if result else None
    return {**row, "result": own}
