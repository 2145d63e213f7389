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
        order: tuple[int, ...] = ()
        rounds = []
        for _ in range(work.count):
            alive = Candidates.of(len(work.decoder), self.options, order)
            layer = min(alive.spared_by(work.decoder, order), key=lambda layer: (scores[layer], -layer))
            rounds.append(ChoiceRound(layer, {index: scores[index] for index in alive.layers}))
            order = (*order, layer)
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
