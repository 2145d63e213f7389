"""Text that the dense model writes itself: a sample of what it was trained on, without any data.

Calibration text shows one domain, and a model that is mended on it forgets the others. What the model itself
writes, begun with any token of its vocabulary, comes from all of them: prose, code, lists, dialogue. Distilled
on it, the pruned model keeps what its calibration text does not show.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from trsp_core.budget import batches
from trsp_core.decoder import Decoder
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.quiet import quiet_transformers

TOP_P = 0.95
"""Nucleus that is sampled from, at temperature 1: the far tail of a small model's distribution is noise."""
ROWS = 40
"""Sequences written side by side."""


class _Asking(StoppingCriteria):
    """Asks after each token whether the work should stop."""

    def __init__(self, should_stop: StopFn) -> None:
        self._should_stop = should_stop

    def __call__(self, input_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        raise_if_stopped(self._should_stop)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.no_grad()
def written_by(
    decoder: Decoder, *, sequences: int, length: int, seed: int, should_stop: StopFn = never
) -> Tensor:
    """Return token ids `[sequences, length]` that the model writes; it never ends a text before that.

    Each sequence begins with a token drawn from the whole vocabulary but the model's special tokens.

    Args:
        decoder: The dense model.
        seed: Decides everything, on the same machine.

    Raises:
        Cancelled: If `should_stop` says so.
    """
    firsts = _first_tokens(decoder, sequences, seed)
    with torch.random.fork_rng(devices=_cuda(decoder)), quiet_transformers():
        torch.manual_seed(seed)
        parts = [_continued(decoder, part, length, should_stop) for part in batches(firsts, ROWS)]
    return torch.cat(parts).cpu()


def _first_tokens(decoder: Decoder, sequences: int, seed: int) -> Tensor:
    """Draw `[sequences, 1]` ids."""
    usual = torch.ones(decoder.model.get_input_embeddings().weight.shape[0])
    usual[sorted(_special(decoder))] = 0
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(usual, sequences, replacement=True, generator=generator)[:, None]


def _special(decoder: Decoder) -> set[int]:
    """Return the ids that begin, end or fill a text."""
    config = decoder.model.config.get_text_config()
    found: set[int] = set()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(config, name, None)
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return {token for token in found if 0 <= token < config.vocab_size}


def _continued(decoder: Decoder, firsts: Tensor, length: int, should_stop: StopFn) -> Tensor:
    special = sorted(_special(decoder))
    how = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=length - 1,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=TOP_P,
        suppress_tokens=special or None,
        pad_token_id=0,
    )
    ids = firsts.to(decoder.device)
    made: Tensor = decoder.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=how,
        stopping_criteria=StoppingCriteriaList([_Asking(should_stop)]),
    )
    return made


def _cuda(decoder: Decoder) -> list[torch.device]:
    return [decoder.device] if decoder.device.type == "cuda" else []
