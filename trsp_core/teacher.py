"""The dense model's final hidden states on the calibration text, computed once and mapped from a file.

Distillation needs the dense model's logits at every step. The head never changes in stage 2, so the states
before it say the same at a fraction of the size, and no second copy of the model is held.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from trsp_core.budget import Passes
from trsp_core.decoder import Decoder
from trsp_core.evaluation.losses import final_hidden_states
from trsp_core.progress import StopFn, never, raise_if_stopped


@torch.no_grad()
def teacher_states(
    decoder: Decoder,
    windows: Tensor,
    *,
    path: Path,
    passes: Passes,
    beside: Tensor | None = None,
    should_stop: StopFn = never,
) -> Tensor:
    """Return `[sequences, tokens, hidden]`, mapped from `path`; computed from the model only if it is not there.

    Args:
        decoder: The model that teaches.
        windows: Calibration ids, `[sequences, tokens]`.
        path: File of the raw states; it appears only when complete.
        beside: States of other sequences that follow those of `windows`, `[others, tokens, hidden]`.
    """
    width = decoder.model.get_output_embeddings().weight.shape[1]
    others = 0 if beside is None else len(beside)
    shape = (len(windows) + others, windows.shape[1], width)
    if not path.exists():
        partial = path.with_name(f"{path.name}.partial")
        states = _mapped(partial, shape, decoder.model.dtype)
        for at in range(0, len(windows), passes.forward_rows):
            raise_if_stopped(should_stop)
            part = windows[at : at + passes.forward_rows].to(decoder.device)
            states[at : at + len(part)] = final_hidden_states(decoder.model, part).cpu()
        if beside is not None:
            states[len(windows) :] = beside
        del states
        partial.replace(path)
    return _mapped(path, shape, decoder.model.dtype)


def _mapped(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    size = torch.Size(shape).numel()
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(shape)
