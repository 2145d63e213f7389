"""Every registered method keeps the contract of `methods/base.py`; a new one is tested by being registered."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trsp_core.learned import LAYERS
from tests.trsp_core.works import work_of
from trsp_core import registry
from trsp_core.errors import Cancelled
from trsp_core.methods.base import TokenCount

NAMES = sorted(registry.METHODS)
NESTED = [name for name in NAMES if registry.METHODS[name].nested]
MEASURED = [name for name in NAMES if registry.METHODS[name].measured]
BLIND = {"last", "random", "magnitude"}
"""Methods that do not read the text, so that nothing stands between their start and their end."""


@pytest.mark.parametrize("name", NAMES)
def test_it_chooses_as_many_unprotected_layers_as_asked(tmp_path: Path, name: str) -> None:
    work, method = work_of(tmp_path, name, count=3)
    before = {key: value.clone() for key, value in work.decoder.model.state_dict().items()}
    plan = method.plan(work)
    assert len(set(plan.order)) == 3
    assert set(plan.order) <= set(range(1, LAYERS - 1))
    assert len(plan.rounds) == 3
    assert [item.layer for item in plan.rounds] == list(plan.order)
    assert all(item.layer in item.scores for item in plan.rounds)
    assert plan.method == name
    assert all(torch.equal(value, before[key]) for key, value in work.decoder.model.state_dict().items())


@pytest.mark.parametrize("name", NESTED)
def test_its_order_is_nested(tmp_path: Path, name: str) -> None:
    plans = []
    for count in (1, 3):
        work, method = work_of(tmp_path / str(count), name, count=count)
        plans.append(method.plan(work))
    assert plans[1].order[:1] == plans[0].order


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_plan(tmp_path: Path, name: str) -> None:
    plans = []
    for place in ("one", "other"):
        work, method = work_of(tmp_path / place, name, seed=7)
        plans.append(method.plan(work))
    assert plans[0] == plans[1]


@pytest.mark.parametrize("name", NAMES)
def test_its_transfer_names_exactly_what_it_changes(tmp_path: Path, name: str) -> None:
    work, method = work_of(tmp_path, name)
    plan = method.plan(work)
    before = {key: value.clone() for key, value in work.decoder.model.named_parameters()}
    transfer = method.transfer(work, plan)
    changed = {
        key for key, value in work.decoder.model.named_parameters() if not torch.equal(value, before[key])
    }
    assert changed <= transfer.changed
    assert transfer.changed <= set(before)


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_order_goes_on_from_its_checkpoint_and_ends_when_it_is_enough(
    tmp_path: Path, name: str
) -> None:
    work, method = work_of(tmp_path / "whole", name, count=3)
    whole = method.plan(work)
    assert whole.dense_loss is not None
    assert all(item.loss is not None for item in whole.rounds)
    early, method = work_of(tmp_path / "early", name, count=3)
    first = method.plan(replace(early, enough=lambda plan: len(plan.order) == 1))
    assert first == whole.prefix(1)
    again = replace(early, tokens=TokenCount())
    assert method.plan(again) == whole
    assert again.tokens == work.tokens


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_choice_is_told_with_its_loss(tmp_path: Path, name: str) -> None:
    work, method = work_of(tmp_path, name)
    plan = method.plan(work)
    told = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    goes = [item for item in told if " goes: " in item["message"]]
    for place, (item, choice) in enumerate(zip(goes, plan.rounds, strict=True), start=1):
        assert (item["step"], item["chosen"]) == (place, list(plan.order[:place]))
        assert item["message"].startswith(f"layer {choice.layer} goes: the loss is then {choice.loss:.3f}")
        assert item["metrics"] == {"loss": choice.loss}
        assert item["layers"] == {str(layer): score for layer, score in choice.scores.items()}


@pytest.mark.parametrize("name", [name for name in NAMES if name.partition("+")[0] not in BLIND])
def test_its_choice_can_be_stopped(tmp_path: Path, name: str) -> None:
    work, method = work_of(tmp_path, name, should_stop=lambda: True)
    with pytest.raises(Cancelled):
        method.plan(work)


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_the_options_of_another(name: str) -> None:
    entry = registry.METHODS[name]
    other = next(item.options for item in registry.METHODS.values() if item.options is not entry.options)
    with pytest.raises(TypeError):
        registry.create(name, other())
