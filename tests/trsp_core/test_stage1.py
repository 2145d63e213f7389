import json
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tests.trsp_core.learned import LAYERS, learned_lm, make_identity, sequences
from trsp_core.budget import Passes
from trsp_core.decoder import Decoder, switched_off
from trsp_core.errors import Cancelled, NumericalFailure
from trsp_core.evaluation.losses import mean_loss
from trsp_core.method_options import TrspOptions
from trsp_core.stage1 import (
    Candidates,
    GateState,
    choose_layers,
    initial_state,
    plan_of,
    proximal_step,
    shortlist,
    soft_threshold,
)
from trsp_core.verification import losses_without

PASSES = Passes(forward_rows=4, gradient_rows=2, checkpointed=False)


def choose(model: object, count: int = 2, **options: object) -> GateState:
    windows = sequences(8, 16, seed=3)
    return choose_layers(
        Decoder(model), windows, count, TrspOptions(**{"candidates": "gates", **options}), passes=PASSES
    )


@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=8),
    st.floats(0, 2),
)
def test_soft_threshold_is_the_l1_proximal_map(values: list[float], threshold: float) -> None:
    given_values = torch.tensor(values, dtype=torch.float64)
    moved = soft_threshold(given_values, threshold)
    for before, after in zip(given_values.tolist(), moved.tolist(), strict=True):
        assert abs(after) == pytest.approx(max(0.0, abs(before) - threshold), abs=1e-12)
        assert after * before >= 0


@given(
    st.lists(st.floats(-10, 10), min_size=2, max_size=6),
    st.floats(0.001, 0.5),
    st.floats(0, 10),
)
def test_no_gate_moves_further_than_both_parts_may(
    gradients: list[float], rate: float, lambda1: float
) -> None:
    gradient = torch.tensor(gradients, dtype=torch.float64)
    gates = torch.ones_like(gradient)
    moved = proximal_step(gates, gradient, gradient.square(), learning_rate=rate, lambda1=lambda1)
    assert ((moved - gates).abs() <= 2 * rate + 1e-9).all()


def test_a_proximal_step_by_hand() -> None:
    gates = torch.tensor([1.0, 1.0, 0.01], dtype=torch.float64)
    gradient = torch.tensor([2.0, -4.0, 0.0], dtype=torch.float64)
    squares = torch.tensor([4.0, 16.0, 1.0], dtype=torch.float64)
    moved = proximal_step(gates, gradient, squares, learning_rate=0.1, lambda1=0.4)
    assert moved.tolist() == pytest.approx([1 - 0.1 - 0.02, 1 + 0.1 - 0.01, 0.0])


