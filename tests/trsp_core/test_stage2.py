import json
import math
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor
from transformers import PreTrainedModel

from tests.trsp_core.learned import LAYERS, learned_lm, sequences
from trsp_core.budget import Passes
from trsp_core.decoder import Decoder, switched_off
from trsp_core.errors import Cancelled, NumericalFailure
from trsp_core.evaluation.losses import mean_loss
from trsp_core.identity_gap import gaps_of, identity_gap
from trsp_core.method_options import TrspOptions
from trsp_core.results import StepRecord
from trsp_core.stage2 import (
    Snapshot,
    learning_rate,
    reading_of_step,
    residual_factors,
    rows_of_step,
    transfer,
)
from trsp_core.teacher import teacher_states
from trsp_core.text import Text
from trsp_core.trainable import changed_names

PASSES = Passes(forward_rows=4, gradient_rows=2, checkpointed=False)
REMOVED = (2, 3)
WINDOWS = sequences(16, 16, seed=3)
TEXT = Text.of(WINDOWS)


def run(model: PreTrainedModel, tmp_path: Path, **options: object) -> tuple[StepRecord, ...]:
    chosen = TrspOptions(**{"stage2_steps": 20, "batch_sequences": 4, "learning_rate": 3e-3, **options})
    decoder = Decoder(model)
    teacher = None
    if chosen.objective != "lm":
        teacher = teacher_states(decoder, WINDOWS, path=tmp_path / "teacher.bin", passes=PASSES)
    return transfer(decoder, TEXT, REMOVED, chosen, passes=PASSES, teacher=teacher, seed=0)


def loss_without(model: PreTrainedModel) -> float:
    with torch.inference_mode(), switched_off(Decoder(model), REMOVED):
        return mean_loss(model, WINDOWS).item()


def gap(model: PreTrainedModel) -> float:
    found = gaps_of(Decoder(model), WINDOWS, REMOVED, norm="l2", normalize=True, passes=PASSES)
    return sum(found.values()) / len(found)


def test_the_identity_gap_falls_under_the_penalty_and_not_without_it(tmp_path: Path) -> None:
    with_penalty, without = learned_lm(), learned_lm()
    start = gap(with_penalty)
    run(with_penalty, tmp_path, schedule="penalty", objective="lm", lambda2=1.0)
    run(without, tmp_path, schedule="penalty", objective="lm", lambda2=0.0)
    assert gap(with_penalty) < 0.6 * start
    assert gap(without) > 0.9 * start


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_gap_by_hand(norm: str, normalize: bool) -> None:
    before = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])
    after = torch.tensor([[[3.0, 4.0], [3.0, 6.0]]])
    changes = {"l1": 7.0, "l2": 5.0}
    expected = changes[norm] / (2.0 if normalize else 1.0) / 2
    assert identity_gap(before, after, norm=norm, normalize=normalize).item() == pytest.approx(expected)


@pytest.mark.parametrize("order", ["together", "one_by_one"])
def test_anneal_ends_where_removal_changes_nothing(order: str) -> None:
    model = learned_lm()
    decoder = Decoder(model)
    final: list[Tensor] = []
    options = TrspOptions(
        stage2_steps=10, schedule="anneal", anneal_order=order, objective="lm", learning_rate=1e-3
    )
    seen: list[StepRecord] = []

    def watch(record: StepRecord) -> None:
        seen.append(record)

    transfer(decoder, TEXT, REMOVED, options, passes=PASSES, teacher=None, seed=0, on_step=watch)
    assert seen[-1].identity_gap == 0.0
    assert seen[0].identity_gap > 0.0
    from trsp_core.gates import gated

    factor = torch.tensor(residual_factors(9, 10, 2, one_by_one=order == "one_by_one"))
    ids = WINDOWS[:2]
    with torch.inference_mode():
        with gated(decoder, factor, REMOVED, kind="residual"):
            final.append(model(input_ids=ids).logits)
        with switched_off(decoder, REMOVED):
            final.append(model(input_ids=ids).logits)
    assert (final[0] - final[1]).abs().max() <= 1e-4


