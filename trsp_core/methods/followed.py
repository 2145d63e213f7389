"""A baseline and what mends its result: it chooses, then TRSP's own refit or plain fine-tuning changes what stays."""

from __future__ import annotations

from dataclasses import replace

from trsp_core.method_options import Afterwards, MethodOptions
from trsp_core.methods.base import Method, Transfer, Work, joined
from trsp_core.methods.trsp import Trsp
from trsp_core.results import PruningPlan


class Followed:
    """`M+absorb` and `M+tune`: comparisons of choices are fair only when the same is done after each.

    Both are corners of stage 2 with the chosen layers gone at once: the refit alone, or gradient steps on the
    text alone. They run in its code, so that a difference in the result is a difference in the choice.
    """

    def __init__(self, chooser: Method, options: MethodOptions, name: str) -> None:
        if not isinstance(options, Afterwards):
            raise TypeError(f"{name} needs options that say what comes after the choice")
        self._chooser = chooser
        self._stage2 = Trsp(options.stage2())
        self._name = name

    def plan(self, work: Work) -> PruningPlan:
        """Choose as the baseline does."""
        return replace(self._chooser.plan(work), method=self._name)

    def transfer_steps(self, work: Work, plan: PruningPlan) -> int:
        """Return the number of refits and gradient steps."""
        return self._chooser.transfer_steps(work, plan) + self._stage2.transfer_steps(work, plan)

    def transfer(self, work: Work, plan: PruningPlan) -> Transfer:
        """Do what the baseline does to the weights, if anything, then what follows."""
        return joined(self._chooser.transfer(work, plan), self._stage2.transfer(work, plan))
