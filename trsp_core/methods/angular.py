"""Angular distance (Gromov et al., 2024): the block of neighbours that turns the residual stream least goes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from trsp_core.budget import batches
from trsp_core.decoder import through_layers
from trsp_core.errors import InvalidSpec, Problem
from trsp_core.methods.base import Work
from trsp_core.methods.baseline import OneShot
from trsp_core.stage1 import Candidates


class Angular(OneShot):
    """The paper's simple similarity-informed pruning, without its healing (`angular+tune` adds that).

    With `x_i` the input of layer `i` on the last token of a sequence, the block of the `k` layers from `i` on has
    the distance `arccos(cos(x_i, x_{i+k})) / pi`, averaged over the sequences. Only the last
    token is read, as there: it alone has seen the whole sequence. Every layer may go, as there.

    The block is chosen for its length, so that the order is not nested: a shorter block may lie elsewhere.
    """

    name = "angular"

    def scores(self, work: Work) -> Mapping[int, float]:
        """Return for each layer the smallest distance of a block of `work.count` that holds it."""
        states, smallest = last_tokens(work), dict[int, float]()
        for block in self.blocks(work):
            distance = angular_distance(states[block.start], states[block.stop])
            for layer in block:
                smallest[layer] = min(smallest.get(layer, math.inf), distance)
        return smallest

    def blocks(self, work: Work) -> tuple[range, ...]:
        """Return the blocks of neighbours that may go, in order.

        Raises:
            InvalidSpec: If the architecture can lose none.
        """
        alive = Candidates.of(len(work.decoder), self.options, ()).layers
        found = (range(first, first + work.count) for first in alive[: len(alive) - work.count + 1])
        spared = tuple(block for block in found if work.decoder.spares(block))
        if not spared:
            name = work.decoder.architecture.model_type
            message = f"asks for {work.count} neighbouring layers; a {name} can lose no such block."
            raise InvalidSpec(Problem("/target", message, work.count))
        return spared

    def order(self, scores: Mapping[int, float], work: Work) -> tuple[int, ...]:
        """Return the block whose layers all have the smallest score; of several the last."""
        least = min(scores.values())
        best = [block for block in self.blocks(work) if all(scores[layer] == least for layer in block)]
        return tuple(best[-1])


@torch.inference_mode()
def last_tokens(work: Work) -> Tensor:
    """Return the residual stream of the last token before each layer and after the last one, in fp64.

    Shape `[layers + 1, sequences, hidden]`.
    """
    states: list[list[Tensor]] = [[] for _ in range(len(work.decoder) + 1)]
    parts = batches(work.windows, work.passes.forward_rows)
    for layer, _, before, after in through_layers(work.decoder, parts, work.should_stop):
        if layer == 0:
            states[0].append(before[:, -1].double().cpu())
        states[layer + 1].append(after[:, -1].double().cpu())
    work.tokens.forward += work.windows.numel()
    return torch.stack([torch.cat(rows) for rows in states])


def angular_distance(before: Tensor, after: Tensor) -> float:
    """Return the mean angle between rows of `[sequences, hidden]`, as a share of half a turn."""
    cosine = functional.cosine_similarity(before, after, dim=-1).clamp(-1, 1)
    return float(cosine.arccos().mean() / math.pi)
