"""Names of single layers in a quantization config follow their layers."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsp_core.architectures import architecture_of
from trsp_core.errors import ModelRefused
from trsp_core.pruned_config import pruned_config
from trsp_core.pruned_quantization import pruned_quantization

KEPT = (0, 2, 3, 5)
LAYERS = 6


def pruned(value: Any, kept: tuple[int, ...] = KEPT, layers: int = LAYERS, stack: str = "layers") -> Any:
    return pruned_quantization(value, kept, layers, stack)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lm_head", ["lm_head"]),
        ("model.layers.3.mlp.down_proj", ["model.layers.2.mlp.down_proj"]),
        ("layers.5", ["layers.3"]),
        ("model.layers.4.self_attn", []),
        ("model.layers.61.eh_proj", []),
        ("mlp.gate", ["mlp.gate"]),
        ("players.3.x", ["players.3.x"]),
        (r"re:.*layers\.2\..*", [r"re:.*layers\.1\..*"]),
        (r"re:model.layers.5.*", [r"re:model.layers.3\..*"]),
        (r"re:.*layers\.(0|1|5)\.mlp.*", [r"re:.*layers\.0\.mlp.*", r"re:.*layers\.3\.mlp.*"]),
        (r"re:.*layers\.(?:1|4)\..*", []),
        (r"re:.*layers\.[2-4]\..*", [r"re:.*layers\.1\..*", r"re:.*layers\.2\..*"]),
        (r"re:.*layers\.\d+\.mlp", [r"re:.*layers\.\d+\.mlp"]),
        (r"model.layers.*.mlp", [r"model.layers.*.mlp"]),
        (r"re:.*layers.*gate", [r"re:.*layers.*gate"]),
        ("model.layers.2*", ["model.layers.1.*"]),
        ("model.layers.norm", ["model.layers.norm"]),
    ],
)
def test_names(name: str, expected: list[str]) -> None:
    assert pruned([name]) == expected


def test_an_index_followed_by_anything_means_longer_indices_too() -> None:
    assert pruned(["model.layers.1*"], (1, 4, 11), 12) == ["model.layers.0.*", "model.layers.2.*"]
    assert pruned([r"-:model.layers.1.*"], (4, 11), 12) == [r"-:model.layers.1\..*"]


def test_keys_and_nested_parts_follow_too_and_the_rest_stays() -> None:
    config = {
        "quant_method": "gptq",
        "bits": 4,
        "desc_act": False,
        "dynamic": {r"+:.*\.layers\.3\..*": {"bits": 8}, r"-:.*\.layers\.4\..*": {}},
        "config_groups": {"group_0": {"targets": ["Linear", "re:.*layers.5.mlp.*"], "weights": {"bits": 4}}},
        "modules_to_not_convert": None,
        "tables": [[1, 2], ["model.layers.1.x"]],
    }
    before = repr(config)
    assert pruned(config) == {
        **config,
        "dynamic": {r"+:.*\.layers\.2\..*": {"bits": 8}},
        "config_groups": {"group_0": {"targets": ["Linear", "re:.*layers.3.mlp.*"], "weights": {"bits": 4}}},
        "tables": [[1, 2], []],
    }
    assert repr(config) == before


def test_the_stack_has_the_name_of_the_architecture() -> None:
    config = {"n_layer": LAYERS, "quantization_config": {"skip": ["transformer.h.3.mlp", "h.4.attn"]}}
    found = pruned_config(config, KEPT, architecture_of("gpt2"))
    assert found["quantization_config"] == {"skip": ["transformer.h.2.mlp"]}


@pytest.mark.parametrize(
    "name",
    [
        r"re:layers\.(0\.mlp|1\.attn)",
        r"re:(?:model\.layers\.)(3)\..*",
        r"re:layers\.[0-",
        "re:layers." + r"\d?" * 160 + "x",
        "re:layers.(" + "|".join(["1"] * 200) + ")+x",
        "re:layers." + "1" * 3000 + "|2",
    ],
)
def test_what_cannot_be_told_is_refused_at_once(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(ModelRefused, match="which layers that means"):
        pruned({"ignore": [name]}, (0, 2), 1000)
    assert time.monotonic() - began < 1


@given(st.data())
def test_a_name_survives_exactly_with_its_layer(data: st.DataObject) -> None:
    layers = data.draw(st.integers(2, 130))
    kept = tuple(sorted(data.draw(st.sets(st.integers(0, layers - 1), min_size=1))))
    named = data.draw(st.lists(st.integers(0, layers - 1), unique=True))
    pattern = "|".join(map(str, named))
    found = pruned([f"model.layers.{i}.mlp" for i in named], kept, layers)
    assert found == [f"model.layers.{kept.index(i)}.mlp" for i in named if i in kept]
    if 0 < len(named) < layers:
        written = pruned([rf"re:model\.layers\.({pattern})\.mlp"], kept, layers)
        matched = {
            i for i in range(len(kept)) for p in written if re.fullmatch(p[3:], f"model.layers.{i}.mlp")
        }
        assert matched == {kept.index(i) for i in named if i in kept}
