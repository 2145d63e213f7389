import hypothesis.strategies as st
import pytest
from hypothesis import given

from trsp_core.gate_layout import PARTS, GateLayout
from trsp_core.method_options import TrspOptions

WHOLE = GateLayout.of(TrspOptions())
PARTED = GateLayout.of(TrspOptions(gate_parts="attention+mlp"))


@given(st.sampled_from([WHOLE, PARTED]), st.integers(1, 12))
def test_every_gate_has_one_place(layout: GateLayout, layers: int) -> None:
    assert layout.places(range(layers)) == list(range(layers * layout.per_layer))


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=8))
def test_the_score_of_a_whole_layer_is_its_gate(gates: list[float]) -> None:
    layers = range(len(gates))
    assert WHOLE.scores(gates, layers) == dict(enumerate(gates))
    assert WHOLE.part_scores(gates, layers) == {}


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=1, max_size=8))
def test_the_score_of_a_layer_in_parts_is_their_mean(pairs: list[tuple[float, float]]) -> None:
    gates = [gate for pair in pairs for gate in pair]
    layers = range(len(pairs))
    parts = PARTED.part_scores(gates, layers)
    assert tuple(parts) == PARTS
    assert [(parts["attention"][layer], parts["mlp"][layer]) for layer in layers] == pairs
    for layer, score in PARTED.scores(gates, layers).items():
        assert score == pytest.approx(sum(pairs[layer]) / 2)
