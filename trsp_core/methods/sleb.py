"""SLEB (Song et al., 2024): greedy, one layer a round, each time the one without which the loss is smallest."""

from __future__ import annotations

from dataclasses import replace

from trsp_core.methods.base import Work, tell_choice
from trsp_core.methods.baseline import Baseline
from trsp_core.results import ChoiceRound, PruningPlan
from trsp_core.verification import loss_of, losses_without, tokens_of_trials

_ROUNDS = "stage1"


class Sleb(Baseline):
    """The paper's third metric: the negative log-likelihood of the calibration text without the layer.

    Every unprotected layer that is still there is tried in every round, the layers chosen before switched off.
    The authors' code runs the whole model for each trial; here the hidden states before the tried layer are
    computed once a round, which about halves the work and changes no loss. The first and the last layer stay, as there.
    """

    name = "sleb"

    def plan(self, work: Work) -> PruningPlan:
        """Choose round by round, with a checkpoint after each."""
        plan = self._resumed(work) or self._begun(work)
        while len(plan.order) < work.count and not work.enough(plan):
            plan = self._round(work, plan)
        return plan

    def _begun(self, work: Work) -> PruningPlan:
        dense = loss_of(work.decoder, work.windows, passes=work.passes, should_stop=work.should_stop)
        work.tokens.forward += work.windows.numel()
        return PruningPlan(self.name, len(work.decoder), (), dense_loss=dense)

    def _resumed(self, work: Work) -> PruningPlan | None:
        saved = work.workspace.load(_ROUNDS)
        if saved is None:
            return None
        work.tokens.forward += saved["forward_tokens"]
        return PruningPlan.from_dict(saved)

    def _round(self, work: Work, plan: PruningPlan) -> PruningPlan:
        candidates = self.candidates(work, plan.order)
        losses = losses_without(
            work.decoder,
            work.windows,
            candidates,
            gone=plan.order,
            passes=work.passes,
            should_stop=work.should_stop,
        )
        work.tokens.forward += tokens_of_trials(candidates, plan.layers, work.windows.numel())
        chosen = min(candidates, key=lambda layer: (losses[layer], layer))
        done = ChoiceRound(chosen, losses, losses, losses[chosen])
        plan = replace(plan, order=(*plan.order, chosen), rounds=(*plan.rounds, done))
        work.workspace.save(_ROUNDS, {**plan.to_dict(), "forward_tokens": work.tokens.forward})
        tell_choice(work, plan.order, done)
        return plan
