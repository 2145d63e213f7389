"""Language-model losses that never hold the logits of a whole batch.

The logits of 2,048 tokens of a 128k vocabulary take a gigabyte in fp32, more than many a model. Here the
head is applied to a few hundred tokens at a time. Where a gradient is wanted it is taken chunk by chunk in
the forward pass, so that nothing of a chunk's logits outlives it and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trsp_core.architectures import architecture_of

CHUNK_ELEMENTS = 2**22
"""Logits held at once: 16 MiB in fp32, enough to keep a matrix product efficient."""

_MULTIPLIED = ("logit_scale", "lm_head_multiplier")
_DIVIDED = ("logits_mup_width_multiplier",)
_SCALING_MULTIPLIES = ("hyperclovax",)
_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


@dataclass(frozen=True)
class OutputHead:
    """What turns final hidden states into logits.

    Attributes:
        module: The output embedding, behind what else stands after the final norm; its weight may be tied to
            the input embedding.
        scale: Factor on the raw logits.
        softcap: Bound of the logits: `softcap · tanh(logits / softcap)`; None for no bound.
        vocabulary: Number of logits a token.
    """

    module: nn.Module
    scale: float
    softcap: float | None
    vocabulary: int

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the fp32 logits `[…, vocabulary]` of hidden states `[…, hidden]`."""
        logits: Tensor = self.module(hidden).float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def trainable(self) -> tuple[nn.Parameter, ...]:
        """Return the head's weights that take a gradient."""
        return tuple(item for item in self.module.parameters() if item.requires_grad)

    def chunk_tokens(self) -> int:
        """Return how many tokens go through the head at once."""
        return max(1, CHUNK_ELEMENTS // self.vocabulary)


def output_head(model: nn.Module) -> OutputHead:
    """Return the output head of a Hugging Face causal LM, with what its config does to the logits.

    Known fields: `final_logit_softcapping` (Gemma 2 and kin) and `logits_soft_cap` (RecurrentGemma, xLSTM) bound,
    `logit_scale` (Cohere) and `lm_head_multiplier` (Falcon-H1) multiply, `logits_scaling` (Granite, MiniCPM3;
    HyperCLOVA X multiplies) and `logits_mup_width_multiplier` (Inkling) divide.
    """
    causal: Any = model
    last = causal.get_output_embeddings()
    config = causal.config.get_text_config()
    before = architecture_of(causal.config.model_type).before_head
    caps = [cap for name in _SOFTCAPS if (cap := getattr(config, name, None))]
    return OutputHead(
        module=last if before is None else nn.Sequential(causal.get_submodule(before), last),
        scale=_logit_scale(config),
        softcap=caps[0] if caps else None,
        vocabulary=last.weight.shape[0],
    )


def _logit_scale(config: Any) -> float:
    scale = 1.0
    for name in _MULTIPLIED:
        scale *= getattr(config, name, None) or 1.0
    for name in _DIVIDED:
        scale /= getattr(config, name, None) or 1.0
    scaling = float(getattr(config, "logits_scaling", None) or 1.0)
    return scale * scaling if config.model_type in _SCALING_MULTIPLIES else scale / scaling


def final_hidden_states(model: nn.Module, input_ids: Tensor) -> Tensor:
    """Return what the head reads: the states after the final norm and, where there is one, the projection.

    Args:
        model: A Hugging Face causal LM; for a model with adapters, the one that they were put into.
        input_ids: `[batch, tokens]`, without padding.

    Returns:
        `[batch, tokens, hidden]`, differentiable.
    """
    causal: Any = model
    body = causal.get_submodule(architecture_of(causal.config.model_type).base)
    output = body(input_ids=input_ids, use_cache=False, return_dict=True)
    hidden: Tensor = output.last_hidden_state
    return hidden


def mean_loss(model: nn.Module, input_ids: Tensor, *, chunk_tokens: int | None = None) -> Tensor:
    """Return the mean next-token cross-entropy of `[batch, tokens]` ids: a differentiable fp32 scalar, nats.

    Equals `model(input_ids, labels=input_ids).loss` without ever holding all logits.
    """
    hidden = final_hidden_states(model, input_ids)
    return mean_loss_of_hidden(hidden, output_head(model), input_ids, chunk_tokens=chunk_tokens)


def mean_loss_of_hidden(
    hidden: Tensor, head: OutputHead, input_ids: Tensor, *, chunk_tokens: int | None = None
) -> Tensor:
    """Return the mean next-token cross-entropy of final hidden states `[batch, tokens, hidden]`, nats.

    Differentiable with respect to `hidden` and the head's weights, once.
    """
    states = hidden[:, :-1].flatten(0, 1)
    targets = input_ids[:, 1:].flatten().to(states.device)

    def value(part: Tensor, rows: slice) -> Tensor:
        return functional.cross_entropy(head.logits(part), targets[rows], reduction="sum") / len(targets)

    return _chunked(value, states, head, chunk_tokens)


@dataclass(frozen=True)
class Mixture:
    """A weighted mean of two losses.

    Attributes:
        total: It, with its graph; an fp32 scalar, nats.
        lm, distill: What it was made of; 0 for a part without weight.
    """

    total: Tensor
    lm: float
    distill: float


def mean_kl(
    hidden: Tensor,
    head: OutputHead,
    teacher_hidden: Tensor,
    teacher_head: OutputHead,
    *,
    chunk_tokens: int | None = None,
) -> Tensor:
    """Return the mean over tokens of KL(teacher ‖ student): an fp32 scalar, nats.

    Args:
        hidden: The student's final hidden states `[batch, tokens, hidden]`; differentiable, as is its head.
        teacher_hidden: The teacher's, of the same tokens; no gradient flows into it.
    """
    states, wanted = hidden.flatten(0, 1), teacher_hidden.detach().flatten(0, 1)

    def value(part: Tensor, rows: slice) -> Tensor:
        return _kl(head.logits(part), wanted[rows], teacher_head) / len(states)

    return _chunked(value, states, head, chunk_tokens)


def mean_mixture(
    hidden: Tensor,
    head: OutputHead,
    input_ids: Tensor,
    teacher_hidden: Tensor,
    *,
    distill_weight: float,
    chunk_tokens: int | None = None,
) -> Mixture:
    """Return `(cross-entropy + w · KL(teacher ‖ student)) / (1 + w)` over the predicted tokens.

    One pass through the head serves both, which for a small model is a third of a step.

    Args:
        hidden, teacher_hidden: Final hidden states `[batch, tokens, hidden]` of student and teacher.
        input_ids: `[batch, tokens]`.
        distill_weight: `w`.
    """
    states, wanted = hidden[:, :-1].flatten(0, 1), teacher_hidden.detach()[:, :-1].flatten(0, 1)
    targets = input_ids[:, 1:].flatten().to(states.device)
    count, sums = len(targets), [0.0, 0.0]

    def value(part: Tensor, rows: slice) -> Tensor:
        logits = head.logits(part)
        lm = functional.cross_entropy(logits, targets[rows], reduction="sum") / count
        distill = _kl(logits, wanted[rows], head) / count
        sums[0] += lm.item()
        sums[1] += distill.item()
        return (lm + distill_weight * distill) / (1 + distill_weight)

    total = _chunked(value, states, head, chunk_tokens)
    return Mixture(total, sums[0], sums[1])


def _kl(logits: Tensor, teacher_hidden: Tensor, teacher_head: OutputHead) -> Tensor:
    """Return the sum over tokens of KL(teacher ‖ student)."""
    with torch.no_grad():
        target = functional.log_softmax(teacher_head.logits(teacher_hidden), dim=-1)
    found = functional.log_softmax(logits, dim=-1)
    return functional.kl_div(found, target, reduction="sum", log_target=True)


@torch.no_grad()
def token_losses(
    hidden: Tensor, head: OutputHead, input_ids: Tensor, *, chunk_tokens: int | None = None
) -> Tensor:
    """Return the cross-entropy of each predicted token, `[batch, tokens - 1]`, fp32, nats; no gradient."""
    states = hidden[:, :-1].flatten(0, 1)
    targets = input_ids[:, 1:].flatten().to(states.device)
    parts = [
        functional.cross_entropy(head.logits(states[rows]), targets[rows], reduction="none")
        for rows in _rows(len(states), chunk_tokens or head.chunk_tokens())
    ]
    return torch.cat(parts).view(len(input_ids), -1)


_ChunkFn = Callable[[Tensor, slice], Tensor]


def _rows(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _chunked(value: _ChunkFn, states: Tensor, head: OutputHead, chunk_tokens: int | None) -> Tensor:
    """Return the sum of `value` over chunks of `states` `[tokens, hidden]`."""
    size = chunk_tokens or head.chunk_tokens()
    weights = head.trainable()
    if torch.is_grad_enabled() and (states.requires_grad or weights):
        result: Tensor = _ChunkedSum.apply(value, size, states, *weights)  # type: ignore[no-untyped-call]
        return result
    return torch.stack([value(states[rows], rows) for rows in _rows(len(states), size)]).sum()


class _ChunkedSum(torch.autograd.Function):
    """Sum of a scalar function over chunks; keeps its inputs' gradients, never a chunk's graph."""

    @staticmethod
    def forward(ctx: Any, value: _ChunkFn, size: int, states: Tensor, *weights: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        of_states = torch.empty_like(states)
        of_weights = [torch.zeros_like(item) for item in weights]
        for rows in _rows(len(states), size):
            with torch.enable_grad():
                part = states[rows].detach().requires_grad_()
                chunk = value(part, rows)
                of_part, *others = torch.autograd.grad(chunk, (part, *weights))
            total += chunk.detach()
            of_states[rows] = of_part
            for kept, new in zip(of_weights, others, strict=True):
                kept += new
        ctx.save_for_backward(of_states, *of_weights)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(grad.to(item.dtype) * item for item in ctx.saved_tensors)
