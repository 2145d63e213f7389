"""What stage 2's optimizers keep a trained weight, in bytes, and how long a step takes, on a layer of SmolLM2-135M.

Steps random gradients on weights of the layer's shapes: what an optimizer keeps depends on nothing else. Needs
the extra `quantized`. Prints JSON; exit code 1 if 8-bit moments keep more than `preflight` plans with.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from machine import machine
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from trsp_core.method_options import ADAMW, ADAMW_8BIT
from trsp_core.optimizer import optimizer_of, states_of
from trsp_core.preflight import MOMENTS

REPEATS = 10
TABLES_BYTES = 2 * 256 * 4
"""The tables of the 8-bit codes, which all weights share."""


def layer() -> dict[str, nn.Parameter]:
    """Return weights with the shapes of a decoder layer of SmolLM2-135M, random."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_attention_heads=9, num_key_value_heads=3
    )
    return dict(LlamaDecoderLayer(config, 0).named_parameters())


def measured(kind: str) -> dict[str, float]:
    """Return bytes of state a weight and milliseconds of the fastest step of one optimizer."""
    weights = layer()
    optimizer = optimizer_of(kind, weights.values(), 1e-4)
    for weight in weights.values():
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    seconds = min(_seconds(optimizer) for _ in range(REPEATS))
    own = {name: of for name, of in states_of(optimizer, weights).items() if not name.startswith("qmap")}
    kept = sum(item.nbytes for of in own.values() for item in of.values())
    kept += TABLES_BYTES if kind == ADAMW_8BIT else 0
    count = sum(weight.numel() for weight in weights.values())
    return {"bytes_a_weight": round(kept / count, 3), "step_ms": round(1000 * seconds, 2)}


def _seconds(optimizer: torch.optim.Optimizer) -> float:
    began = time.perf_counter()
    optimizer.step()
    return time.perf_counter() - began


def main() -> None:
    """Print both optimizers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if find_spec("bitsandbytes") is None:
        print("left out: the extra 'quantized' is not installed")
        return
    rows = {kind: measured(kind) for kind in (ADAMW, ADAMW_8BIT)}
    planned = 4 * MOMENTS[ADAMW_8BIT]
    text = json.dumps({"machine": machine(), "planned_bytes": planned, "rows": rows}, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")
    sys.exit(rows[ADAMW_8BIT]["bytes_a_weight"] > planned)


if __name__ == "__main__":
    main()
