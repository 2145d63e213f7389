"""Loads model folders as a stranger would, in one process, and writes down what each of them does."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

NEW_TOKENS = 8
OF_THE_MACHINE = "falling back to"
"""Said where an optional kernel is not installed, whatever the folder."""


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if OF_THE_MACHINE not in message:
            self.said.append(message)


def greedy(model: Any, prompt: torch.Tensor, *, use_cache: bool) -> list[int]:
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        use_cache=use_cache,
        pad_token_id=0,
    )
    return out[0, prompt.shape[1] :].tolist()


@torch.no_grad()
def findings(folder: Path, heard: _Heard) -> dict[str, Any]:
    expected = load_file(folder / "expected.safetensors")
    heard.said.clear()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    said = list(heard.said)
    ids = expected["input_ids"]
    difference = (model(input_ids=ids, use_cache=False).logits - expected["logits"]).abs().max().item()
    cached, uncached = (greedy(model, ids[:1], use_cache=use) for use in (True, False))
    return {"difference": difference, "cached": cached, "uncached": uncached, "warnings": said}


if __name__ == "__main__":
    torch.set_num_threads(1)
    listener = _Heard()
    logging.getLogger("transformers").addHandler(listener)
    folders, answer = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    found: dict[str, Any] = {}
    for name in folders:
        try:
            found[name] = findings(Path(name), listener)
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    answer.write_text(json.dumps(found))
