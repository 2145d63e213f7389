"""The last judgement: perplexity and speed of the saved result beside the model that it came from.

Both models are loaded from their folders, so that what is measured is what is delivered, one after the other,
so that memory holds one at a time; for speed the pruned one shares the dense one's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase

from trsp_core.calibration.base import pointing_to
from trsp_core.calibration.windows import EvaluationWindows, evaluation_windows
from trsp_core.checkpoint import load_model
from trsp_core.config import Evaluation, SpeedOptions
from trsp_core.decoder import Decoder
from trsp_core.device import Placement
from trsp_core.evaluation.layerwise import loss_of_windows_by_layer
from trsp_core.evaluation.perplexity import LossSum, loss_of_windows
from trsp_core.evaluation.speed import measure_speed
from trsp_core.progress import StopFn
from trsp_core.results import PerplexityResult, SpeedResult
from trsp_core.sources import SourcePolicy
from trsp_core.streaming import open_decoder
from trsp_core.surgery import pruned_view

Tell = Callable[[int, str], None]
"""Called with the number of windows just done and a line for a person."""


@dataclass(frozen=True)
class Surroundings:
    """Where measurements run, who hears of them and who may stop them."""

    placement: Placement
    tell: Tell
    should_stop: StopFn


def held_out_windows(
    evaluation: Evaluation, tokenizer: PreTrainedTokenizerBase, *, length: int, policy: SourcePolicy
) -> tuple[EvaluationWindows, ...]:
    """Return the windows of each evaluation set, of `length` tokens.

    Raises:
        CalibrationRefused: If a text cannot be read or is too short, pointing at its place in the spec.
    """
    texts = []
    for place, reference in enumerate(evaluation.references()):
        with pointing_to(f"/evaluation/perplexity/{place}"):
            texts.append(
                evaluation_windows(
                    reference, tokenizer, length=length, limit=evaluation.windows, policy=policy
                )
            )
    return tuple(texts)


def perplexities(
    model: nn.Module, texts: Sequence[EvaluationWindows], around: Surroundings, *, who: str
) -> dict[str, float]:
    """Return the perplexity of each text, by its name."""
    return {text.name: _perplexity(partial(loss_of_windows, model), text, around, who) for text in texts}


def _perplexity(
    measure: Callable[..., LossSum], text: EvaluationWindows, around: Surroundings, who: str
) -> float:
    seen = 0

    def on_step(done: int, total: int) -> None:
        nonlocal seen
        around.tell(done - seen, f"perplexity of the {who} model on {text.name}: window {done} of {total}")
        seen = done

    return measure(text.input_ids, on_step=on_step, should_stop=around.should_stop).perplexity


def perplexities_of_folder(
    folder: Path, texts: Sequence[EvaluationWindows], around: Surroundings, *, who: str
) -> dict[str, float]:
    """Open a model, whole or streamed as it is placed, and return the perplexity of each text."""
    decoder = open_decoder(folder, around.placement)
    if not around.placement.streamed:
        return perplexities(decoder.model, texts, around, who=who)
    measure = partial(loss_of_windows_by_layer, decoder)
    return {text.name: _perplexity(measure, text, around, who) for text in texts}


def speed_of_removal(
    folder: Path,
    kept: Sequence[int],
    options: SpeedOptions,
    around: Surroundings,
    *,
    seed: int,
) -> dict[str, SpeedResult]:
    """Measure a dense model against itself without some layers; the values of its weights do not matter."""
    dense = load_model(folder, dtype=around.placement.dtype, device=around.placement.device)
    modules = Decoder(dense).layers
    removed = [layer for layer in range(len(modules)) if layer not in set(kept)]
    return measure_speed(
        dense,
        pruned_view(dense, kept),
        options,
        layer_modules=modules,
        removed=removed,
        seed=seed,
        on_step=lambda done, total: around.tell(0, f"speed: repeat {done} of {total}"),
        should_stop=around.should_stop,
    )


def paired(
    texts: Sequence[EvaluationWindows],
    dense: Mapping[str, float] | None,
    pruned: Mapping[str, float] | None,
    *,
    calibrated_on: Sequence[str] = (),
) -> dict[str, PerplexityResult]:
    """Return dense and pruned perplexities side by side, with what a reader needs to repeat them."""
    return {
        text.name: PerplexityResult(
            dense=dense[text.name] if dense else None,
            pruned=pruned[text.name] if pruned else None,
            windows=text.input_ids.shape[0],
            window_length=text.input_ids.shape[1],
            predicted_tokens=text.input_ids.shape[0] * (text.input_ids.shape[1] - 1),
            text_sha256=text.sha256,
            calibration_text=text.name in calibrated_on and not text.held_out,
        )
        for text in texts
    }
