"""Merging layers: what the following layers have beside an earlier one is added to it, and they go.

    w' = w + sum over the merged layers r of (w_r - w)        (LaCo, Yang et al., 2024)

for every linear map of the layer that stays, attention's and MLP's; norms stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trsp_core.budget import Passes, batches
from trsp_core.decoder import Decoder, switched_off
from trsp_core.evaluation.losses import final_hidden_states
from trsp_core.progress import StopFn, raise_if_stopped
from trsp_core.results import ChoiceRound, PruningPlan
from trsp_core.trainable import linear_weights


@dataclass(frozen=True, slots=True)
class Merge:
    """One merge.

    Attributes:
        base: The layer that stays.
        gone: The layers that are merged into it, ascending, all behind it.
        similarity: How like the dense model's final states those of the merged model are, -1 to 1.
    """

    base: int
    gone: tuple[int, ...]
    similarity: float

    def rounds(self) -> tuple[ChoiceRound, ...]:
        """Return a round for each layer that goes; all of a merge have the same scores, by which it is known."""
        scores = dict.fromkeys(self.gone, 1 - self.similarity)
        return tuple(ChoiceRound(layer, scores) for layer in self.gone)


def merges_of(plan: PruningPlan) -> tuple[Merge, ...]:
    """Return the merges that a plan's rounds stand for, in their order."""
    merges: list[Merge] = []
    gone: set[int] = set()
    for item in plan.rounds:
        if item.layer in gone:
            continue
        group = tuple(sorted(item.scores))
        base = max(layer for layer in range(group[0]) if layer not in gone)
        merges.append(Merge(base, group, 1 - item.scores[item.layer]))
        gone.update(group)
    return tuple(merges)


def are_alike(decoder: Decoder, layers: Sequence[int]) -> bool:
    """Whether layers have linear maps of the same names and shapes, so that their differences mean something."""
    weights = linear_weights(decoder)
    paths = [
        [(name.split(f".{layer}.", 1)[1], weight.shape) for name, weight in weights[layer].items()]
        for layer in layers
    ]
    return all(item == paths[0] for item in paths)


@torch.no_grad()
def merge(decoder: Decoder, base: int, gone: Sequence[int]) -> dict[str, Tensor]:
    """Merge `gone` into `base`, in place; the layers stay in the model.

    Returns:
        The weights of `base` as they were, by their full names.
    """
    weights = linear_weights(decoder)
    before = {}
    others = zip(*(weights[layer].values() for layer in gone), strict=True)
    for (name, weight), merged in zip(weights[base].items(), others, strict=True):
        before[name] = weight.detach().clone()
        differences = torch.stack([other.float() - weight.float() for other in merged])
        weight.add_(differences.sum(dim=0).to(weight.dtype))
    return before


@torch.inference_mode()
def final_states(
    decoder: Decoder, windows: Tensor, gone: Sequence[int], *, passes: Passes, should_stop: StopFn
) -> Tensor:
    """Return what the head would read without the layers `gone`, `[sequences, tokens, hidden]`, on the CPU.

    Raises:
        Cancelled: If `should_stop` says so, between any two passes.
    """
    parts = []
    with switched_off(decoder, gone):
        for part in batches(windows, passes.forward_rows):
            raise_if_stopped(should_stop)
            parts.append(final_hidden_states(decoder.model, part.to(decoder.device)).cpu())
    return torch.cat(parts)


def similarity_of(one: Tensor, other: Tensor) -> float:
    """Return the mean over sequences of the cosine between all states of a sequence taken as one vector.

    Args:
        one, other: `[sequences, tokens, hidden]`.
    """
    cosines = functional.cosine_similarity(one.flatten(1).double(), other.flatten(1).double(), dim=1)
    return float(cosines.mean())
