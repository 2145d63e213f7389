"""Changed weights reach a checkpoint that knows them under other names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.trsp_core.tiny_types import tiny_type
from trsp_core.architectures import architecture_of
from trsp_core.checkpoint import load_model
from trsp_core.decoder import Decoder, switched_off
from trsp_core.errors import ModelRefused
from trsp_core.stored_names import as_stored
from trsp_core.surgery import remove_streamed, rename_tensor

KEPT = (0, 2, 3, 5)


@pytest.mark.parametrize(
    "model_type", ["llama", "mixtral", "granitemoe", "nemotron_h", "gemma3", "olmo_hybrid"]
)
def test_every_weight_of_the_layers_can_change(model_type: str, tmp_path: Path) -> None:
    tiny_type(model_type).save_pretrained(tmp_path / "source")
    model = load_model(tmp_path / "source", dtype=torch.float32, device=torch.device("cpu"))
    decoder = Decoder(model)
    changed = {}
    for name, value in model.named_parameters():
        if architecture_of(model.config.model_type).split(name):
            value.data.mul_(1.1)
            renamed = rename_tensor(name, KEPT, decoder.architecture)
            if renamed is not None:
                changed[renamed] = value.detach()
    remove_streamed(tmp_path / "source", tmp_path / "out", KEPT, overrides=as_stored(model, changed))
    ids = torch.arange(3, 15)[None]
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    with torch.no_grad(), switched_off(decoder, (1, 4)):
        expected = model(input_ids=ids, use_cache=False).logits
        assert torch.allclose(reloaded(input_ids=ids, use_cache=False).logits, expected, atol=1e-5)


def test_names_of_memory_are_not_those_of_the_file(tmp_path: Path) -> None:
    """The test above would say nothing if the two were the same."""
    tiny_type("mixtral").save_pretrained(tmp_path / "source")
    model = load_model(tmp_path / "source", dtype=torch.float32, device=torch.device("cpu"))
    name = "model.layers.0.mlp.experts.down_proj"
    with pytest.raises(ModelRefused, match="no tensors of the model"):
        remove_streamed(
            tmp_path / "source", tmp_path / "out", KEPT, overrides={name: model.get_parameter(name).detach()}
        )
