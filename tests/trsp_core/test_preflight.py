import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.trsp_core.tiny_types import tiny_type
from trsp_core import method_checks
from trsp_core.config import CompressionSpec
from trsp_core.errors import InputRefused, InvalidSpec
from trsp_core.preflight import layers_to_remove, preflight
from trsp_core.results import ModelFacts
from trsp_core.sources import SourcePolicy


def facts(layers: int, each: int = 10) -> ModelFacts:
    return ModelFacts(
        reference="m",
        revision="r",
        model_type="llama",
        layers=layers,
        parameters=100 + layers * each,
        layer_parameters=(each,) * layers,
        hidden_size=8,
        vocabulary=10,
        max_positions=64,
        stored_bytes=1,
        stored_dtype="float32",
    )


def spec(target: dict[str, Any], **options: int) -> CompressionSpec:
    return CompressionSpec.from_dict(
        {"model": "m", "target": target, "calibration": "python-docs", "method": {"name": "trsp", **options}}
    )


@given(st.integers(3, 100), st.floats(0.001, 0.999))
def test_sparsity_is_rounded_and_never_touches_protected_layers(layers: int, sparsity: float) -> None:
    try:
        count = layers_to_remove(spec({"sparsity": sparsity}), facts(layers))
    except InvalidSpec:
        assert sparsity * layers >= layers - 2 - 0.5
    else:
        assert 1 <= count <= layers - 2
        assert count == 1 or abs(count - sparsity * layers) <= 0.5 + 1e-9


@given(st.integers(3, 40), st.integers(1, 600))
def test_max_params_takes_the_fewest_layers_that_reach_it(layers: int, limit: int) -> None:
    known = facts(layers)
    try:
        count = layers_to_remove(spec({"max_params": limit}), known)
    except InvalidSpec:
        assert known.parameters - 10 * (layers - 2) > limit
    else:
        assert known.parameters - 10 * count <= limit
        assert count == 1 or known.parameters - 10 * (count - 1) > limit


@pytest.mark.parametrize("target", [{"speedup": 1.2}, {"max_perplexity_ratio": 1.1}])
def test_a_measured_target_is_at_most_what_may_go(
    target: dict[str, Any], tiny_folder: Callable[[str], Path], policy: SourcePolicy
) -> None:
    data = {"model": str(tiny_folder("llama")), "target": target, "calibration": "python-docs"}
    found = preflight(CompressionSpec.from_dict(data), policy).to_dict()
    assert (found["layers_to_remove"], found["decided_by_measurement"]) == (4, True)
    with pytest.raises(InvalidSpec, match="at most 0"):
        layers_to_remove(spec(target, protect_first=9), facts(10))


@given(st.integers(3, 60), st.floats(1.001, 100))
def test_a_speedup_that_no_share_of_the_layers_allows_is_refused(layers: int, speedup: float) -> None:
    wanted = spec({"speedup": speedup})
    if speedup <= layers / 2:
        assert layers_to_remove(wanted, facts(layers)) == layers - 2
    else:
        with pytest.raises(InvalidSpec, match="Ask for less"):
            layers_to_remove(wanted, facts(layers))


def test_the_refusal_names_a_sparsity_that_would_do() -> None:
    with pytest.raises(InvalidSpec) as caught:
        layers_to_remove(spec({"sparsity": 0.9}), facts(10))
    said = str(caught.value)
    assert "at most 8" in said
    offered = float(said.partition("(sparsity ")[2].partition(")")[0])
    assert layers_to_remove(spec({"sparsity": offered}), facts(10)) == 8


def test_protection_can_be_lowered() -> None:
    free = spec({"layers_to_remove": 9}, protect_first=0, protect_last=0)
    assert layers_to_remove(free, facts(10)) == 9
    with pytest.raises(InvalidSpec):
        layers_to_remove(spec({"layers_to_remove": 10}, protect_first=0, protect_last=0), facts(10))


def test_several_problems_are_told_together(
    tiny_folder: Callable[[str], Path], policy: SourcePolicy, tmp_path: Path
) -> None:
    data = {
        "model": str(tiny_folder("llama")),
        "target": {"layers_to_remove": 50},
        "calibration": {"set": f"text:{tmp_path / 'none.txt'}", "sequence_length": 4096},
        "evaluation": {"window_length": 4096},
    }
    with pytest.raises(InputRefused) as caught:
        preflight(CompressionSpec.from_dict(data), policy)
    pointers = {problem.pointer for problem in caught.value.problems}
    assert pointers >= {
        "/target/layers_to_remove",
        "/calibration/sequence_length",
        "/evaluation/window_length",
        "/calibration/set",
    }


def test_it_says_what_will_happen(tiny_folder: Callable[[str], Path], policy: SourcePolicy) -> None:
    data = {"model": str(tiny_folder("llama")), "sparsity": 0.3, "calibration": "python-docs"}
    found = preflight(CompressionSpec.from_dict(data), policy)
    assert (found.layers_to_remove, found.removable_layers) == (2, 4)
    assert found.sequence_length == found.window_length == 128
    assert found.memory_bytes > found.facts.parameters * 4


