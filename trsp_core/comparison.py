"""Evaluation on its own: one model, or two on the same windows of text and side by side in time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from trsp_core.calibration.base import check_text
from trsp_core.calibration.windows import EvaluationWindows
from trsp_core.checkpoint import load_model, load_tokenizer
from trsp_core.config import Evaluation
from trsp_core.decoder import Decoder
from trsp_core.device import Placement, place
from trsp_core.errors import ModelRefused, Problem
from trsp_core.evaluation.memory import environment, peak_rss_bytes
from trsp_core.evaluation.speed import measure_speed
from trsp_core.judge import Surroundings, held_out_windows, paired, perplexities_of_folder
from trsp_core.options import read
from trsp_core.preflight import window_of
from trsp_core.progress import StopFn
from trsp_core.results import ModelFacts, SpeedResult
from trsp_core.sources import Source, SourcePolicy, inspect, materialize, resolve


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be measured.

    Attributes:
        model: The model, a reference.
        against: The dense model that it is compared with, a reference; None for one model alone.
        evaluation: Sets, windows and speed sizes.
        seed: Seed of the random prompts of the speed test.
        device: auto, cpu, cuda or cuda:N.
    """

    model: str
    against: str | None
    evaluation: Evaluation
    seed: int
    device: str

    @classmethod
    def of(
        cls, *, model: str, against: str | None, evaluation: Mapping[str, Any], seed: int, device: str
    ) -> EvaluationRequest:
        """Build a request from the spec's JSON form of `evaluation`.

        Raises:
            InvalidSpec: If a field is wrong.
        """
        return cls(model, against, read(Evaluation, evaluation, "/evaluation"), seed, device)


@dataclass(frozen=True)
class _Found:
    """A model that was found and checked, nothing of it read but its headers."""

    source: Source
    facts: ModelFacts


@dataclass(frozen=True)
class _Opened:
    """A model as a folder of safetensors."""

    facts: ModelFacts
    folder: Path


def evaluate_models(
    request: EvaluationRequest,
    *,
    tell: Callable[[str], None],
    should_stop: StopFn,
    policy: SourcePolicy | None = None,
) -> dict[str, Any]:
    """Measure and return JSON: `model`, `against`, `perplexity`, `speed`, `resources`, `environment`.

    Raises:
        InputRefused: Before any work, if something asked for cannot be done.
    """
    policy = policy or SourcePolicy.from_environment()
    found = [_find(request.model, "/model", policy)]
    found += [_find(request.against, "/against", policy)] if request.against else []
    length = _checked(request, found, policy)
    placement = place(request.device, "auto", found[-1].facts)
    model, *others = [_Opened(item.facts, materialize(item.source, policy)) for item in found]
    dense = others[0] if others else None
    tokenizer = load_tokenizer(model.folder)
    if dense:
        _check_tokenizers(tokenizer, load_tokenizer(dense.folder))
    texts = held_out_windows(request.evaluation, tokenizer, length=length, policy=policy)
    around = Surroundings(placement, lambda _, message: tell(message), should_stop)
    return {
        "model": model.facts.to_dict(),
        "against": dense.facts.to_dict() if dense else None,
        "perplexity": _perplexity(model, dense, texts, around),
        "speed": {name: asdict(item) for name, item in _speed(request, model, dense, around).items()},
        "resources": {"peak_rss_bytes": peak_rss_bytes()},
        "environment": environment(placement.device),
    }


def _find(reference: str, pointer: str, policy: SourcePolicy) -> _Found:
    try:
        source = resolve(reference, policy)
        return _Found(source, inspect(source))
    except ModelRefused as error:
        raise ModelRefused(*(replace(item, pointer=pointer) for item in error.problems)) from error


def _checked(request: EvaluationRequest, found: Sequence[_Found], policy: SourcePolicy) -> int:
    """Refuse what headers and file sizes can tell; return the tokens of a window that all models take."""
    if request.evaluation.speed and len(found) == 1:
        message = "needs a dense model to be measured beside: add --against."
        raise ModelRefused(Problem("/evaluation/speed", message, True))
    length = min(window_of(request.evaluation, item.facts) for item in found)
    for number, reference in enumerate(request.evaluation.references()):
        check_text(reference, length, policy, pointer=f"/evaluation/perplexity/{number}")
    return length


def _check_tokenizers(given: PreTrainedTokenizerBase, dense: PreTrainedTokenizerBase) -> None:
    """Refuse two models that read a text as other tokens: their perplexities cannot be compared."""
    if given.get_vocab() != dense.get_vocab():
        message = (
            f"has another tokenizer ({len(dense.get_vocab())} tokens) than the model ({len(given.get_vocab())});"
            " perplexities of two tokenizers cannot be compared. Give the model that this one was made from."
        )
        raise ModelRefused(Problem("/against", message))


def _perplexity(
    model: _Opened, dense: _Opened | None, texts: Sequence[EvaluationWindows], around: Surroundings
) -> dict[str, dict[str, Any]]:
    """Measure both one after the other, so that memory holds one at a time."""
    found = perplexities_of_folder(model.folder, texts, around, who="given")
    gc.collect()
    base = perplexities_of_folder(dense.folder, texts, around, who="dense") if dense else None
    gc.collect()
    return {name: asdict(item) for name, item in paired(texts, base, found).items()}


def _speed(
    request: EvaluationRequest, model: _Opened, dense: _Opened | None, around: Surroundings
) -> dict[str, SpeedResult]:
    """Measure both side by side; the ceiling counts as many of the dense model's layers as are missing."""
    options = request.evaluation.speed
    if options is None or dense is None:
        return {}
    whole, cut = _loaded(dense, around.placement), _loaded(model, around.placement)
    modules = Decoder(whole).layers
    missing = max(0, len(modules) - model.facts.layers)
    return measure_speed(
        whole,
        cut,
        options,
        layer_modules=modules,
        removed=range(len(modules) - missing, len(modules)),
        seed=request.seed,
        on_step=lambda done, total: around.tell(0, f"speed: repeat {done} of {total}"),
        should_stop=around.should_stop,
    )


def _loaded(opened: _Opened, placement: Placement) -> Any:
    return load_model(opened.folder, dtype=placement.dtype, device=placement.device)
