"""Run as a file by `check_gguf`, in a process that knows nothing of this project.

Takes one JSON object as its argument and writes its findings to the file that the object names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

_SHAPE = (2, 32)


def load(place: str, **options: Any) -> Any:
    """Load a model in float32, as anybody would."""
    model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **options)
    return model.eval()


def probe(config: Any) -> torch.Tensor:
    """Draw token ids that the model takes."""
    positions = min(_SHAPE[1], config.max_position_embeddings)
    return torch.randint(
        config.vocab_size, (_SHAPE[0], positions), generator=torch.Generator().manual_seed(0)
    )


@torch.no_grad()
def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return the logits, `[sequences, tokens, vocabulary]`."""
    logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits


@torch.no_grad()
def round_weights(model: Any, kind: str) -> None:
    """Round every weight that is no vector as the type rounds it; what is no whole blocks, to float16."""
    wanted = gguf.GGMLQuantizationType[kind]
    for weight in model.parameters():
        if weight.dim() > 1:
            whole = weight.shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
            used = wanted if whole else gguf.GGMLQuantizationType.F16
            stored = gguf.quants.quantize(weight.numpy(), used)
            weight.copy_(torch.from_numpy(gguf.quants.dequantize(stored, used)))


def share(difference: torch.Tensor, logits: torch.Tensor) -> float:
    """Return the root mean square of a difference over that of the logits, positions' means taken off."""
    sizes = [(item - item.mean(-1, keepdim=True)).square().mean().sqrt() for item in (difference, logits)]
    return float(sizes[0] / sizes[1])


def main(request: dict[str, Any]) -> None:
    """Load both, one after the other, compare, and write what was found."""
    torch.set_num_threads(request["threads"])
    file = Path(request["file"])
    place, options = str(file.parent), {"gguf_file": file.name}
    tokenizers = [
        AutoTokenizer.from_pretrained(request["folder"]),
        AutoTokenizer.from_pretrained(place, **options),
    ]
    texts = [[tokenizer(text)["input_ids"] for text in request["texts"]] for tokenizer in tokenizers]
    config = AutoConfig.from_pretrained(request["folder"])
    own = config.rope_parameters["rope_type"] != "default"
    model = load(request["folder"])
    ids = probe(model.config)
    exact = logits_of(model, ids)
    round_weights(model, request["kind"])
    expected = logits_of(model, ids)
    del model
    given = {**options, "config": config} if own else options
    logits = logits_of(load(place, **given), ids)
    found = {
        "max_abs_logit_difference": float((logits - expected).abs().max()),
        "max_abs_logit": float(expected.abs().max()),
        "rounding": share(logits - exact, exact),
        "own_config": own,
        "tokens_equal": texts[0] == texts[1],
    }
    Path(request["answer"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