@pytest.mark.parametrize("objective", ["lm", "distill", "distill+lm"])
@pytest.mark.parametrize("trainable", ["full", "lora", "norms+down"])
def test_every_objective_mends_the_pruned_model(tmp_path: Path, objective: str, trainable: str) -> None:
    model = learned_lm()
    before = loss_without(model)
    records = run(model, tmp_path, schedule="removed", objective=objective, trainable=trainable)
    assert loss_without(model) < before
    assert (records[0].lm is None) == (objective == "distill")
    assert (records[0].distill is None) == (objective == "lm")


@pytest.mark.parametrize("schedule", ["removed", "penalty"])
@pytest.mark.parametrize("trainable", ["full", "lora", "norms+down"])
def test_exactly_the_named_weights_change(tmp_path: Path, trainable: str, schedule: str) -> None:
    model = learned_lm("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(model, tmp_path, trainable=trainable, schedule=schedule, objective="lm")
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    gone = REMOVED if schedule == "removed" else ()
    assert changed == changed_names(Decoder(model), TrspOptions(trainable=trainable), gone)
    assert not any("embed" in name or "lm_head" in name for name in changed)


@pytest.mark.parametrize("trainable", ["full", "lora", "norms+down"])
@pytest.mark.parametrize("schedule", ["removed", "penalty", "anneal"])
def test_it_goes_on_from_a_checkpoint_with_the_same_weights(
    tmp_path: Path, trainable: str, schedule: str
) -> None:
    options = TrspOptions(
        stage2_steps=6, checkpoint_every=2, trainable=trainable, schedule=schedule, objective="lm"
    )
    snapshots: list[tuple[list[dict[str, object]], dict[str, Tensor]]] = []

    def keep(snapshot: Snapshot) -> None:
        tensors = {name: value.clone() for name, value in snapshot.tensors().items()}
        snapshots.append((json.loads(json.dumps(snapshot.records_as_dicts())), tensors))

    whole = learned_lm()
    records = transfer(
        Decoder(whole), TEXT, REMOVED, options, passes=PASSES, teacher=None, seed=0, on_checkpoint=keep
    )
    assert [len(saved) for saved, _ in snapshots] == [2, 4, 6]
    for saved, tensors in snapshots:
        again = learned_lm()
        resume = Snapshot.of(len(saved), saved, tensors)
        repeated = transfer(
            Decoder(again), TEXT, REMOVED, options, passes=PASSES, teacher=None, seed=0, resume=resume
        )
        assert repeated == records
        for left, right in zip(whole.parameters(), again.parameters(), strict=True):
            assert torch.equal(left, right)


@given(st.integers(0, 40), st.integers(1, 8), st.integers(1, 16), st.integers(0, 5))
def test_rows_go_round_the_whole_text_before_any_repeats(
    step: int, batch: int, total: int, seed: int
) -> None:
    rows = [row for at in range(step + 1) for row in rows_of_step(at, batch, total, seed)]
    for epoch in range(len(rows) // total):
        assert sorted(rows[epoch * total : (epoch + 1) * total]) == list(range(total))


@given(
    st.integers(1, 60),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 0.9, allow_subnormal=False),
)
def test_each_kind_of_text_is_read_in_its_own_order(
    steps: int, batch: int, given_rows: int, own_rows: int, share: float
) -> None:
    readings = [reading_of_step(at, batch, given_rows, own_rows, share=share, seed=1) for at in range(steps)]
    own = [reading for reading in readings if reading.own]
    assert len(own) == math.floor(steps * share + 1e-9)
    for rows, offset, kind in ((given_rows, 0, False), (own_rows, given_rows, True)):
        read = [row - offset for reading in readings if reading.own is kind for row in reading.rows]
        wanted = [row for at in range(len(read) // batch) for row in rows_of_step(at, batch, rows, 1)]
        assert read == wanted


def test_without_own_text_every_step_reads_the_calibration_text() -> None:
    assert not any(reading_of_step(at, 1, 4, 0, share=0.5, seed=0).own for at in range(8))


def test_steps_on_own_text_are_only_distilled(tmp_path: Path) -> None:
    decoder, text = Decoder(learned_lm()), Text(WINDOWS, sequences(4, 16, seed=9))
    teacher = teacher_states(decoder, text.everything, path=tmp_path / "teacher.bin", passes=PASSES)
    options = TrspOptions(stage2_steps=8, own_text=0.5)
    records = transfer(decoder, text, REMOVED, options, passes=PASSES, teacher=teacher, seed=0)
    assert [record.lm is None for record in records] == [False, False, False, True] * 2
    assert all(record.distill is not None for record in records)


@pytest.mark.parametrize(
    ("sequences", "batch", "wanted"), [(128, 1, 128), (4, 1, 12), (30, 1, 40), (200, 4, 50)]
)
def test_the_steps_follow_from_the_text(sequences: int, batch: int, wanted: int) -> None:
    assert TrspOptions(batch_sequences=batch).steps_for(sequences) == wanted
    assert TrspOptions(batch_sequences=batch, stage2_steps=7).steps_for(sequences) == 7


@given(st.integers(1, 300))
def test_the_rate_rises_to_its_peak_and_falls(steps: int) -> None:
    rates = [learning_rate(step, steps, 1.0) for step in range(steps)]
    assert max(rates) <= 1.0 + 1e-12
    assert min(rates) > 0
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@given(st.integers(1, 300), st.integers(1, 12), st.booleans())
def test_the_factors_fall_to_nothing_before_the_end(steps: int, layers: int, one_by_one: bool) -> None:
    rows = [residual_factors(step, steps, layers, one_by_one=one_by_one) for step in range(steps)]
    for factors in zip(*rows, strict=True):
        assert list(factors) == sorted(factors, reverse=True)
        assert factors[-1] == 0.0
        assert all(0 <= factor <= 1 for factor in factors)
    for factors in rows:
        assert list(factors) == sorted(factors)
        assert sum(0 < factor < 1 for factor in factors) <= (1 if one_by_one else layers)


def test_the_teacher_is_computed_once_and_is_the_dense_model(tmp_path: Path) -> None:
    model = learned_lm()
    decoder = Decoder(model)
    path = tmp_path / "teacher.bin"
    first = teacher_states(decoder, WINDOWS, path=path, passes=PASSES).clone()
    with torch.inference_mode():
        logits = model(input_ids=WINDOWS).logits
    assert torch.allclose(model.lm_head(first), logits, atol=1e-5)
    with torch.no_grad():
        model.model.norm.weight.zero_()
    assert torch.equal(teacher_states(decoder, WINDOWS, path=path, passes=PASSES), first)


def test_a_broken_teacher_file_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    decoder = Decoder(learned_lm())
    path = tmp_path / "teacher.bin"
    asked = iter([False, True])
    with pytest.raises(Cancelled):
        teacher_states(decoder, WINDOWS, path=path, passes=PASSES, should_stop=lambda: next(asked))
    assert not path.exists()


def test_a_loss_that_is_not_finite_ends_the_work(tmp_path: Path) -> None:
    model = learned_lm()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = math.inf
    with pytest.raises(NumericalFailure, match="step 1"):
        run(model, tmp_path, schedule="removed", objective="lm")


def test_it_stops_between_passes(tmp_path: Path) -> None:
    asked = iter([False] * 3)
    with pytest.raises(Cancelled):
        transfer(
            Decoder(learned_lm()),
            TEXT,
            REMOVED,
            TrspOptions(objective="lm"),
            passes=PASSES,
            teacher=None,
            seed=0,
            should_stop=lambda: next(asked, True),
        )


@pytest.mark.parametrize("name", ["opt", "gpt2", "qwen2", "qwen3", "phi"])
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_every_family_learns(tmp_path: Path, name: str, trainable: str) -> None:
    model = learned_lm(name)
    before = loss_without(model)
    run(model, tmp_path, schedule="removed", trainable=trainable, objective="lm")
    assert loss_without(model) < before
    assert len(Decoder(model)) == LAYERS
