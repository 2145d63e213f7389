"""What a config tells layer by layer is read, written for fewer layers, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from trsp_core.architectures.patterns import (
    AlsoCount,
    Between,
    Counted,
    Cycled,
    EdgeLayer,
    Indexed,
    Leading,
    Lettered,
    Listed,
    Pattern,
    Periodic,
    Remaining,
    RootScaled,
    Sparse,
)
from trsp_core.errors import InvalidSpec, ModelRefused

JAMBA = Periodic("attn_layer_period", "attn_layer_offset", (8, 4), "attention")

ODD = {"attn_layer_period": 2, "attn_layer_offset": 1}


def cut(pattern: Pattern, config: dict[str, Any], layers: int, kept: tuple[int, ...]) -> dict[str, Any]:
    entries = pattern.read(config, layers)
    assert entries is not None
    return pattern.write([entries[index] for index in kept])


@pytest.mark.parametrize(
    ("pattern", "config", "kept", "written"),
    [
        (Listed("x"), {"x": [5, 6, 7, 8]}, (0, 3), {"x": [5, 8]}),
        (Leading("k", 2), {}, (1, 2, 3), {"k": 1}),
        (Leading("k", 2), {"k": 3}, (3,), {"k": 0}),
        (Indexed("x"), {"x": [1, 3]}, (1, 2, 3), {"x": [0, 2]}),
        (Sparse(), {"decoder_sparse_step": 2}, (0, 1, 3), {"mlp_only_layers": [0], "decoder_sparse_step": 1}),
        (Sparse((0,)), {}, (1, 2), {"mlp_only_layers": [], "decoder_sparse_step": 1}),
        (JAMBA, ODD, (1, 3), {"attn_layer_period": 1, "attn_layer_offset": 0}),
        (JAMBA, ODD, (0, 3), ODD),
        (JAMBA, {}, (0, 1), {"attn_layer_period": 3, "attn_layer_offset": 2}),
        (Cycled("x", ("a", "b")), {}, (0, 2, 3), {"x": ["a", "a", "b"]}),
        (Counted(), {"attention_types": [[["global", "local"], 2]]}, (1, 2), {
            "attention_types": [[["local", "global"], 1]], "attention_layers": ["local", "global"],
        }),
        (Lettered("x"), {"x": "M*-E"}, (1, 3), {"x": "*E"}),
        (EdgeLayer(last=False, why=""), {}, (0, 2), {}),
        (EdgeLayer(last=True, why=""), {}, (0, 3), {}),
        (Remaining(Listed("x"), "attention", ("a",)), {"x": ["a", "b", "b", "a"]}, (2, 3), {}),
        (RootScaled("scale", 1.0), {"scale": 1.4}, (0, 1, 2, 3), {"scale": 1.4}),
        (RootScaled("scale", 1.0), {}, (2,), {"scale": 0.5}),
        (AlsoCount("n"), {"n": 4}, (0, 1), {"n": 2}),
    ],
)  # fmt: skip
def test_it_is_written_for_the_layers_that_stay(
    pattern: Pattern, config: dict[str, Any], kept: tuple[int, ...], written: dict[str, Any]
) -> None:
    assert cut(pattern, config, 4, kept) == written
    assert pattern.told


@pytest.mark.parametrize("kept", [(0, 1, 2, 3, 4, 5), (1, 2, 3), (0, 2, 4), (1, 3, 5), (0,), (5,), (3, 4, 5)])
@pytest.mark.parametrize("interval", [1, 2, 3])
def test_mixtures_between_two_layers_stay_where_they_are(kept: tuple[int, ...], interval: int) -> None:
    config = {"moe_layer_start_index": 1, "moe_layer_end_index": -1, "moe_layer_interval": interval}
    wanted = [index >= 1 and (index + 1) % interval == 0 for index in kept]
    try:
        written = cut(Between(), config, 6, kept)
    except InvalidSpec as refusal:
        assert interval > 1
        assert "cannot say" in str(refusal)
        return
    assert Between().read(written, len(kept)) == wanted


@pytest.mark.parametrize(
    ("pattern", "config", "kept", "said"),
    [
        (JAMBA, {"attn_layer_period": 3, "attn_layer_offset": 1}, (0, 1, 4), "cannot say"),
        (Between(), {"moe_layer_interval": 2}, (1, 2, 3), "cannot say"),
        (EdgeLayer(last=False, why="it differs"), {}, (1, 2), "takes out the first layer, .*: it differs"),
        (EdgeLayer(last=True, why="it differs"), {}, (0, 2), "takes out the last layer"),
        (
            Remaining(Listed("x"), "attention", ("a",)),
            {"x": list("babbbb")},
            (0, 2),
            "leaves no attention layer",
        ),
    ],
)
def test_what_a_config_cannot_say_is_refused(
    pattern: Pattern, config: dict[str, Any], kept: tuple[int, ...], said: str
) -> None:
    with pytest.raises(InvalidSpec, match=said):
        cut(pattern, config, 6, kept)


@pytest.mark.parametrize(
    ("pattern", "config", "said"),
    [
        (Listed("x"), {"x": [1, 2]}, "x in config.json must be a list of 4 entries"),
        (Listed("x"), {"x": 3}, "must be a list of 4"),
        (Leading("k", 0), {"k": "3"}, "k in config.json must be a whole number"),
        (Leading("k", 0), {"k": True}, "whole number"),
        (Indexed("x"), {"x": [1, "2"]}, "list of layer indices"),
        (Sparse(), {"decoder_sparse_step": 0}, "at least 1"),
        (Sparse(), {"mlp_only_layers": 3}, "list of layer indices"),
        (JAMBA, {"attn_layer_period": 0}, "at least 1"),
        (Between(), {"moe_layer_interval": -1}, "at least 1"),
        (Cycled("x", ("a",)), {"x": "abc"}, "must be a list"),
        (Counted(), {"attention_types": [[["global"], 10**12]]}, "4 layers"),
        (Counted(), {"attention_types": 7}, "4 layers"),
        (Lettered("x"), {"x": "MM"}, "4 letters"),
        (RootScaled("scale", 1.0), {"scale": "big"}, "a number"),
    ],
)
def test_a_config_that_lies_is_refused(pattern: Pattern, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelRefused, match=said):
        pattern.read(config, 4)


@pytest.mark.parametrize("pattern", [Listed("x"), Indexed("x"), Lettered("x"), AlsoCount("x")])
def test_what_is_not_told_stays_untold(pattern: Pattern) -> None:
    assert pattern.read({}, 4) is None
