"""Shortened LLaMA (Kim et al., 2024), criterion Taylor: what the loss would change if a layer's weights were zero."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from trsp_core.budget import batches
from trsp_core.decoder import checkpointed, frozen
from trsp_core.errors import NumericalFailure
from trsp_core.evaluation.losses import mean_loss
from trsp_core.methods.base import Work
from trsp_core.methods.baseline import OneShot
from trsp_core.progress import raise_if_stopped
from trsp_core.trainable import linear_weights


class ShortenedTaylor(OneShot):
    """The sum over a layer's linear maps of |w * dL/dw|, the paper's Taylor+.

    `L` is the mean loss of the whole calibration text, as in the paper's formula. The absolute value of a sum is
    not the sum of absolute values, so the gradient of every linear weight is kept until the last pass: as much
    memory as those weights take. The first four and the last two layers stay, as there.
    """

    name = "shortened-taylor"

    def scores(self, work: Work) -> Mapping[int, float]:
        """Return each layer's first-order importance."""
        weights = linear_weights(work.decoder)
        everything = [weight for layer in weights for weight in layer.values()]
        with frozen(work.decoder.model, everything):
            loss = _backward(work)
            scores = {
                layer: sum(_importance(weight) for weight in part.values())
                for layer, part in enumerate(weights)
            }
        if not math.isfinite(loss) or not all(map(math.isfinite, scores.values())):
            raise NumericalFailure(f"shortened-taylor: the loss is {loss}, the importances are {scores}")
        return scores


def _backward(work: Work) -> float:
    """Add up the gradients of the text's mean loss in the weights; return the loss."""
    total = 0.0
    for part in batches(work.windows, work.passes.gradient_rows):
        raise_if_stopped(work.should_stop)
        loss = _loss(work, part) * (len(part) / len(work.windows))
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    work.tokens.forward += work.windows.numel()
    work.tokens.gradient += work.windows.numel()
    return total


def _loss(work: Work, part: Tensor) -> Tensor:
    ids = part.to(work.decoder.device)
    if not work.passes.checkpointed:
        return mean_loss(work.decoder.model, ids)
    with checkpointed(work.decoder):
        return mean_loss(work.decoder.model, ids)


def _importance(weight: nn.Parameter) -> float:
    """Return the sum of |w * dL/dw|; a weight that the text did not reach has none."""
    if weight.grad is None:
        return 0.0
    return float((weight.detach() * weight.grad).abs().sum().double())
