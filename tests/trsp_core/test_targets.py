import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.trsp_core.learned import LAYERS
from tests.trsp_core.works import work_of
from trsp_core.config import CompressionSpec, Target
from trsp_core.errors import Cancelled, TargetOutOfReach
from trsp_core.methods.base import Work
from trsp_core.pipeline import compress, make_plan
from trsp_core.results import ChoiceRound, PruningPlan
from trsp_core.sources import SourcePolicy
from trsp_core.targets import aimed, kept, layers_for_speedup, layers_within, most_speed, ratio_after

losses = st.lists(st.floats(0.0, 20.0), min_size=1, max_size=12)
ratios = st.floats(1.001, 1e6)


def plan_with(dense: float, after: list[float]) -> PruningPlan:
    rounds = tuple(ChoiceRound(layer, {layer: loss}, loss=loss) for layer, loss in enumerate(after))
    return PruningPlan("sleb", len(after) + 1, tuple(range(len(after))), rounds, dense)


@given(st.floats(0.0, 5.0), losses, ratios)
def test_every_layer_kept_is_within_the_ratio_and_the_next_is_not(
    dense: float, after: list[float], ratio: float
) -> None:
    plan = plan_with(dense, after)
    count = layers_within(plan, ratio)
    assert all(ratio_after(plan, place) <= ratio * (1 + 1e-8) for place in range(1, count + 1))
    assert count == len(after) or ratio_after(plan, count + 1) > ratio


@given(st.floats(0.0, 5.0), losses, ratios, ratios)
def test_a_looser_ratio_never_keeps_fewer(dense: float, after: list[float], one: float, other: float) -> None:
    plan = plan_with(dense, after)
    assert layers_within(plan, min(one, other)) <= layers_within(plan, max(one, other))


@given(st.floats(1.001, 30), st.floats(0.05, 0.999), st.integers(1, 100))
def test_the_fewest_layers_that_allow_the_speed(speedup: float, share: float, layers: int) -> None:
    count = layers_for_speedup(speedup, share=share, layers=layers)
    if count <= layers:
        assert most_speed(count, share=share, layers=layers) >= speedup * (1 - 1e-6)
    if count > 1:
        assert count > layers + 1 or most_speed(count - 1, share=share, layers=layers) < speedup


@given(st.floats(1.001, 30), st.floats(1.001, 30), st.floats(0.05, 0.999))
def test_more_speed_never_takes_fewer_layers(one: float, other: float, share: float) -> None:
    slower, faster = sorted((one, other))
    fewer = layers_for_speedup(slower, share=share, layers=30)
    assert fewer <= layers_for_speedup(faster, share=share, layers=30)


