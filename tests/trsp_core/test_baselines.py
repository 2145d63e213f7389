"""The baselines against values computed by hand on a tiny model."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trsp_core.learned import LAYERS, learned_lm, make_identity
from tests.trsp_core.works import work_of
from trsp_core import registry
from trsp_core.budget import Passes
from trsp_core.decoder import switched_off
from trsp_core.evaluation.losses import mean_loss
from trsp_core.methods.base import TokenCount, Work

INNER = range(1, LAYERS - 1)


def loss_without(work: Work, *layers: int) -> float:
    with torch.inference_mode(), switched_off(work.decoder, layers):
        return mean_loss(work.decoder.model, work.windows).item()


def test_shortgpt_by_hand(tmp_path: Path) -> None:
    work, method = work_of(tmp_path, "shortgpt")
    captured: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for index, layer in enumerate(work.decoder.layers):
        layer.register_forward_hook(
            lambda _m, args, out, index=index: captured.__setitem__(index, (args[0], out))
        )
    with torch.inference_mode():
        work.decoder.model(input_ids=work.windows)
    by_hand = {}
    for index, (before, after) in captured.items():
        dot = (before * after).sum(-1)
        by_hand[index] = (1 - dot / before.norm(dim=-1) / after.norm(dim=-1)).mean().item()
    scores = method.plan(work).rounds[0].scores
    assert scores == pytest.approx({layer: by_hand[layer] for layer in INNER}, abs=1e-5)


def test_sleb_by_hand(tmp_path: Path) -> None:
    work, method = work_of(tmp_path, "sleb", count=3)
    plan = method.plan(work)
    gone: list[int] = []
    for item in plan.rounds:
        tried = {layer: loss_without(work, *gone, layer) for layer in INNER if layer not in gone}
        assert item.scores == pytest.approx(tried, abs=1e-5)
        assert item.layer == min(tried, key=lambda layer: tried[layer])
        assert item.loss == item.scores[item.layer]
        gone.append(item.layer)
    assert plan.order == tuple(gone)
    assert plan.dense_loss == pytest.approx(loss_without(work), abs=1e-5)


def test_sleb_counts_the_passes_through_the_layers(tmp_path: Path) -> None:
    work, method = work_of(tmp_path, "sleb", count=1)
    method.plan(work)
    before, after = 4, 4 + 3 + 2 + 1
    dense = work.windows.numel()
    assert work.tokens.forward == dense + dense * (before + after) // LAYERS
    assert work.tokens.gradient == 0


@pytest.mark.parametrize("place", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "name", ["shortgpt", "sleb", "angular", "shortened-ppl", "shortened-taylor", "magnitude"]
)
def test_a_layer_that_does_nothing_goes_first(tmp_path: Path, name: str, place: int) -> None:
    model = learned_lm()
    make_identity(model, place)
    with torch.no_grad():
        for weight in model.model.layers[place].parameters():
            weight.mul_(0.1)
    work, method = work_of(tmp_path, name, count=1, model=model)
    assert method.plan(work).order == (place,)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_angular_by_hand(tmp_path: Path, count: int) -> None:
    work, method = work_of(tmp_path, "angular", count=count)
    with torch.inference_mode():
        states = work.decoder.model(input_ids=work.windows, output_hidden_states=True).hidden_states
    last = [state[:, -1] for state in states]
    distances = {}
    for first in range(1, LAYERS - count):
        cosines = [
            float(one @ other / one.norm() / other.norm())
            for one, other in zip(last[first], last[first + count], strict=True)
        ]
        angles = [math.acos(cosine) / math.pi for cosine in cosines]
        distances[first] = sum(angles) / len(angles)
    best = min(distances, key=lambda first: distances[first])
    plan = method.plan(work)
    assert plan.order == tuple(range(best, best + count))
    assert plan.rounds[0].scores[best] == pytest.approx(distances[best], abs=1e-4)
    assert work.tokens.forward == work.windows.numel()


def test_angular_may_take_any_layer_unless_told_otherwise(tmp_path: Path) -> None:
    work, method = work_of(tmp_path, "angular", count=5, protect_first=0, protect_last=0)
    assert method.plan(work).order in ((0, 1, 2, 3, 4), (1, 2, 3, 4, 5))


def test_shortened_ppl_by_hand(tmp_path: Path) -> None:
    work, method = work_of(tmp_path, "shortened-ppl", count=2)
    alone = {layer: loss_without(work, layer) for layer in INNER}
    plan = method.plan(work)
    assert plan.rounds[0].scores == pytest.approx(alone, abs=1e-5)
    assert plan.order == tuple(sorted(alone, key=lambda layer: alone[layer])[:2])


def test_magnitude_by_hand(tmp_path: Path) -> None:
    work, method = work_of(tmp_path, "magnitude", count=2)
    plan = method.plan(work)
    by_hand = {}
    for layer in INNER:
        block = work.decoder.layers[layer]
        linear = [
            *block.self_attn.children(),
            *(getattr(block.mlp, f"{name}_proj") for name in ("gate", "up", "down")),
        ]
        by_hand[layer] = sum(part.weight.abs().sum().item() for part in linear)
    assert plan.rounds[0].scores == pytest.approx(by_hand, rel=1e-5)
    assert work.tokens == TokenCount()


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_shortened_taylor_by_hand(tmp_path: Path, rows: int, checkpointed: bool) -> None:
    work, method = work_of(tmp_path, "shortened-taylor", count=2)
    model = work.decoder.model
    model(input_ids=work.windows, labels=work.windows).loss.backward()
    by_hand = {}
    for layer in INNER:
        named = work.decoder.layers[layer].named_parameters()
        by_hand[layer] = sum(
            (weight * weight.grad).abs().sum().item() for name, weight in named if "proj" in name
        )
    model.zero_grad()
    plan = method.plan(replace(work, passes=Passes(rows, rows, checkpointed)))
    assert plan.rounds[0].scores == pytest.approx(by_hand, rel=1e-3)
    assert work.tokens == TokenCount(forward=work.windows.numel(), gradient=work.windows.numel())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_the_protocol_of_shortened_llama_protects_four_and_two() -> None:
    for name, ends in (("shortened-taylor", (4, 2)), ("magnitude", (4, 2)), ("shortened-ppl", (0, 0))):
        options = registry.METHODS[name].options()
        assert (options.protect_first, options.protect_last) == ends


@pytest.mark.parametrize("family", ["gpt2", "opt", "phi"])
@pytest.mark.parametrize("name", ["angular", "sleb", "shortened-taylor", "magnitude", "laco+tune"])
def test_other_families_are_chosen_from(tmp_path: Path, name: str, family: str) -> None:
    work, method = work_of(tmp_path, name, count=2, model=learned_lm(family))
    plan = method.plan(work)
    assert len(plan.order) == 2
    assert method.transfer(work, plan).changed <= {key for key, _ in work.decoder.model.named_parameters()}
    assert all(value > 0 for item in plan.rounds for value in item.scores.values())
