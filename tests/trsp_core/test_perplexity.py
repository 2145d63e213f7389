"""Perplexity is the exponent of the token-weighted mean, and says which window is broken."""

from __future__ import annotations

import math

import pytest
import torch

from tests.trsp_core.tiny_lms import tiny_lm
from trsp_core.errors import Cancelled, NumericalFailure
from trsp_core.evaluation import perplexity
from trsp_core.evaluation.perplexity import LossSum, loss_of_windows


def _windows(count: int = 5, length: int = 12) -> torch.Tensor:
    return torch.randint(0, 97, (count, length), generator=torch.Generator().manual_seed(5))


def test_sum_is_the_model_s_own_loss() -> None:
    model, windows = tiny_lm("llama"), _windows()
    found = loss_of_windows(model, windows)
    assert found.predicted_tokens == 55
    assert found.mean == pytest.approx(model(windows, labels=windows).loss.item(), abs=1e-5)
    assert found.perplexity == pytest.approx(math.exp(found.mean))


def test_batching_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, windows = tiny_lm("qwen2"), _windows()
    together = loss_of_windows(model, windows)
    monkeypatch.setattr(perplexity, "BATCH_TOKENS", 1)
    steps: list[tuple[int, int]] = []
    apart = loss_of_windows(model, windows, on_step=lambda done, total: steps.append((done, total)))
    assert apart.nats == pytest.approx(together.nats, rel=1e-6)
    assert steps == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_mode_is_restored_and_dropout_is_off() -> None:
    model, windows = tiny_lm("gpt2"), _windows()
    model.train()
    model.transformer.drop.eval()
    assert loss_of_windows(model, windows) == loss_of_windows(model, windows)
    assert model.training
    assert not model.transformer.drop.training


def test_a_window_that_is_not_finite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "BATCH_TOKENS", 24)
    model, windows = tiny_lm("llama"), _windows() % 90
    windows[3, 4] = 95
    with torch.no_grad():
        model.model.embed_tokens.weight[95] = float("nan")
    with pytest.raises(NumericalFailure, match="window 3 is nan"):
        loss_of_windows(model, windows)


def test_stops_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "BATCH_TOKENS", 1)
    seen: list[int] = []
    with pytest.raises(Cancelled):
        loss_of_windows(
            tiny_lm("llama"),
            _windows(),
            on_step=lambda done, total: seen.append(done),
            should_stop=lambda: len(seen) == 2,
        )
    assert seen == [1, 2]


def test_a_mean_beyond_floats_is_a_numerical_failure() -> None:
    with pytest.raises(NumericalFailure, match="1000 nats"):
        _ = LossSum(1000.0, 1).perplexity
