"""`M+absorb` and `M+tune`: the baseline's choice, and exactly the refit or plain fine-tuning after it."""

from pathlib import Path

import pytest
import torch

from tests.trsp_core.works import work_of
from trsp_core.absorb import absorb
from trsp_core.decoder import switched_off
from trsp_core.errors import Cancelled
from trsp_core.method_options import Afterwards, TrspOptions
from trsp_core.methods.base import Work
from trsp_core.registry import METHODS
from trsp_core.stage2 import learning_rate, rows_of_step


def weights(work: Work) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in work.decoder.model.named_parameters()}


@pytest.mark.parametrize("after", ["absorb", "tune"])
def test_it_chooses_as_the_baseline_does(tmp_path: Path, after: str) -> None:
    alone, baseline = work_of(tmp_path / "alone", "shortgpt", count=3)
    work, method = work_of(tmp_path / "followed", f"shortgpt+{after}", count=3)
    plan, chosen = method.plan(work), baseline.plan(alone)
    assert (plan.order, plan.rounds) == (chosen.order, chosen.rounds)
    assert plan.method == f"shortgpt+{after}"


def test_what_follows_has_to_say_what_it_is_in_terms_of_stage_2() -> None:
    with pytest.raises(TypeError, match="stage2"):
        type("Silent", (Afterwards,), {})()
    for entry in METHODS.values():
        assert entry.followed == issubclass(entry.options, Afterwards)


def test_absorb_is_the_refit_alone(tmp_path: Path) -> None:
    work, method = work_of(tmp_path / "one", "sleb+absorb", ridge=0.1, own_text=0.0)
    plan = method.plan(work)
    transfer = method.transfer(work, plan)
    other, _ = work_of(tmp_path / "other", "sleb")
    refits = absorb(other.decoder, other.windows, plan.removed, ridge=0.1, passes=other.passes)
    assert transfer.refits == refits
    assert transfer.records == ()
    assert method.transfer_steps(work, plan) == len(refits)
    for name, value in weights(other).items():
        torch.testing.assert_close(work.decoder.model.get_parameter(name), value, rtol=0, atol=0)
    assert work.tokens.gradient == 0


def test_tune_is_plain_fine_tuning_of_what_is_left(tmp_path: Path) -> None:
    steps = 3
    work, method = work_of(tmp_path / "one", "last+tune", trainable="full", learning_rate=1e-3)
    plan = method.plan(work)
    transfer = method.transfer(work, plan)
    by_hand, _ = work_of(tmp_path / "other", "last")
    model = by_hand.decoder.model
    kept = [
        weight
        for name, weight in model.named_parameters()
        if "embed" not in name and not any(f"layers.{gone}." in name for gone in plan.removed)
    ]
    optimizer = torch.optim.AdamW(kept, betas=(0.9, 0.95), weight_decay=0.0)
    batch = TrspOptions().batch_sequences
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, 1e-3)
        ids = by_hand.windows[rows_of_step(step, batch, len(by_hand.windows), by_hand.seed)]
        optimizer.zero_grad()
        with switched_off(by_hand.decoder, plan.removed):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(kept, 1.0)
        optimizer.step()
        assert transfer.records[step].loss == pytest.approx(loss.item(), abs=1e-4)
    for name, value in weights(by_hand).items():
        torch.testing.assert_close(work.decoder.model.get_parameter(name), value, rtol=0, atol=2e-4)
    assert transfer.refits == ()
    assert work.tokens.gradient == steps * batch * work.windows.shape[1]


@pytest.mark.parametrize("trainable", ["lora", "full"])
def test_tune_goes_on_from_its_checkpoint(tmp_path: Path, trainable: str) -> None:
    options = {"trainable": trainable, "checkpoint_every": 1}
    whole, method = work_of(tmp_path / "whole", "last+tune", **options)
    plan = method.plan(whole)
    records = method.transfer(whole, plan).records
    asked = iter([False, False, True])
    stopped, method = work_of(tmp_path / "stopped", "last+tune", should_stop=lambda: next(asked), **options)
    with pytest.raises(Cancelled):
        method.transfer(stopped, plan)
    again, method = work_of(tmp_path / "stopped", "last+tune", **options)
    assert again.workspace.load_tensors("stage2") is not None
    assert method.transfer(again, plan).records == records
    for name, value in weights(whole).items():
        torch.testing.assert_close(again.decoder.model.get_parameter(name), value, rtol=0, atol=0)
