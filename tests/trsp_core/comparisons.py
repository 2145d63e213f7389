"""Made-up comparisons: figures without a model."""

from __future__ import annotations

from typing import Any

from trsp_core.compare.results import BatchFacts, Comparison, Row, RowProblem, RowResult, TextFacts
from trsp_core.results import ModelFacts

HOME, AWAY = "python-docs", "text:plays & <poems>.txt"
FACTS = ModelFacts(
    reference="demo:smollm2-135m",
    revision="cafe",
    model_type="llama",
    layers=30,
    parameters=134_515_008,
    layer_parameters=(3_540_096,) * 30,
    hidden_size=576,
    vocabulary=49_152,
    max_positions=8192,
    stored_bytes=269_000_000,
    stored_dtype="bfloat16",
)


def result(home: float, away: float, **changes: Any) -> RowResult:
    """Return a row's figures; 8 layers went unless `order` says otherwise."""
    figures: dict[str, Any] = {
        "order": tuple(range(20, 28)),
        "perplexity": {HOME: home, AWAY: away},
        "gradient_tokens": 0,
        "forward_tokens": 4096,
        "choosing_seconds": 2.5,
        "transfer_seconds": 0.0,
        "peak_rss_bytes": 900_000_000,
        "peak_cuda_bytes": None,
    }
    return RowResult(**{**figures, **changes})


def row(label: str, figures: RowResult | None, *, reference: bool = False, **problem: Any) -> Row:
    """Return a row; `problem` says why it has no figures."""
    return Row(
        label,
        {"name": label, "protect_first": 1},
        reference,
        figures,
        RowProblem(**problem) if problem else None,
    )


def comparison(*rows: Row) -> Comparison:
    """Return a comparison of the dense model and `rows`."""
    dense = row("dense", result(13.5, 40.0, order=(), forward_tokens=0, choosing_seconds=0.0), reference=True)
    return Comparison(
        spec={"model": "demo:smollm2-135m", "calibration": {"set": HOME}, "methods": ["…"]},
        spec_fingerprint="0" * 64,
        model=FACTS,
        calibration=BatchFacts(128, 375, "1" * 64),
        texts={
            HOME: TextFacts(True, 12, 512, 12 * 511, "2" * 64, True),
            AWAY: TextFacts(False, 20, 512, 20 * 511, "3" * 64, False),
        },
        rows=(dense, *rows),
        environment={"trsp": "0.1.0", "device_name": "a processor", "cuda": None},
        seed=0,
        started_at="2026-01-02T03:04:05+00:00",
        finished_at="2026-01-02T04:05:06+00:00",
    )


def example() -> Comparison:
    """Return a comparison with rows of every kind."""
    return comparison(
        row(
            "dense tuned with the same budget",
            result(
                11.0, 43.0, order=(), gradient_tokens=40_960, transfer_seconds=150.0, choosing_seconds=0.0
            ),
            reference=True,
        ),
        row("shortgpt", result(210.0, 930.0)),
        row("shortgpt+tune", result(38.0, 160.0, gradient_tokens=40_960, transfer_seconds=120.0)),
        row("sleb", result(95.0, 310.0, choosing_seconds=420.0, forward_tokens=9_000_000)),
        row(
            "sleb+tune",
            result(35.0, 120.0, gradient_tokens=40_960, choosing_seconds=420.0, transfer_seconds=118.0),
        ),
        row(
            "trsp", result(27.0, 82.0, gradient_tokens=40_960, choosing_seconds=70.0, transfer_seconds=160.0)
        ),
        row("trsp without stage 2", result(52.0, 150.0, choosing_seconds=70.0, transfer_seconds=12.0)),
        row("last", result(60_000.0, 75_000.0, choosing_seconds=0.0, forward_tokens=0)),
        row(
            "laco",
            None,
            refused=False,
            code="target_out_of_reach",
            message="8 layers are out of reach: no merge keeps the final states similar enough",
        ),
    )
