"""What one decoder layer keeps for the backward pass, in floats, as multiples of tokens x hidden size.

Counts the tensors that autograd saves in a Llama block with an MLP of 2.7 times the width, its weights frozen and
left out. Prints JSON; exit code 1 if the figure is above the one that `trsp_core.budget` plans with.
"""

from __future__ import annotations

import json
import sys

import torch
from machine import machine
from transformers import LlamaConfig, LlamaForCausalLM

from trsp_core.budget import ACTIVATION_FLOATS
from trsp_core.evaluation.losses import final_hidden_states

WIDTH, TOKENS, LAYERS = 576, 512, 4


def kept_bytes(layers: int) -> int:
    """Return the bytes of all that a forward pass through so many layers keeps, weights left out."""
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=WIDTH,
        intermediate_size=int(WIDTH * 8 / 3),
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
    )
    model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            alive.append(tensor)
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        final_hidden_states(model, torch.zeros(1, TOKENS, dtype=torch.long))
    return sum(sizes.values())


def main() -> None:
    """Print what a layer keeps: the difference of two depths."""
    more, fewer = kept_bytes(2 * LAYERS), kept_bytes(LAYERS)
    found = (more - fewer) / LAYERS / (4 * TOKENS * WIDTH)
    print(
        json.dumps({"machine": machine(), "floats": round(found, 2), "planned": ACTIVATION_FLOATS}, indent=2)
    )
    sys.exit(found > ACTIVATION_FLOATS)


if __name__ == "__main__":
    main()
