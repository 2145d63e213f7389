"""TRSP: trials or gates choose the layers (stage 1), what they know moves to those that stay (stage 2)."""

from __future__ import annotations

from trsp_core.method_options import CHOICE_TOKENS, MethodOptions, TrspOptions
from trsp_core.methods.base import Transfer, Work, tell_choice
from trsp_core.methods.knowledge_transfer import KnowledgeTransfer
from trsp_core.results import PruningPlan
from trsp_core.stage1 import GateState, GateStep, choose_layers, plan_of

_STATE = "stage1"


class Trsp:
    """The method of this project; `stage1` and `knowledge_transfer` say what its stages compute."""

    def __init__(self, options: MethodOptions) -> None:
        if not isinstance(options, TrspOptions):
            raise TypeError("Trsp needs TrspOptions")
        self.options = options

    def plan(self, work: Work) -> PruningPlan:
        """Run stage 1, with a checkpoint after every round."""
        saved = work.workspace.load(_STATE)
        state = GateState.from_dict(saved) if saved else None
        state = choose_layers(
            work.decoder,
            work.windows[: self._sequences(work)],
            work.count,
            self.options,
            passes=work.passes,
            state=state,
            on_step=lambda step: self._tell_gates(work, step),
            on_round=lambda done: self._keep_round(work, done),
            enough=lambda done: work.enough(self._plan(work, done)),
            should_stop=work.should_stop,
        )
        work.tokens.forward += state.forward_tokens
        return self._plan(work, state)

    def _plan(self, work: Work, state: GateState) -> PruningPlan:
        return plan_of(state, method="trsp", layers=len(work.decoder))

    def _sequences(self, work: Work) -> int:
        enough = max(1, CHOICE_TOKENS // work.windows.shape[1])
        return self.options.stage1_sequences or enough

    def transfer_steps(self, work: Work, plan: PruningPlan) -> int:
        """Return the number of gradient steps and refits."""
        return KnowledgeTransfer(work, plan, self.options).length

    def transfer(self, work: Work, plan: PruningPlan) -> Transfer:
        """Run stage 2."""
        return KnowledgeTransfer(work, plan, self.options).run()

    def _tell_gates(self, work: Work, step: GateStep) -> None:
        work.reporter.step(
            step.round,
            work.count,
            f"round {step.round + 1}, gate step {step.step}",
            metrics={"loss": step.loss, "movement": step.movement},
            layers=step.gates,
        )

    def _keep_round(self, work: Work, state: GateState) -> None:
        work.workspace.save(_STATE, state.to_dict())
        tell_choice(work, state.order, state.rounds[-1])
