"""Random Llama checkpoints of any size, written one layer at a time, so that none is held in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

HEAD = 64
VOCABULARY = 8192
SPREAD = 0.02


def inner_width(hidden: int) -> int:
    """Return the width of the MLP: 8/3 of the residual stream's, a multiple of 64."""
    return int(hidden * 8 / 3) // HEAD * HEAD


def llama_config(hidden: int, layers: int) -> LlamaConfig:
    """Return the config of a Llama with heads of 64 and a tied head."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=inner_width(hidden),
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD,
        num_key_value_heads=hidden // HEAD,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
    )


def write_llama(folder: Path, hidden: int, layers: int, dtype: torch.dtype) -> int:
    """Write config and weights, one shard a layer; returns the number of parameters."""
    config = llama_config(hidden, layers)
    config.dtype = dtype
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    table: dict[str, str] = {}
    for number, part in enumerate(_parts(model)):
        file = f"model-{number:05d}.safetensors"
        values = {name: _value(item, generator).to(dtype) for name, item in part.items()}
        save_file(values, folder / file, metadata={"format": "pt"})
        table.update(dict.fromkeys(part, file))
    index = {"metadata": {}, "weight_map": table}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return sum(item.numel() for item in model.parameters())


def _parts(model: nn.Module) -> Iterator[dict[str, nn.Parameter]]:
    """Yield the parameters by name, a layer or a module outside the layers at a time."""
    for _, group in groupby(model.named_parameters(), key=lambda item: item[0].split(".")[:3]):
        yield dict(group)


def _value(parameter: nn.Parameter, generator: torch.Generator) -> torch.Tensor:
    """Return ones for a norm, else small random values."""
    if parameter.dim() == 1:
        return torch.ones(parameter.shape)
    return torch.randn(parameter.shape, generator=generator) * SPREAD
