"""What the baselines share: they only choose, most of them by scoring each layer once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from trsp_core.method_options import BaselineOptions, MethodOptions
from trsp_core.methods.base import Transfer, Work
from trsp_core.results import ChoiceRound, PruningPlan
from trsp_core.stage1 import Candidates


class Baseline:
    """A method that leaves the kept weights as they are; `followed` says what may come after it."""

    name: str

    def __init__(self, options: MethodOptions) -> None:
        if not isinstance(options, BaselineOptions):
            raise TypeError(f"{type(self).__name__} needs BaselineOptions")
        self.options = options

    def candidates(self, work: Work, gone: Sequence[int] = ()) -> tuple[int, ...]:
        """Return the layers that may go, in order."""
        return Candidates.of(len(work.decoder), self.options, gone).layers

    def transfer_steps(self, work: Work, plan: PruningPlan) -> int:  # noqa: ARG002
        """Return 0."""
        return 0

    def transfer(self, work: Work, plan: PruningPlan) -> Transfer:  # noqa: ARG002
        """Change nothing."""
        return Transfer()


class OneShot(Baseline, ABC):
    """A method that removes the unprotected layers with the smallest scores, all at once."""

    @abstractmethod
    def scores(self, work: Work) -> Mapping[int, float]:
        """Return a score for each unprotected layer at least; the smallest matters least."""

    def plan(self, work: Work) -> PruningPlan:
        """Choose by the scores."""
        scores = self.scores(work)
        order = self.order(scores, self.candidates(work), work.count)
        alive = {layer: scores[layer] for layer in self.candidates(work)}
        rounds = []
        for layer in order:
            rounds.append(ChoiceRound(layer, dict(alive)))
            del alive[layer]
        work.reporter.step(1, 1, f"{self.name} chose {len(order)} layers", layers=dict(scores), chosen=order)
        return PruningPlan(self.name, len(work.decoder), order, tuple(rounds))

    def order(self, scores: Mapping[int, float], candidates: Sequence[int], count: int) -> tuple[int, ...]:
        """Return the candidates with the smallest scores, smallest first; ties go to the later layer."""
        return tuple(sorted(candidates, key=lambda layer: (scores[layer], -layer))[:count])
