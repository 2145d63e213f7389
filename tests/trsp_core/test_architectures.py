"""Each record is true of the model class that it describes."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING

from tests.trsp_core.tiny_types import LAYERS, VOCABULARY, tiny_config, tiny_type
from trsp_core.architectures import ARCHITECTURES, Architecture, architecture_of
from trsp_core.architectures.patterns import EdgeLayer, Listed, RootScaled
from trsp_core.decoder import Decoder, hooked, layer_output
from trsp_core.errors import InvalidSpec, ModelRefused
from trsp_core.pruned_config import pruned_config

TYPES = sorted(ARCHITECTURES)
UNCOUNTED = ("nemotron_h",)
"""Types whose saved config tells the number of layers by the length of a list alone."""
SIZED_BY_THE_SAME_COUNT = ("num_attention_heads_per_layer", "layer_rope_theta", "indexer_types")
SMALL = settings(max_examples=8, deadline=None)


def part(model: Any, path: str) -> Any:
    """Return what a path leads to, be it a module or nothing."""
    return functools.reduce(getattr, path.split("."), model)


@functools.cache
def written_config(model_type: str) -> str:
    """Return a tiny config as `config.json` holds it."""
    return str(tiny_config(model_type).to_json_string(use_diff=False))


def config_of(model_type: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(written_config(model_type))
    return config


@torch.no_grad()
def seen_outputs(model: Any) -> list[Any]:
    """Return what each layer returns, in order."""
    seen: list[Any] = []
    layers = Decoder(model).layers
    with hooked({layer: lambda _m, _a, _k, output: seen.append(output) for layer in layers}):
        model(input_ids=torch.arange(3, 11)[None], use_cache=False)
    return seen


def joins(model: Any, decoder: Decoder, layer: int) -> bool:
    """Whether adding a vector to the MLP output of a layer moves the layer's output by that vector."""
    before = layer_output(seen_outputs(model)[layer])
    shift = torch.linspace(-1, 1, before.shape[-1])
    with hooked({decoder.mlp_output(layer): lambda _m, _a, _k, output: output + shift}):
        after = layer_output(seen_outputs(model)[layer])
    return torch.allclose(after - before, shift.expand_as(before), atol=1e-4)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_record_is_true_of_its_model(model_type: str) -> None:
    model = tiny_type(model_type, alone=True)
    record = ARCHITECTURES[model.config.model_type]
    decoder = Decoder(model)
    assert len(decoder) == LAYERS
    assert part(model, record.embedding) is model.get_input_embeddings()
    assert part(model, record.head) is model.get_output_embeddings()
    assert record.final_norm is None or "norm" in type(part(model, record.final_norm)).__name__.lower()
    assert record.attention == ("sdpa" if type(model)._supports_sdpa else "eager")
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert record.ties_head(model.config.to_dict()) == tied
    for output in seen_outputs(model):
        assert (len(output) if isinstance(output, (tuple, list)) else 0) == record.outputs
    with_output = [layer for layer in range(LAYERS) if decoder.has_mlp_output(layer)]
    assert bool(with_output) == (record.mlp_output is not None)
    if with_output:
        layer = with_output[-1]
        width = decoder.mlp_output_shape(decoder.mlp_output(layer))[0]
        assert width == layer_output(seen_outputs(model)[layer]).shape[-1]
        assert joins(model, decoder, layer) or not decoder.refits(layer)


@pytest.mark.parametrize("model_type", TYPES)
def test_config_keys_tell_the_sizes(model_type: str) -> None:
    record, config = ARCHITECTURES[model_type], config_of(model_type)
    text = record.text(config)
    assert record.count(config) == LAYERS
    assert (text.get(record.layer_count) is None) == (model_type in UNCOUNTED)
    assert text[record.vocabulary] == VOCABULARY
    assert text[record.width] in (32, 128)
    assert text.get(record.positions, 128) == 128


@pytest.mark.parametrize("model_type", TYPES)
def test_ties_are_those_of_the_class(model_type: str) -> None:
    default = CONFIG_MAPPING[model_type]().to_dict()
    record = ARCHITECTURES[model_type]
    stated = default.get("tie_word_embeddings")
    inner = record.text(default).get("tie_word_embeddings")
    known = next((value for value in (stated, inner) if value is not None), record.ties_by_default)
    assert record.ties_by_default == known


def listed(record: Architecture) -> list[Listed]:
    return [item for item in record.patterns if isinstance(item, Listed) and item.derive is not None]


@pytest.mark.parametrize("layers", [4, 6, 13])
@pytest.mark.parametrize("model_type", [name for name in TYPES if listed(ARCHITECTURES[name])])
def test_a_derived_list_is_the_one_that_the_config_class_derives(model_type: str, layers: int) -> None:
    record = ARCHITECTURES[model_type]
    left_out = {*(pattern.key for pattern in listed(record)), *SIZED_BY_THE_SAME_COUNT}
    text = record.text(tiny_config(model_type).to_dict())
    keys = {key: value for key, value in text.items() if key not in left_out}
    keys[record.layer_count] = layers
    derived = CONFIG_MAPPING[keys["model_type"]].from_dict(dict(keys)).to_dict()
    for pattern in listed(record):
        assert derived[pattern.key] == pattern.read(keys, layers)


