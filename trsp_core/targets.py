"""Targets that only a measurement on the model turns into a number of layers: speed-up and perplexity ratio."""

from __future__ import annotations

import math
from dataclasses import replace

from trsp_core.config import Target
from trsp_core.errors import TargetOutOfReach
from trsp_core.evaluation.speed import share_of_layers
from trsp_core.methods.base import Work
from trsp_core.results import PruningPlan

_SHARE = "speed_target"
_ROUNDING = 1e-9
"""Relative slack, so that a target that is a measured figure itself counts as reached."""


def aimed(work: Work, target: Target) -> Work:
    """Return the work with what a measured target asks of the choice; other targets leave it as it is.

    A wanted speed-up becomes the number of layers, by one timed measurement that the checkpoint keeps; a
    perplexity ratio ends the choice with the first layer that is too much, which `kept` drops again.

    Raises:
        TargetOutOfReach: If even `work.count` layers are too few for the speed-up.
    """
    if target.speedup is not None:
        return replace(work, count=_count_for_speed(work, target.speedup))
    if target.max_perplexity_ratio is not None:
        ratio = target.max_perplexity_ratio
        return replace(work, enough=lambda plan: layers_within(plan, ratio) < len(plan.order))
    return work


def kept(plan: PruningPlan, target: Target) -> PruningPlan:
    """Return the part of the plan that keeps to the target; all of it where that is no perplexity ratio.

    Raises:
        TargetOutOfReach: If already the first choice goes beyond the ratio; says the smallest that it reaches.
    """
    if target.max_perplexity_ratio is None:
        return plan
    count = layers_within(plan, target.max_perplexity_ratio)
    if count == 0:
        raise TargetOutOfReach(
            f"max_perplexity_ratio {target.max_perplexity_ratio:g} cannot be kept: the first choice of"
            f" {plan.method}, layer {plan.order[0]}, takes the calibration perplexity to"
            f" {_rounded_up(ratio_after(plan, 1))} times the dense model's; ask for that or more"
        )
    return plan.prefix(count)


def ratio_after(plan: PruningPlan, count: int) -> float:
    """Return the calibration perplexity after the first `count` choices as a multiple of the dense model's."""
    loss = plan.rounds[count - 1].loss
    if loss is None or plan.dense_loss is None:
        raise ValueError(f"{plan.method} did not measure the loss after each choice")
    return math.exp(min(loss - plan.dense_loss, 700.0))


def layers_within(plan: PruningPlan, ratio: float) -> int:
    """Return how many choices there are before the first that takes the perplexity beyond `ratio`."""
    for count in range(1, len(plan.order) + 1):
        if ratio_after(plan, count) > ratio * (1 + _ROUNDING):
            return count - 1
    return len(plan.order)


def layers_for_speedup(speedup: float, *, share: float, layers: int) -> int:
    """Return the fewest layers whose removal can make the model `speedup` times as fast.

    Removing `k` of the `layers` layers, which together take `share` of a forward pass and equally much each,
    leaves `1 - share * k / layers` of its time. The result may exceed `layers`: then none suffice.
    """
    return max(1, math.ceil(layers * (1 - 1 / speedup) / share * (1 - _ROUNDING)))


def most_speed(count: int, *, share: float, layers: int) -> float:
    """Return how many times as fast the model can be without `count` layers; symbols as above."""
    return 1 / (1 - share * count / layers)


def _count_for_speed(work: Work, speedup: float) -> int:
    share, layers = _measured_share(work), len(work.decoder)
    count = layers_for_speedup(speedup, share=share, layers=layers)
    if count > work.count:
        reachable = math.floor(100 * most_speed(work.count, share=share, layers=layers)) / 100
        raise TargetOutOfReach(
            f"speedup {speedup:g} cannot be reached: the {layers} layers take {share:.0%} of a forward pass, so"
            f" that with at most {work.count} of them gone the model is at most {reachable:g} times as fast;"
            " ask for that or less, or lower protect_first and protect_last"
        )
    message = f"{count} layers must go: the {layers} layers take {share:.0%} of a forward pass"
    work.reporter.step(0, count, message)
    return count


def _measured_share(work: Work) -> float:
    """Return the layers' share of a forward pass, measured once a job, so that it goes on with the same count."""
    saved = work.workspace.load(_SHARE)
    if saved is None:
        ids = work.windows[: work.passes.forward_rows].to(work.decoder.device)
        share = share_of_layers(work.decoder.model, work.decoder.layers, ids, should_stop=work.should_stop)
        saved = {"share": share}
        work.workspace.save(_SHARE, saved)
    return float(saved["share"])


def _rounded_up(ratio: float) -> str:
    """Return a ratio so that asking for what is printed suffices."""
    return f"{math.ceil(1000 * ratio) / 1000:.3f}"
