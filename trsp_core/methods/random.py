"""The floor that every method must beat: layers drawn by the seed."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from trsp_core.methods.base import Work
from trsp_core.methods.baseline import OneShot


class Random(OneShot):
    """Layers in an order drawn by the job's seed; the text is not read."""

    name = "random"

    def scores(self, work: Work) -> Mapping[int, float]:
        """Return a random rank for each layer."""
        generator = torch.Generator().manual_seed(work.seed)
        order = torch.randperm(len(work.decoder), generator=generator).tolist()
        return {layer: float(rank) for rank, layer in enumerate(order)}
