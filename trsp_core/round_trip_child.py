"""Run as a file by `round_trip`, in a process that knows nothing of this project.

Takes one JSON object as its argument and writes its findings to the file that the object names.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

_TIE_STEPS = 8
_PROMPT_TOKENS = 8


class _Collected(logging.Handler):
    """Keeps what is logged at warning level and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def load(folder: str, dtype: torch.dtype, device: str) -> tuple[Any, list[str]]:
    """Load a model as anybody would; returns it and the warnings that loading gave."""
    collected = _Collected()
    logger = logging.getLogger("transformers")
    logger.addHandler(collected)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    logger.removeHandler(collected)
    return model.to(device).eval(), collected.messages + [str(item.message) for item in caught]


@torch.no_grad()
def logit_difference(model: Any, ids: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the largest absolute difference to the reference logits `[sequences, tokens, vocabulary]`."""
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return float((logits.float().cpu() - reference).abs().max())


def generate(model: Any, ids: torch.Tensor, new_tokens: int, *, use_cache: bool) -> tuple[Any, Any]:
    """Generate greedily past any end-of-text; returns tokens `[new]` and logits `[new, vocabulary]`."""
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        use_cache=use_cache,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences[0, ids.shape[1] :], torch.cat(out.logits)


def same_choices(first: Any, second: Any, logits: torch.Tensor) -> bool:
    """Whether two greedy runs chose the same tokens, up to a tie at the first difference.

    Two logits tie where they differ by less than a few steps of the precision they were computed in; from
    such a place on the runs see different texts and cannot be compared.
    """
    different = (first != second).nonzero()
    if not len(different):
        return True
    place = int(different[0])
    gap = float((logits[place, first[place]] - logits[place, second[place]]).abs())
    step = torch.finfo(logits.dtype).eps * float(logits[place].abs().max())
    return gap <= _TIE_STEPS * step


def main(request: dict[str, Any]) -> None:
    """Load, compare, generate, and write what was found."""
    torch.set_num_threads(request["threads"])
    model, said = load(request["folder"], getattr(torch, request["dtype"]), request["device"])
    reference = load_file(request["reference"])
    ids = reference["input_ids"].to(request["device"])
    difference = logit_difference(model, ids, reference["logits"])
    prompt = ids[:1, :_PROMPT_TOKENS]
    cached, logits = generate(model, prompt, request["new_tokens"], use_cache=True)
    uncached, _ = generate(model, prompt, request["new_tokens"], use_cache=False)
    found = {
        "max_abs_logit_difference": difference,
        "generated_tokens_equal": same_choices(cached, uncached, logits),
        "loader": f"AutoModelForCausalLM.from_pretrained(folder, dtype=torch.{request['dtype']})",
        "warnings": said,
    }
    Path(request["answer"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
