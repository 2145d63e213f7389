"""LaCo against the paper's formula and a sweep by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.trsp_core.learned import LAYERS
from tests.trsp_core.works import work_of
from trsp_core.decoder import switched_off
from trsp_core.errors import Cancelled, InvalidSpec
from trsp_core.merging import Merge, merge, merges_of
from trsp_core.methods.base import Work
from trsp_core.results import PruningPlan

LINEAR = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MAPS = (*LINEAR, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def maps(work: Work) -> dict[tuple[int, str], torch.Tensor]:
    layers = enumerate(work.decoder.layers)
    return {
        (place, name): layer.get_submodule(name).weight.clone() for place, layer in layers for name in MAPS
    }


def states(work: Work, *gone: int) -> torch.Tensor:
    with torch.inference_mode(), switched_off(work.decoder, gone):
        return work.decoder.model(input_ids=work.windows, output_hidden_states=True).hidden_states[-1]


def similarity(work: Work, base: int, gone: tuple[int, ...]) -> float:
    """Return the similarity of one merge into the dense model, which is left as it was."""
    dense, before = states(work), maps(work)
    with torch.no_grad():
        for name in MAPS:
            weight = work.decoder.layers[base].get_submodule(name).weight
            weight.copy_(before[base, name] + sum(before[layer, name] - before[base, name] for layer in gone))
        merged = states(work, *gone)
        for name in MAPS:
            work.decoder.layers[base].get_submodule(name).weight.copy_(before[base, name])
    cosines = [
        functional.cosine_similarity(one.flatten(), other.flatten(), dim=0).item()
        for one, other in zip(dense, merged, strict=True)
    ]
    return sum(cosines) / len(cosines)


def test_a_merge_adds_the_differences(tmp_path: Path) -> None:
    work, _ = work_of(tmp_path, "laco")
    before = maps(work)
    merge(work.decoder, 1, (2, 3))
    for (layer, name), value in maps(work).items():
        wanted = before[layer, name]
        if layer == 1:
            wanted = before[2, name] + before[3, name] - before[1, name]
        torch.testing.assert_close(value, wanted)


def test_a_sweep_by_hand(tmp_path: Path) -> None:
    """With no threshold the first merge takes 3 and 4 into 2, since 5 is protected; the next begins at 0."""
    work, method = work_of(tmp_path, "laco", count=3, threshold=-1.0)
    plan = method.plan(work)
    first, second = merges_of(plan)
    assert (first.base, first.gone) == (2, (3, 4))
    assert (second.base, second.gone) == (0, (1,))
    assert first.similarity == pytest.approx(similarity(work, 2, (3, 4)), abs=1e-5)
    assert plan.order == (3, 4, 1)


def test_the_threshold_falls_to_the_best_that_was_refused(tmp_path: Path) -> None:
    work, method = work_of(tmp_path, "laco", count=1, merge_layers=2, threshold=1.0)
    by_hand = {base: similarity(work, base, (base + 1,)) for base in range(LAYERS - 2)}
    assert max(by_hand.values()) < 1
    (made,) = merges_of(method.plan(work))
    assert made.base == max(by_hand, key=lambda base: by_hand[base])


def test_a_lower_threshold_takes_the_first_merge_from_the_top(tmp_path: Path) -> None:
    work, method = work_of(tmp_path, "laco", count=1, merge_layers=2, threshold=-1.0)
    assert method.plan(work).order == (4,)


def test_the_transfer_merges_what_was_merged_before(tmp_path: Path) -> None:
    """4 goes into 3, then 3 goes into 2 with what it holds of 4: w2 + (w3 + (w4 - w3) - w2) = w4."""
    work, method = work_of(tmp_path, "laco")
    made = (Merge(3, (4,), 0.9), Merge(2, (3,), 0.8))
    rounds = tuple(item for one in made for item in one.rounds())
    plan = PruningPlan("laco", LAYERS, (4, 3), rounds)
    again = PruningPlan.from_dict(plan.to_dict())
    assert [(item.base, item.gone) for item in merges_of(again)] == [(3, (4,)), (2, (3,))]
    before = maps(work)
    transfer = method.transfer(work, again)
    for name in MAPS:
        torch.testing.assert_close(maps(work)[2, name], before[4, name])
        assert f"model.layers.2.{name}.weight" in transfer.changed
    assert len(transfer.changed) == 2 * len(MAPS)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("threshold", [-1.0, 0.65, 1.0])
def test_the_count_is_met_whatever_the_threshold(tmp_path: Path, count: int, threshold: float) -> None:
    work, method = work_of(tmp_path, "laco", count=count, threshold=threshold)
    assert len(method.plan(work).order) == count


def test_it_goes_on_after_a_merge_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    options = {"count": 4, "merge_layers": 2, "threshold": 1.0}
    whole, method = work_of(tmp_path / "whole", "laco", **options)
    plan = method.plan(whole)
    stopped, method = work_of(tmp_path / "stopped", "laco", **options)
    before = maps(stopped)
    merged_twice = lambda: len((stopped.workspace.load("stage1") or {"merges": ()})["merges"]) == 2  # noqa: E731
    with pytest.raises(Cancelled):
        method.plan(replace(stopped, should_stop=merged_twice))
    assert all(torch.equal(value, before[key]) for key, value in maps(stopped).items())
    assert method.plan(stopped) == plan


def test_the_first_layer_has_nothing_to_merge_into(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="at least 1"):
        work_of(tmp_path, "laco", protect_first=0)


def test_layers_of_which_no_two_are_alike_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trsp_core.methods.laco.are_alike", lambda *_: False)
    work, method = work_of(tmp_path, "laco")
    with pytest.raises(InvalidSpec, match="no layer of this llama has one of its kind before it"):
        method.plan(work)
