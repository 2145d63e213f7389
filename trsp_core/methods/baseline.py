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
        """Return the layers that may go once `gone` have left, in order.

        Raises:
            InvalidSpec: If the architecture can lose none of them.
        """
        return Candidates.of(len(work.decoder), self.options, gone).spared_by(work.decoder, gone)

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
        """Return a score for each layer that may go; the smallest matters least."""

    def plan(self, work: Work) -> PruningPlan:
        """Choose by the scores."""
        scores = self.scores(work)
        order = self.order(scores, work)
        rounds = []
        for place, layer in enumerate(order):
            alive = Candidates.of(len(work.decoder), self.options, order[:place]).layers
            rounds.append(ChoiceRound(layer, {index: scores[index] for index in alive if index in scores}))
        work.reporter.step(1, 1, f"{self.name} chose {len(order)} layers", layers=dict(scores), chosen=order)
        return PruningPlan(self.name, len(work.decoder), order, tuple(rounds))

    def order(self, scores: Mapping[int, float], work: Work) -> tuple[int, ...]:
        """Return the layers with the smallest scores, smallest first; ties go to the later layer."""
        order: tuple[int, ...] = ()
        while len(order) < work.count:
            layer = min(self.candidates(work, order), key=lambda layer: (scores[layer], -layer))
            order = (*order, layer)
        return order
