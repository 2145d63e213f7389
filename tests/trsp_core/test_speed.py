"""The speed protocol, on a clock that each layer moves by a known time."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from tests.trsp_core.tiny_lms import tiny_lm
from trsp_core.config import SpeedOptions
from trsp_core.errors import Cancelled
from trsp_core.evaluation import speed
from trsp_core.evaluation.speed import measure_speed
from trsp_core.results import SpeedResult

OPTIONS = SpeedOptions(prompt_tokens=20, batch=2, generation_prompt=5, new_tokens=4, repeats=4, warmup=1)


class Clock:
    """Stands still but for what the models' parts add."""

    def __init__(self) -> None:
        self.now = 0.0

    def costs(self, module: nn.Module, seconds: Callable[[], float]) -> None:
        def tick(_module: nn.Module, args: object, output: object) -> None:
            self.now += seconds()

        module.register_forward_hook(tick)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    result = Clock()
    monkeypatch.setattr(speed.time, "perf_counter", lambda: result.now)
    return result


def _pair(clock: Clock, *, head: float = 1.0) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return a dense model of three layers of a second each, and one that lacks the middle one."""
    dense, pruned = tiny_lm("llama"), tiny_lm("llama")
    del pruned.model.layers[1]
    pruned.model.layers[1].self_attn.layer_idx = 1
    pruned.config.num_hidden_layers = 2
    for model in (dense, pruned):
        clock.costs(model.lm_head, lambda: head)
        for layer in model.model.layers:
            clock.costs(layer.mlp, lambda: 1.0)
    return dense, pruned


def _measure(
    dense: PreTrainedModel, pruned: PreTrainedModel, options: SpeedOptions = OPTIONS
) -> dict[str, SpeedResult]:
    layers = list(dense.model.layers)
    return measure_speed(dense, pruned, options, layer_modules=layers, removed=[1], seed=0)


def test_figures_ratio_and_ceiling(clock: Clock) -> None:
    found = _measure(*_pair(clock))
    prompt, generation = found["prompt"], found["generation"]
    assert (prompt.dense, prompt.pruned, prompt.unit) == (4000.0, 3000.0, "ms")
    assert (generation.dense, generation.pruned) == (8 / 16, 8 / 12)
    for result in found.values():
        assert result.ratio == pytest.approx(4 / 3)
        assert result.ceiling == pytest.approx(4 / 3)
        assert result.spread == pytest.approx((4 / 3, 4 / 3))
        assert not result.above_ceiling
        assert result.repeats == 4
    assert prompt.sizes == {"batch": 1, "prompt_tokens": 20}
    assert generation.sizes == {"batch": 2, "prompt_tokens": 5, "new_tokens": 4}


def test_a_ratio_that_cannot_be_is_flagged(clock: Clock) -> None:
    dense, pruned = _pair(clock)
    clock.costs(dense.model.embed_tokens, lambda: 6.0)
    assert all(result.above_ceiling for result in _measure(dense, pruned).values())


def test_median_and_spread_come_from_neighbouring_runs(clock: Clock) -> None:
    dense, pruned = _pair(clock)
    delays = itertools.chain([100.0], [0.0, 2.0, 4.0, 6.0], itertools.repeat(0.0))
    clock.costs(dense.model.embed_tokens, lambda: next(delays))
    prompt = _measure(dense, pruned)["prompt"]
    assert prompt.dense == 7000.0
    assert prompt.ratio == pytest.approx(7 / 3)
    assert prompt.spread == pytest.approx((5.5 / 3, 8.5 / 3))


def test_who_goes_first_alternates(clock: Clock) -> None:
    dense, pruned = _pair(clock)
    order: list[str] = []
    dense.register_forward_pre_hook(lambda module, args: order.append("d"))
    pruned.register_forward_pre_hook(lambda module, args: order.append("p"))
    _measure(dense, pruned)
    assert "".join(order[:10]) == "dppddppddp"


def test_sizes_are_cut_to_the_model_s_positions(clock: Clock) -> None:
    long = SpeedOptions(prompt_tokens=500, batch=1, generation_prompt=60, new_tokens=60, repeats=3, warmup=0)
    found = _measure(*_pair(clock), long)
    assert found["prompt"].sizes["prompt_tokens"] == 64
    assert found["generation"].sizes == {"batch": 1, "prompt_tokens": 32, "new_tokens": 32}


def test_end_of_text_does_not_end_generation(clock: Clock) -> None:
    dense, pruned = _pair(clock)
    for model in (dense, pruned):
        with torch.no_grad():
            model.lm_head.weight.zero_()
        model.generation_config.eos_token_id = 0
    assert _measure(dense, pruned)["generation"].dense == 8 / 16


def test_mode_hooks_and_steps(clock: Clock) -> None:
    dense, pruned = _pair(clock)
    dense.train()
    hooks = [len(layer._forward_hooks) for layer in dense.model.layers]
    steps: list[tuple[int, int]] = []
    measure_speed(
        dense,
        pruned,
        OPTIONS,
        layer_modules=list(dense.model.layers),
        removed=[1],
        seed=0,
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert dense.training
    assert [len(layer._forward_hooks) for layer in dense.model.layers] == hooks
    assert steps == [(done, 16) for done in range(1, 17)]


def test_stops_between_runs(clock: Clock) -> None:
    dense, pruned = _pair(clock)
    with pytest.raises(Cancelled):
        measure_speed(
            dense,
            pruned,
            OPTIONS,
            layer_modules=list(dense.model.layers),
            removed=[1],
            seed=0,
            should_stop=lambda: True,
        )


def test_on_the_real_clock() -> None:
    model = tiny_lm("opt")
    layers = list(model.model.decoder.layers)
    found = measure_speed(model, model, OPTIONS, layer_modules=layers, removed=[0, 2], seed=0)
    for result in found.values():
        assert result.dense > 0
        assert 1 < result.ceiling < 30


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_events_on_cuda() -> None:
    dense, pruned = tiny_lm("llama").cuda(), tiny_lm("llama").cuda()
    del pruned.model.layers[2]
    pruned.config.num_hidden_layers = 2
    layers = list(dense.model.layers)
    found = measure_speed(dense, pruned, OPTIONS, layer_modules=layers, removed=[2], seed=0)
    for result in found.values():
        assert result.ratio > 1
        assert 1 < result.ceiling < 3
