"""Key figures side by side."""

from __future__ import annotations

from typing import Any

from trsp_jobs.comparison import side_by_side


def result(pruned: float | None, seconds: float = 10.0, **more: Any) -> dict[str, Any]:
    return {
        "removed_layers": [1, 2],
        "parameters": {"dense": 100, "pruned": 80},
        "perplexity": {"ptb": {"dense": 10.0, "pruned": pruned}},
        "seconds": seconds,
        **more,
    }


def test_the_best_values_are_marked() -> None:
    rows = {row.name: row for row in side_by_side([result(20.0), result(15.0, 30), result(15.0, 10)])}
    assert rows["perplexity/ptb"].values == (20.0, 15.0, 15.0)
    assert rows["perplexity/ptb"].best == (1, 2)
    assert rows["perplexity ratio/ptb"].values == (2.0, 1.5, 1.5)
    assert rows["time"].best == (0, 2)
    assert rows["layers removed"].best == ()
    assert "peak memory" not in rows


def test_what_a_job_has_not_measured_is_none() -> None:
    rows = {row.name: row for row in side_by_side([result(None), {}, result(12.0, speed={"prompt": 1.3})])}
    assert rows["perplexity/ptb"].values == (None, None, 12.0)
    assert rows["perplexity/ptb"].best == ()
    assert rows["speed/prompt"].values == (None, None, 1.3)
