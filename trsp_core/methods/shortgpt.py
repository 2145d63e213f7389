"""ShortGPT (Men et al., 2024): a layer that turns the residual stream little matters little."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from trsp_core.budget import batches
from trsp_core.decoder import through_layers
from trsp_core.methods.base import Work
from trsp_core.methods.baseline import OneShot


class ShortGpt(OneShot):
    """Block influence: one minus the mean cosine of a layer's input and output, one pass over the text."""

    name = "shortgpt"

    @torch.inference_mode()
    def scores(self, work: Work) -> Mapping[int, float]:
        """Return each layer's block influence, averaged over all tokens of the calibration text."""
        sums = [0.0] * len(work.decoder)
        parts = batches(work.windows, work.passes.forward_rows)
        for layer, _, before, after in through_layers(work.decoder, parts, work.should_stop):
            sums[layer] += _influence(before, after)
        work.tokens.forward += work.windows.numel()
        return {layer: total / work.windows.numel() for layer, total in enumerate(sums)}


def _influence(before: Tensor, after: Tensor) -> float:
    """Return the sum over tokens of one minus the cosine, in fp32 (half precision loses small angles)."""
    cosine = functional.cosine_similarity(before.float(), after.float(), dim=-1)
    return float((1 - cosine).sum())
