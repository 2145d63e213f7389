"""Each record is true of the model class that it describes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.trsp_core.conftest import FAMILIES, LAYERS, tiny_model
from trsp_core.architectures import ARCHITECTURES, Architecture, architecture_of
from trsp_core.errors import ModelRefused


@pytest.fixture(params=list(FAMILIES))
def known(request: pytest.FixtureRequest) -> tuple[Any, Architecture]:
    model = tiny_model(request.param)
    return model, architecture_of(model.config.model_type)


def test_paths_lead_to_the_parts(known: tuple[Any, Architecture]) -> None:
    model, record = known
    layers = model.get_submodule(record.layers)
    assert len(layers) == LAYERS
    assert model.get_submodule(record.embedding) is model.get_input_embeddings()
    assert model.get_submodule(record.head) is model.get_output_embeddings()
    for path in (record.mlp_output, record.attention_output, *record.norms):
        assert layers[0].get_submodule(path).weight.numel()
    norm = getattr(
        model.get_submodule(record.final_norm.rpartition(".")[0]), record.final_norm.rpartition(".")[2]
    )
    assert (norm is None) == (not record.mlp_output_added(model.config.to_dict()))


def test_config_keys_tell_the_sizes(known: tuple[Any, Architecture]) -> None:
    model, record = known
    config = model.config.to_dict()
    assert config[record.layer_count] == LAYERS
    assert config[record.width] == 32
    assert config[record.positions] == 128
    assert config[record.vocabulary] == model.get_input_embeddings().weight.shape[0]


def test_ties_are_those_of_the_class(known: tuple[Any, Architecture]) -> None:
    model, record = known
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert record.ties_head(model.config.to_dict()) == tied
    assert record.ties_by_default == type(model.config)().tie_word_embeddings


def test_the_mlp_projection_has_the_stated_orientation(known: tuple[Any, Architecture]) -> None:
    model, record = known
    shape = model.get_submodule(record.layers)[0].get_submodule(record.mlp_output).weight.shape
    assert shape[1 if record.mlp_output_transposed else 0] == 32


def test_the_mlp_output_joins_the_residual_stream_untouched_where_it_says_so(
    known: tuple[Any, Architecture],
) -> None:
    """Adding a vector to the projection's output must move the layer's output by that vector."""
    model, record = known
    layer = model.get_submodule(record.layers)[2]
    shift = torch.linspace(-1, 1, 32)
    seen: list[torch.Tensor] = []
    keep = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    ids = torch.arange(8)[None]
    with torch.no_grad():
        model(input_ids=ids)
        moved = layer.get_submodule(record.mlp_output).register_forward_hook(
            lambda module, args, output: output + shift
        )
        model(input_ids=ids)
    keep.remove()
    moved.remove()
    untouched = torch.allclose(seen[1] - seen[0], shift.expand_as(seen[0]), atol=1e-4)
    assert untouched == record.mlp_output_added(model.config.to_dict())


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


@pytest.mark.parametrize("name", ["bert", None, 3, ["llama"], ""])
def test_unknown_types_are_refused(name: object) -> None:
    with pytest.raises(ModelRefused, match="supported are"):
        architecture_of(name)
