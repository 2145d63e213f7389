"""The options of each method, validated by name and range. Torch-free, so that the API can refuse early."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from math import ceil
from types import new_class
from typing import Any

from trsp_core.options import option

ADAMW, ADAMW_8BIT = "adamw", "adamw8bit"
ENOUGH_STEPS = 40
"""Gradient steps that a short text is read more than once for."""
CHOICE_TOKENS = 2_048
"""Tokens that stage 1 reads unless told otherwise."""
SCREENED = 0.25
"""Share of stage 1's text that layers are tried on before the best of them are verified on all of it."""
TRIED = 4
"""Layers that a round tries on that share for each one that it verifies; the first round tries all."""
MOST_OWN_TOKENS = 65_536
"""Text of the model's own that shows every domain; a longer calibration text reads it several times."""


def own_sequences(given: int, length: int, share: float) -> int:
    """Return how many sequences of `length` tokens beside `given` make `share` of all, within the bound."""
    return min(round(given * share / (1 - share)), max(1, MOST_OWN_TOKENS // length)) if share else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodOptions:
    """What every method has: the layers that must stay."""

    protect_first: int = option(
        1, about="Layers at the start that must stay; the embedding's first reader rarely can go.", at_least=0
    )
    protect_last: int = option(
        1, about="Layers at the end that must stay; they shape the logits.", at_least=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineOptions(MethodOptions):
    """Options of a baseline that protects the first and the last layer, as SLEB does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDepthOptions(BaselineOptions):
    """Options of a baseline whose paper lets every layer go."""

    protect_first: int = option(0, about="Layers at the start that must stay; the paper's none.", at_least=0)
    protect_last: int = option(0, about="Layers at the end that must stay; the paper's none.", at_least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortenedOptions(BaselineOptions):
    """Options of the criteria of Shortened LLaMA that need the ends protected."""

    protect_first: int = option(4, about="Layers at the start that must stay; the paper's four.", at_least=0)
    protect_last: int = option(2, about="Layers at the end that must stay; the paper's two.", at_least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LacoOptions(BaselineOptions):
    """Options of LaCo; the defaults are the paper's for a model of 32 layers."""

    protect_first: int = option(
        2,
        about="Layers at the start that are merged into no other; the paper's first base is the second layer.",
        at_least=1,
    )
    protect_last: int = option(0, about="Layers at the end that must stay; the paper's none.", at_least=0)
    merge_layers: int = option(
        4, about="Layers that a merge makes one of (the paper's C).", unit="layers", at_least=2
    )
    interval: int = option(
        2, about="How much further down the next base is after a merge (I).", unit="layers", at_least=1
    )
    threshold: float = option(
        0.65,
        about="Least cosine of the final states with the dense model's that a merge must keep (T); lowered as"
        " far as the number of layers needs.",
        at_least=-1,
        at_most=1,
    )
    similarity_sequences: int = option(
        10, about="Calibration sequences that the similarity is measured on.", unit="sequences", at_least=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrspOptions(MethodOptions):
    """Options of the two stages (method.md's names and symbols)."""

    candidates: str = option(
        "trials",
        about="What names the layers that a round verifies: trials on a part of the text, of all layers before the"
        " first round and then of four times as many as are verified, or gates that are learned anew in each round"
        " (the paper).",
        choices=("trials", "gates"),
    )
    gate: str = option(
        "residual",
        about="What a gate scales: the layer's update of the residual stream, or the paper's whole output.",
        choices=("residual", "output"),
    )
    gate_parts: str = option(
        "layer",
        about="What has a gate of its own: each layer, or attention and MLP of each layer; then a layer's score"
        " is the mean of the two, and whole layers still leave.",
        choices=("layer", "attention+mlp"),
    )
    lambda1: float = option(5e-3, about="Weight of the l1 term on the gates (the paper's).", at_least=0)
    stage1_steps: int = option(
        6, about="Most gate steps a round; a round ends earlier once the gates stand still.", at_least=1
    )
    stage1_sequences: int | None = option(
        None,
        about="Sequences that stage 1 reads; unless given as many as hold 2,048 tokens, enough for one number"
        " a layer.",
        unit="sequences",
        at_least=1,
    )
    gate_learning_rate: float = option(
        0.1, about="Longest step of a gate; the proximal step is scaled by each gate's own gradient.", above=0
    )
    verify_top: int = option(
        2,
        about="Layers a round that are switched off in turn on all of the text; 1 with gates is the paper.",
        at_least=1,
    )
    lambda2: float = option(
        0.3,
        about="Weight of the identity penalty; the paper's 1e-3 is for a gap that is not normalized.",
        at_least=0,
    )
    norm: str = option("l2", about="Norm of the identity penalty.", choices=("l2", "l1"))
    normalize: bool = option(
        True,
        about="Divide the penalty by the norm of the layer's input, so that it means the same at every width.",
    )
    stage2_steps: int | None = option(
        None,
        about="Gradient steps of stage 2; 0 leaves only the refit. Unless given as many as read each calibration"
        " sequence once, but at least 40 as long as none is read more than three times.",
        unit="steps",
        at_least=0,
    )
    batch_sequences: int = option(1, about="Sequences a gradient step.", unit="sequences", at_least=1)
    learning_rate: float | None = option(
        None,
        about="Peak learning rate of AdamW in stage 2; unless given 1e-4 for full, 2e-3 for lora, 3e-4 for norms+down.",
        above=0,
        below=1,
    )
    optimizer: str = option(
        ADAMW,
        about="Optimizer of stage 2: AdamW, or bitsandbytes' with moments of 8 bits, which must be installed.",
        choices=(ADAMW, ADAMW_8BIT),
    )
    trainable: str = option(
        "lora",
        about="Weights that stage 2 changes: adapters that are merged, all but the embedding (the paper), or"
        " norms and MLP outputs.",
        choices=("lora", "full", "norms+down"),
    )
    lora_rank: int = option(16, about="Rank of the adapters where trainable is lora.", at_least=1)
    objective: str = option(
        "distill+lm",
        about="What stage 2 minimises beside the penalty: cross-entropy of the text, KL to the dense model, or"
        " their mean, weighted by distill_weight.",
        choices=("lm", "distill", "distill+lm"),
    )
    distill_weight: float = option(
        1.0, about="Weight of the KL in distill+lm; the cross-entropy has 1.", above=0, at_most=100
    )
    own_text: float = option(
        0.25,
        about="Share of the refit's text that the dense model writes itself, which holds what the calibration text"
        " does not show. The gradient steps read it half as often and there distil only.",
        at_least=0,
        below=1,
    )
    schedule: str = option(
        "split",
        about="When the chosen layers leave: between the steps, after steps under the paper's penalty, with their"
        " update fading to nothing before the end, or at once before the first step.",
        choices=("split", "penalty", "anneal", "removed"),
    )
    anneal_order: str = option(
        "together",
        about="Under anneal, whether the chosen layers fade together, or one after the other in the order in which"
        " they were chosen.",
        choices=("together", "one_by_one"),
    )
    tuned_first: float = option(
        0.2,
        about="Under split, the share of the steps that tune the whole model on the text before layers leave; the"
        " tuned model then teaches.",
        at_least=0,
        at_most=1,
    )
    absorb: bool = option(True, about="Refit the MLP output before each gap in closed form.")
    ridge: float | None = option(
        None,
        about="Strength of the refit's ridge, as a multiple of the mean diagonal of its Gram matrix; chosen on"
        " held-out windows unless given.",
        above=0,
    )
    checkpoint_every: int = option(
        80, about="Steps of stage 2 between checkpoints.", unit="steps", at_least=1
    )

    @property
    def own_steps(self) -> float:
        """Share of the gradient steps that read the model's own text."""
        return self.own_text / 2

    def steps_for(self, sequences: int) -> int:
        """Return the gradient steps that `stage2_steps` means for a text of so many sequences."""
        if self.stage2_steps is not None:
            return self.stage2_steps
        once = ceil(sequences / self.batch_sequences)
        return max(once, min(ENOUGH_STEPS, 3 * once))


class Afterwards(ABC):
    """What is done to the kept layers once a baseline has chosen; joins the baseline's own options."""

    __slots__ = ()

    @abstractmethod
    def stage2(self) -> TrspOptions:
        """Return it in the terms of stage 2."""


def _as_trsp(name: str) -> Any:
    """Declare a field as TRSP has it, its default too, so that a comparison is fair unless told otherwise."""
    item = TrspOptions.__dataclass_fields__[name]
    return field(default=item.default, metadata=item.metadata)


@dataclass(frozen=True, kw_only=True)
class RefitOptions(Afterwards):
    """Options of `+absorb`: the closed-form refit, no gradients."""

    ridge: float | None = _as_trsp("ridge")
    own_text: float = _as_trsp("own_text")

    def stage2(self) -> TrspOptions:
        """Return stage 2 without a gradient step."""
        return TrspOptions(
            schedule="removed",
            objective="lm",
            stage2_steps=0,
            absorb=True,
            ridge=self.ridge,
            own_text=self.own_text,
        )


@dataclass(frozen=True, kw_only=True)
class TuneOptions(Afterwards):
    """Options of `+tune`: plain fine-tuning of what is left, on the text alone."""

    stage2_steps: int | None = _as_trsp("stage2_steps")
    batch_sequences: int = _as_trsp("batch_sequences")
    learning_rate: float | None = _as_trsp("learning_rate")
    optimizer: str = _as_trsp("optimizer")
    trainable: str = _as_trsp("trainable")
    lora_rank: int = _as_trsp("lora_rank")
    checkpoint_every: int = _as_trsp("checkpoint_every")

    def stage2(self) -> TrspOptions:
        """Return stage 2 without penalty, teacher and refit."""
        own = {item.name: getattr(self, item.name) for item in fields(TuneOptions)}
        return TrspOptions(schedule="removed", objective="lm", absorb=False, own_text=0.0, **own)


def followed_by(options: type[MethodOptions], after: type[Afterwards]) -> type[MethodOptions]:
    """Return the options of a baseline that is followed by something: both kinds side by side."""
    name = f"{options.__name__}With{after.__name__}"
    about = {"__module__": __name__, "__doc__": after.__doc__}
    both = new_class(name, (options, after), exec_body=lambda body: body.update(about))
    return dataclass(frozen=True, kw_only=True)(both)


def stage2_of(options: MethodOptions) -> TrspOptions | None:
    """Return the options of the gradient steps that a method takes; None where it takes none."""
    stage2 = options.stage2() if isinstance(options, Afterwards) else options
    return stage2 if isinstance(stage2, TrspOptions) and stage2.stage2_steps != 0 else None