def selections() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, LAYERS - 1), min_size=1, unique=True).map(sorted)


@pytest.mark.parametrize("model_type", TYPES)
@given(kept=selections())
@SMALL
def test_layers_that_stay_keep_their_kind(model_type: str, kept: Sequence[int]) -> None:
    record, config = ARCHITECTURES[model_type], config_of(model_type)
    try:
        pruned = pruned_config(config, kept, record)
    except InvalidSpec as refusal:
        assert "/layers" in str(refusal)
        return
    assert record.count(pruned) == len(kept)
    for pattern in record.patterns:
        if isinstance(pattern, (EdgeLayer, RootScaled)):
            continue
        before = pattern.read(record.text(config), LAYERS)
        after = pattern.read(record.text(pruned), len(kept))
        assert after == (None if before is None else [before[index] for index in kept])


@pytest.mark.parametrize("model_type", TYPES)
def test_nothing_removed_leaves_every_kind(model_type: str) -> None:
    record, config = ARCHITECTURES[model_type], config_of(model_type)
    pruned = pruned_config(config, range(LAYERS), record)
    assert record.kinds(pruned) == record.kinds(config)
    assert config == config_of(model_type)


def test_names_are_taken_apart_with_and_without_the_base() -> None:
    opt = ARCHITECTURES["opt"]
    assert opt.split("model.decoder.layers.11.fc2.bias") == ("model.decoder.layers.", 11, "fc2.bias")
    assert opt.split("decoder.layers.0.fc2.bias") == ("decoder.layers.", 0, "fc2.bias")
    for name in (
        "model.decoder.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.x.y",
        "other.layers.1.z",
    ):
        assert opt.split(name) is None


@pytest.mark.parametrize(
    ("name", "weight"),
    [("h.0.attn.bias", False), ("transformer.h.0.attn.masked_bias", False), ("h.0.attn.c_attn.bias", True)],
)
def test_buffers_of_old_checkpoints(name: str, weight: bool) -> None:
    assert ARCHITECTURES["gpt2"].is_weight(name) == weight


@pytest.mark.parametrize("name", ["lama", None, 3, ["llama"], ""])
def test_unknown_types_are_refused(name: object) -> None:
    with pytest.raises(ModelRefused, match=f"lists the {len(ARCHITECTURES)} types"):
        architecture_of(name)


def test_a_near_miss_gets_a_suggestion_and_a_refused_type_its_reason() -> None:
    with pytest.raises(ModelRefused, match="Did you mean 'mixtral'"):
        architecture_of("mixtrall")
    with pytest.raises(ModelRefused, match="computed from its position"):
        architecture_of("diffllama")


def test_checkpoints_may_call_parts_otherwise() -> None:
    nemotron, gemma = ARCHITECTURES["nemotron_h"], ARCHITECTURES["gemma3"]
    for prefix in ("model.layers.", "backbone.layers.", "layers."):
        assert nemotron.split(f"{prefix}3.norm.weight") == (prefix, 3, "norm.weight")
    assert nemotron.without_base("backbone.embeddings.weight") == "embeddings.weight"
    stored = "language_model.model.layers.5.mlp.down_proj.weight"
    assert gemma.split(stored) == ("language_model.model.layers.", 5, "mlp.down_proj.weight")
    assert gemma.without_base(stored) == "language_model.layers.5.mlp.down_proj.weight"
    assert gemma.split("vision_tower.encoder.layers.1.mlp.fc1.weight") is None


JUNK = st.sampled_from(
    [None, True, -1, 0, 3, 10**12, 1.5, "x", "", [], [1], [None] * LAYERS, [[]], {}, {"a": 1}]
)


@pytest.mark.parametrize("model_type", TYPES)
@given(data=st.data())
@SMALL
def test_a_config_that_lies_is_refused_not_crashed_on(model_type: str, data: st.DataObject) -> None:
    record, config = ARCHITECTURES[model_type], config_of(model_type)
    text = record.text(config)
    told = [
        key
        for key in text
        if any(word in key for word in ("layer", "mlp", "step", "moe", "types", "idx", "window"))
    ]
    dropped = data.draw(st.sets(st.sampled_from(told)))
    changed = data.draw(st.dictionaries(st.sampled_from(told), JUNK, max_size=3))
    lying = {**{key: value for key, value in text.items() if key not in dropped}, **changed}
    lying[record.layer_count] = LAYERS
    whole = lying if record.nested is None else {**config, record.nested: lying}
    with contextlib.suppress(ModelRefused, InvalidSpec):
        record.kinds(whole)
        pruned_config(whole, (0, 2, 5), record)