@pytest.mark.parametrize("place", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_identity_layer_is_the_first_to_go(place: int, seed: int) -> None:
    model = learned_lm()
    make_identity(model, place)
    windows = sequences(8, 16, seed=seed)
    options = TrspOptions(verify_top=1)
    state = choose_layers(Decoder(model), windows, 1, options, passes=PASSES)
    assert state.order == (place,)
    assert state.rounds[0].loss == pytest.approx(state.dense_loss, abs=1e-6)


@pytest.mark.parametrize("place", [1, 3])
def test_an_identity_layer_is_the_first_to_go_by_its_parts(place: int) -> None:
    model = learned_lm()
    make_identity(model, place)
    state = choose(model, count=1, verify_top=1, gate_parts="attention+mlp")
    assert state.order == (place,)


def test_a_part_that_does_nothing_is_shrunk_by_the_l1_term_alone() -> None:
    model = learned_lm()
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight.zero_()
    state = choose(model, count=1, gate_parts="attention+mlp", stage1_steps=1, gate_learning_rate=0.1)
    parts = state.rounds[0].part_scores
    assert parts["attention"][2] == pytest.approx(0.9)
    assert parts["mlp"][2] != pytest.approx(0.9, abs=1e-3)
    for layer, score in state.rounds[0].scores.items():
        assert score == pytest.approx((parts["attention"][layer] + parts["mlp"][layer]) / 2)


def test_gates_on_whole_layers_have_no_parts() -> None:
    state = choose(learned_lm(), count=1)
    assert state.rounds[0].part_scores == {}
    assert len(state.gates) == LAYERS


def test_lambda1_decides_how_far_gates_shrink() -> None:
    free = choose(learned_lm(), count=1, lambda1=0.0).gates
    strong = choose(learned_lm(), count=1, lambda1=10.0).gates
    assert sum(strong) < sum(free) - 0.5
    assert free != initial_state(LAYERS).gates


def test_verification_takes_the_layer_that_really_costs_least() -> None:
    model = learned_lm()
    state = choose(model, count=1, verify_top=LAYERS)
    windows = sequences(8, 16, seed=3)
    costs = {}
    with torch.inference_mode():
        for layer in range(1, LAYERS - 1):
            with switched_off(Decoder(model), [layer]):
                costs[layer] = mean_loss(model, windows).item()
    assert state.order == (min(costs, key=lambda layer: costs[layer]),)
    assert state.rounds[0].verified == pytest.approx(costs, abs=1e-5)
    assert state.rounds[0].loss == pytest.approx(min(costs.values()), abs=1e-5)


def test_the_second_round_verifies_with_the_first_layer_gone() -> None:
    model = learned_lm()
    state = choose(model, count=2, verify_top=LAYERS)
    with torch.inference_mode(), switched_off(Decoder(model), state.order):
        loss = mean_loss(model, sequences(8, 16, seed=3)).item()
    assert state.rounds[1].loss == pytest.approx(loss, abs=1e-5)


def test_protected_layers_stay_and_the_order_is_nested() -> None:
    model = learned_lm()
    three = choose(model, count=3, protect_first=2, protect_last=1)
    assert set(three.order) == {2, 3, 4}
    assert choose(learned_lm(), count=2, protect_first=2, protect_last=1).order == three.order[:2]
    plan = plan_of(three, method="trsp", layers=LAYERS)
    assert plan.prefix(1).removed == three.order[:1]


@given(st.integers(2, 12), st.integers(0, 3), st.integers(0, 3), st.sets(st.integers(0, 11)))
def test_candidates_are_alive_and_unprotected(total: int, first: int, last: int, gone: set[int]) -> None:
    options = TrspOptions(protect_first=first, protect_last=last)
    layers = Candidates.of(total, options, sorted(gone)).layers
    assert all(first <= layer < total - last and layer not in gone for layer in layers)


def test_the_same_seed_gives_the_identical_state() -> None:
    assert choose(learned_lm()) == choose(learned_lm())


@pytest.mark.parametrize(
    "options",
    [{}, {"candidates": "gates"}, {"candidates": "gates", "gate_parts": "attention+mlp"}],
    ids=["trials", "gates", "gates on parts"],
)
def test_it_goes_on_from_any_round_with_the_same_result(options: dict[str, str]) -> None:
    states: list[GateState] = []
    windows = sequences(8, 16, seed=3)
    decoder, chosen = Decoder(learned_lm()), TrspOptions(**options)
    whole = choose_layers(decoder, windows, 3, chosen, passes=PASSES, on_round=states.append)
    for state in states:
        again = GateState.from_dict(json.loads(json.dumps(state.to_dict())))
        assert choose_layers(decoder, windows, 3, chosen, passes=PASSES, state=again) == whole


def test_trials_of_all_layers_are_the_greedy_choice_of_sleb() -> None:
    model, windows = learned_lm(), sequences(8, 16, seed=3)
    state = choose(model, count=3, candidates="trials", verify_top=LAYERS)
    order: list[int] = []
    for _ in range(3):
        rest = [layer for layer in range(1, LAYERS - 1) if layer not in order]
        losses = losses_without(
            Decoder(model), windows, rest, gone=order, passes=PASSES, should_stop=lambda: False
        )
        order.append(min(rest, key=lambda layer: losses[layer]))
    assert state.order == tuple(order)


def test_trials_cost_a_fraction_of_trying_all_in_every_round() -> None:
    all_of_them = choose(learned_lm(), count=3, candidates="trials", verify_top=LAYERS).forward_tokens
    assert choose(learned_lm(), count=3, candidates="trials", verify_top=1).forward_tokens < 0.7 * all_of_them


def test_a_round_of_trials_verifies_the_best_of_those_that_it_tried() -> None:
    state = choose(learned_lm(), count=2, candidates="trials", verify_top=1)
    for done in state.rounds:
        assert list(done.verified) == [done.layer] == [min(done.scores, key=lambda layer: done.scores[layer])]


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_what_trials_read_and_the_rest_make_the_loss_on_all(rows: int) -> None:
    model, windows = learned_lm(), sequences(8, 16, seed=3)[:rows]
    state = choose_layers(Decoder(model), windows, 2, TrspOptions(), passes=PASSES)
    with torch.inference_mode(), switched_off(Decoder(model), state.order):
        assert state.rounds[-1].loss == pytest.approx(mean_loss(model, windows).item(), abs=1e-5)


def test_the_loss_on_the_part_follows_the_layers_that_leave() -> None:
    model = learned_lm()
    state = choose(model, count=2, candidates="trials")
    with torch.inference_mode(), switched_off(Decoder(model), state.order):
        loss = mean_loss(model, sequences(8, 16, seed=3)[:2]).item()
    assert state.part_loss == pytest.approx(loss, abs=1e-5)
    assert choose(model, count=2).part_loss is None


@given(
    st.dictionaries(st.integers(0, 30), st.floats(-1, 1), min_size=1, max_size=20),
    st.lists(st.integers(0, 30), max_size=5),
    st.integers(1, 8),
)
def test_a_shortlist_holds_the_cheapest_and_the_neighbours(
    excess: dict[int, float], order: list[int], count: int
) -> None:
    named = shortlist(excess, order, count)
    assert len(named) == len(set(named)) == min(count, len(excess))
    assert set(named) <= set(excess)
    cheapest = min(excess, key=lambda layer: (excess[layer], layer))
    assert cheapest in named
    if order and count >= 4:
        around = [min((layer for layer in excess if layer > order[-1]), default=None)]
        assert all(layer is None or layer in named for layer in around)


def test_the_model_is_left_as_it_was() -> None:
    model = learned_lm()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    choose(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(item.requires_grad and item.grad is None for item in model.parameters())


def test_it_stops_between_passes() -> None:
    asked = iter([False] * 5)
    with pytest.raises(Cancelled):
        choose_layers(
            Decoder(learned_lm()),
            sequences(8, 16, seed=3),
            2,
            TrspOptions(),
            passes=PASSES,
            should_stop=lambda: next(asked, True),
        )


def test_a_broken_weight_is_named() -> None:
    model = learned_lm()
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(NumericalFailure, match="dense model"):
        choose(model)


@pytest.mark.parametrize("name", ["opt", "gpt2", "qwen2", "qwen3", "phi"])
def test_every_family_is_chosen_from(name: str) -> None:
    state = choose(learned_lm(name), count=2, stage1_steps=2)
    assert len(set(state.order)) == 2


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 8))
def test_how_the_text_is_cut_changes_no_loss(rows: int) -> None:
    windows: Tensor = sequences(8, 16, seed=3)
    passes = Passes(forward_rows=rows, gradient_rows=rows, checkpointed=bool(rows % 2))
    options = TrspOptions(stage1_steps=1)
    state = choose_layers(Decoder(learned_lm()), windows, 1, options, passes=passes)
    reference = choose_layers(Decoder(learned_lm()), windows, 1, options, passes=PASSES)
    assert state.order == reference.order
    assert state.gates == pytest.approx(reference.gates, abs=1e-4)
