"""What the baselines share: they score each layer once and may be followed by the refit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from trsp_core.method_options import BaselineOptions, MethodOptions
from trsp_core.methods.base import Transfer, Work, refit_gaps, refits_of
from trsp_core.results import ChoiceRound, PruningPlan
from trsp_core.stage1 import Candidates


class OneShot(ABC):
    """A method that removes the unprotected layers with the smallest scores, all at once."""

    name: str

    def __init__(self, options: MethodOptions) -> None:
        if not isinstance(options, BaselineOptions):
            raise TypeError(f"{type(self).__name__} needs BaselineOptions")
        self.options = options

    @abstractmethod
    def scores(self, work: Work) -> Mapping[int, float]:
        """Return a score for each layer; the smallest matters least."""

    def plan(self, work: Work) -> PruningPlan:
        """Choose the layers with the smallest scores; ties go to the later layer."""
        scores = self.scores(work)
        candidates = Candidates.of(len(work.decoder), self.options, ()).layers
        order = tuple(sorted(candidates, key=lambda layer: (scores[layer], -layer))[: work.count])
        alive = {layer: scores[layer] for layer in candidates}
        rounds = []
        for layer in order:
            rounds.append(ChoiceRound(layer, dict(alive)))
            del alive[layer]
        work.reporter.step(1, 1, f"{self.name} chose {len(order)} layers", layers=dict(scores), chosen=order)
        return PruningPlan(self.name, len(work.decoder), order, tuple(rounds))

    def transfer_steps(self, work: Work, plan: PruningPlan) -> int:
        """Return the number of refits."""
        return refits_of(work, plan) if self.options.absorb else 0

    def transfer(self, work: Work, plan: PruningPlan) -> Transfer:
        """Refit if the options say so."""
        if not self.options.absorb:
            return Transfer()
        return refit_gaps(work, plan, ridge=self.options.ridge)