def test_the_memory_of_what_keeps_gradients_is_counted(
    tiny_folder: Callable[[str], Path], policy: SourcePolicy
) -> None:
    def memory(name: str, **options: Any) -> int:
        method = {"name": name, "protect_first": 1, "protect_last": 1, **options}
        data = {"model": str(tiny_folder("llama")), "sparsity": 0.3, "calibration": "python-docs"}
        return preflight(CompressionSpec.from_dict({**data, "method": method}), policy).memory_bytes

    assert memory("shortened-taylor") > memory("magnitude") == memory("sleb+absorb")
    assert memory("sleb+tune", trainable="full") > memory("sleb+tune", trainable="lora") > memory("sleb")


def test_the_least_memory_is_that_of_the_smallest_way_in_which_the_job_can_be_done(
    tiny_folder: Callable[[str], Path], policy: SourcePolicy
) -> None:
    def found(**changes: Any) -> tuple[int, int]:
        method = {"name": "sleb", "protect_first": 1, "protect_last": 1}
        data = {"model": str(tiny_folder("llama")), "sparsity": 0.3, "calibration": "python-docs"}
        checked = preflight(CompressionSpec.from_dict({**data, "method": method, **changes}), policy)
        return checked.memory_bytes, checked.least_memory_bytes

    resident, least = found(memory="resident")
    assert least == resident
    _, half = found(memory="resident", dtype="bfloat16")
    runtime = 450 * 2**20
    assert half - runtime == (resident - runtime) // 2
    streaming = {"method": {"name": "shortgpt"}, "calibration": {"set": "python-docs", "sequences": 1}}
    whole, streamed = found(**streaming, memory="auto")
    assert streamed == min(whole, found(**streaming, memory="streamed")[0])


def test_it_needs_no_torch(tiny_folder: Callable[[str], Path]) -> None:
    code = (
        "import sys; from trsp_core.preflight import preflight; from trsp_core.config import CompressionSpec;"
        "from trsp_core.sources import SourcePolicy;"
        f"preflight(CompressionSpec.from_dict({{'model': {str(tiny_folder('llama'))!r}, 'sparsity': 0.3,"
        " 'calibration': 'python-docs'}), SourcePolicy());"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("model_type", "options", "said"),
    [
        ("gemma2", {}, "a gemma2 cannot be gated by parts"),
        ("mixtral", {}, "a mixtral cannot be gated by parts"),
        ("jamba", {}, "a jamba cannot be gated by parts"),
        ("mamba", {}, "a mamba cannot be gated by parts"),
        ("llama", {"gate": "output"}, "it needs gate=residual"),
    ],
)
def test_gates_on_parts_are_refused_where_layers_are_not_built_of_two(
    model_type: str, options: dict[str, str], said: str, tmp_path: Path, policy: SourcePolicy
) -> None:
    tiny_type(model_type).save_pretrained(tmp_path)
    with pytest.raises(InvalidSpec, match=said) as caught:
        preflight(_gated_by_parts(tmp_path, **options), policy)
    assert caught.value.problems[0].pointer == "/method/gate_parts"


def test_moments_of_8_bits_lower_the_estimate_of_memory(
    tiny_folder: Callable[[str], Path], policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method_checks, "find_spec", lambda _: object())
    needed = {}
    for optimizer in ("adamw", "adamw8bit"):
        method = {"name": "trsp", "trainable": "full", "optimizer": optimizer}
        found = preflight(_one_layer_of(tiny_folder("llama"), method), policy)
        needed[optimizer] = found.memory_bytes
    layers = sum(found.facts.layer_parameters)
    assert needed["adamw"] - needed["adamw8bit"] == pytest.approx(1.48 * 4 * layers, abs=2)


@pytest.mark.parametrize("before", [True, False])
def test_gates_on_parts_depend_on_where_the_norm_stands(
    before: bool, tmp_path: Path, policy: SourcePolicy
) -> None:
    tiny_type("opt", do_layer_norm_before=before).save_pretrained(tmp_path)
    if before:
        assert preflight(_gated_by_parts(tmp_path), policy).layers_to_remove == 1
    else:
        with pytest.raises(InvalidSpec, match="a opt cannot be gated by parts"):
            preflight(_gated_by_parts(tmp_path), policy)


def _gated_by_parts(folder: Path, **options: str) -> CompressionSpec:
    return _one_layer_of(
        folder, {"name": "trsp", "candidates": "gates", "gate_parts": "attention+mlp", **options}
    )


def _one_layer_of(folder: Path, method: dict[str, str]) -> CompressionSpec:
    return CompressionSpec.from_dict(
        {
            "model": str(folder),
            "target": {"layers_to_remove": 1},
            "calibration": "python-docs",
            "method": method,
        }
    )
