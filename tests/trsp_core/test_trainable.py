"""What may take gradients is what is said to change, for layers of every make."""

from __future__ import annotations

import pytest

from tests.trsp_core.tiny_types import tiny_type
from trsp_core.decoder import Decoder
from trsp_core.method_options import TrspOptions
from trsp_core.trainable import changed_names, trainable_parameters

TYPES = (
    "llama",
    "falcon",
    "deepseek_v3",
    "qwen3_next",
    "mixtral",
    "mamba2",
    "falcon_h1",
    "openai-gpt",
    "gemma3",
)


@pytest.mark.parametrize("model_type", TYPES)
def test_adapters_sit_where_the_changed_weights_are(model_type: str) -> None:
    decoder, options = Decoder(tiny_type(model_type)), TrspOptions(trainable="lora", lora_rank=2)
    stated = changed_names(decoder, options, (4,))
    with trainable_parameters(decoder, options, (4,), seed=0) as chosen:
        adapted = {f"{name.partition('.lora_')[0]}.weight" for name in chosen}
    assert adapted == stated
    assert stated


@pytest.mark.parametrize("trainable", ["full", "norms+down"])
@pytest.mark.parametrize("model_type", TYPES)
def test_weights_of_gone_layers_stay_still(model_type: str, trainable: str) -> None:
    decoder, options = Decoder(tiny_type(model_type)), TrspOptions(trainable=trainable)
    with trainable_parameters(decoder, options, (4,), seed=0) as chosen:
        assert set(chosen) == changed_names(decoder, options, (4,))
    layers = {place[1] for name in chosen if (place := decoder.architecture.split(name))}
    assert layers == {0, 1, 2, 3, 5}
