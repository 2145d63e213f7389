"""A tiny model that has learned something, so that its layers differ in what they are worth."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.trsp_core.tiny_lms import CONFIGS

VOCABULARY = 97
LAYERS = 6


def sequences(count: int, length: int, seed: int) -> Tensor:
    """Return `[count, length]` ids that count upwards with a stride of their own, modulo the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(VOCABULARY, (count, 1), generator=generator)
    stride = torch.randint(1, 4, (count, 1), generator=generator)
    return (start + stride * torch.arange(length)) % VOCABULARY


@functools.cache
def _state(name: str) -> dict[str, Tensor]:
    model = _fresh(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(80):
        ids = sequences(16, 24, seed=step)
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return {key: value.clone() for key, value in model.state_dict().items()}


def _fresh(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = CONFIGS[name]()
    config.num_hidden_layers = LAYERS
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[0]] * LAYERS
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def learned_lm(name: str = "llama-tied") -> PreTrainedModel:
    """Return a model of six layers that counts; a fresh copy each time."""
    model = _fresh(name)
    model.load_state_dict(_state(name))
    return model.eval()


def make_identity(model: PreTrainedModel, layer: int) -> None:
    """Let a Llama layer hand on exactly what it gets."""
    with torch.no_grad():
        model.model.layers[layer].self_attn.o_proj.weight.zero_()
        model.model.layers[layer].mlp.down_proj.weight.zero_()
