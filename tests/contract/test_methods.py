"""Every registered method keeps the contract of `methods/base.py`; a new one is tested by being registered."""

from pathlib import Path

import pytest
import torch

from tests.trsp_core.learned import LAYERS, learned_lm, sequences
from trsp_core import registry
from trsp_core.budget import Passes
from trsp_core.config import CompressionSpec
from trsp_core.decoder import Decoder
from trsp_core.methods.base import Method, Work
from trsp_core.options import rules
from trsp_core.reporting import Reporter
from trsp_core.workspace import Workspace

NAMES = sorted(registry.METHODS)
QUICK = {"stage1_steps": 2, "stage2_steps": 3}


def work_of(folder: Path, name: str, *, count: int = 2, seed: int = 0) -> tuple[Work, Method]:
    entry = registry.METHODS[name]
    known = rules(entry.options)
    options = {key: value for key, value in QUICK.items() if key in known}
    spec = CompressionSpec.from_dict(
        {
            "model": "m",
            "target": {"layers_to_remove": count},
            "calibration": "python-docs",
            "method": {"name": name, **options},
        }
    )
    space = Workspace.open(folder, spec)
    reporter = Reporter(lambda _: None, space)
    reporter.begin("stage1", 1, "test")
    work = Work(
        decoder=Decoder(learned_lm()),
        windows=sequences(8, 16, seed=3),
        count=count,
        passes=Passes(4, 4, False),
        seed=seed,
        workspace=space,
        reporter=reporter,
        should_stop=lambda: False,
    )
    return work, registry.load(entry.target)(spec.method.options)


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


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_the_options_of_another(name: str) -> None:
    entry = registry.METHODS[name]
    other = next(item.options for item in registry.METHODS.values() if item.options is not entry.options)
    with pytest.raises(TypeError):
        registry.load(entry.target)(other())


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
    assert scores == pytest.approx({layer: by_hand[layer] for layer in range(1, LAYERS - 1)}, abs=1e-5)