@pytest.mark.parametrize("name", ["trsp", "sleb"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_ratio_on_the_curve_is_reached_exactly(tmp_path: Path, name: str, count: int) -> None:
    work, method = work_of(tmp_path / "whole", name, count=4)
    whole = method.plan(work)
    ratio = max(ratio_after(whole, place) for place in range(1, count + 1))
    target = Target(max_perplexity_ratio=max(ratio, 1.0 + 1e-6))
    again, method = work_of(tmp_path / "aimed", name, count=4)
    plan = kept(method.plan(aimed(again, target)), target)
    assert plan == whole.prefix(layers_within(whole, ratio))
    assert len(plan.order) >= count


def test_the_choice_ends_with_the_first_layer_that_is_too_much(tmp_path: Path) -> None:
    work, method = work_of(tmp_path / "whole", "sleb", count=4)
    ratio = ratio_after(method.plan(work), 1)
    target = Target(max_perplexity_ratio=ratio * 1.0001)
    short, method = work_of(tmp_path / "short", "sleb", count=4)
    tried = method.plan(aimed(short, target))
    assert len(tried.order) == 2
    assert len(kept(tried, target).order) == 1
    assert short.tokens.forward < work.tokens.forward


def test_a_ratio_below_the_first_choice_says_the_smallest_that_can_be_had(tmp_path: Path) -> None:
    target = Target(max_perplexity_ratio=1.0 + 1e-9)
    work, method = work_of(tmp_path, "sleb", count=4)
    tried = method.plan(aimed(work, target))
    with pytest.raises(TargetOutOfReach, match="ask for that or more") as caught:
        kept(tried, target)
    found = re.search(r"to ([\d.]+) times", str(caught.value))
    assert found
    assert len(kept(tried, Target(max_perplexity_ratio=float(found[1]))).order) == 1


def share_of(monkeypatch: pytest.MonkeyPatch, share: float) -> list[float]:
    asked: list[float] = []

    def measured(*_: object, **__: object) -> float:
        asked.append(share)
        return share

    monkeypatch.setattr("trsp_core.targets.share_of_layers", measured)
    return asked


def test_a_speedup_becomes_a_number_of_layers_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, _ = work_of(tmp_path, "last", count=4)
    asked = share_of(monkeypatch, 0.9)
    target = Target(speedup=1.5)
    assert aimed(work, target).count == math.ceil(LAYERS / 3 / 0.9) == 3
    monkeypatch.undo()
    share_of(monkeypatch, 0.5)
    assert aimed(work, target).count == 3
    assert asked == [0.9]


def test_a_speedup_out_of_reach_says_what_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share_of(monkeypatch, 0.6)
    work, _ = work_of(tmp_path, "last", count=4)
    with pytest.raises(TargetOutOfReach, match="60% of a forward pass") as caught:
        aimed(work, Target(speedup=1.8))
    found = re.search(r"at most ([\d.]+) times", str(caught.value))
    assert found
    assert aimed(work, Target(speedup=float(found[1]))).count == 4


def test_the_share_is_really_measured(tmp_path: Path) -> None:
    work, _ = work_of(tmp_path, "last", count=4)
    assert 1 <= aimed(work, Target(speedup=1.01)).count <= 2
    saved = work.workspace.load("speed_target")
    assert saved is not None
    assert 0.1 < saved["share"] < 1
    fresh, _ = work_of(tmp_path / "stopped", "last")
    with pytest.raises(Cancelled):
        aimed(replace(fresh, should_stop=lambda: True), Target(speedup=1.01))


def test_other_targets_leave_the_work_as_it_is(tmp_path: Path) -> None:
    work, _ = work_of(tmp_path, "last")
    same: Work = aimed(work, Target(sparsity=0.5))
    assert same is work


def spec_of(model: Path, target: dict[str, float], method: str) -> CompressionSpec:
    text = model / "config.json"
    return CompressionSpec.from_dict(
        {
            "model": str(model),
            "target": target,
            "calibration": {"set": f"text:{text}", "sequences": 4, "sequence_length": 16},
            "method": method,
            "evaluation": {"perplexity": [f"text:{text}"], "windows": 2, "window_length": 16},
        }
    )


def test_a_job_reaches_its_ratio(
    tmp_path: Path, tiny_folder: Callable[[str], Path], policy: SourcePolicy
) -> None:
    model = tiny_folder("llama")
    whole = make_plan(
        spec_of(model, {"layers_to_remove": 4}, "sleb"), workdir=tmp_path / "all", policy=policy
    )[0]
    ratio = max(ratio_after(whole, place) for place in (1, 2)) + 1e-6
    within = layers_within(whole, max(ratio, 1.001))
    target = {"max_perplexity_ratio": max(ratio, 1.001)}
    plan = make_plan(spec_of(model, target, "sleb"), workdir=tmp_path / "aimed", policy=policy)[0]
    assert plan == whole.prefix(within)
    assert within >= 2


def test_a_job_out_of_reach_fails_by_name(
    tmp_path: Path, tiny_folder: Callable[[str], Path], policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_of(monkeypatch, 0.2)
    spec = spec_of(tiny_folder("llama"), {"speedup": 2.0}, "last")
    with pytest.raises(TargetOutOfReach):
        compress(spec, workdir=tmp_path / "out", policy=policy)
