"""What all rows share: the model's folder and the token windows, cut once and kept in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trsp_core.calibration.windows import CalibrationBatch, EvaluationWindows, calibration_windows
from trsp_core.checkpoint import load_tokenizer
from trsp_core.compare.request import ComparisonRequest
from trsp_core.compare.results import BatchFacts, TextFacts
from trsp_core.errors import OutputRefused
from trsp_core.job import Prepared
from trsp_core.judge import held_out_windows
from trsp_core.preflight import Preflight
from trsp_core.sources import SourcePolicy, materialize
from trsp_core.workspace import Workspace

_NAME = "inputs"
_BATCH = "calibration"


@dataclass(frozen=True, slots=True)
class _About:
    """What the file's header says beside the ids."""

    revision: str
    folder: str
    sha256: str
    sources: tuple[str, ...]
    texts: tuple[tuple[str, str, bool], ...]


def shared_inputs(
    request: ComparisonRequest, checked: Preflight, policy: SourcePolicy, space: Workspace
) -> Prepared:
    """Return the inputs of an earlier attempt, or read model and texts now and keep them.

    Raises:
        InputRefused: If a text is too short or cannot be read.
        OutputRefused: If the model is no longer the one that the comparison was begun with.
    """
    saved = load_inputs(space)
    if saved is None:
        saved = (_read(request, checked, policy), checked.facts.revision)
        _keep(space, *saved)
    prepared, revision = saved
    if revision != checked.facts.revision:
        message = (
            f"the model {request.model} was changed since this comparison was begun; choose another folder."
        )
        raise OutputRefused(message)
    return prepared


def _read(request: ComparisonRequest, checked: Preflight, policy: SourcePolicy) -> Prepared:
    folder = materialize(checked.source, policy)
    tokenizer = load_tokenizer(folder)
    texts = held_out_windows(request.evaluation, tokenizer, length=checked.window_length, policy=policy)
    calibration = calibration_windows(
        request.calibration.references(),
        tokenizer,
        sequences=request.calibration.sequences,
        length=checked.sequence_length,
        seed=request.calibration.seed,
        policy=policy,
    )
    home = request.home_texts
    return Prepared(folder, calibration, tuple(sorted(texts, key=lambda text: text.name not in home)))


def _keep(space: Workspace, prepared: Prepared, revision: str) -> None:
    tensors = {text.name: text.input_ids for text in prepared.texts}
    about = _About(
        revision,
        str(prepared.folder),
        prepared.calibration.sha256,
        prepared.calibration.sources,
        tuple((text.name, text.sha256, text.held_out) for text in prepared.texts),
    )
    batch = {_BATCH: prepared.calibration.input_ids}
    space.save_tensors(
        _NAME, {**{f"text/{name}": ids for name, ids in tensors.items()}, **batch}, asdict(about)
    )


def load_inputs(space: Workspace) -> tuple[Prepared, str] | None:
    """Return what was kept and the revision of its model, or None where nothing was."""
    saved = space.load_tensors(_NAME)
    if saved is None:
        return None
    tensors, data = saved
    about = _About(**data)
    batch = CalibrationBatch(tensors[_BATCH], about.sha256, tuple(about.sources))
    texts = tuple(
        EvaluationWindows(name, tensors[f"text/{name}"], sha256, held_out)
        for name, sha256, held_out in about.texts
    )
    return Prepared(Path(about.folder), batch, texts), about.revision


def text_facts(
    texts: Sequence[EvaluationWindows], home: Sequence[str], calibrated_on: Sequence[str]
) -> dict[str, TextFacts]:
    """Return what a reader needs to know of each text."""
    return {
        text.name: TextFacts(
            in_domain=text.name in home,
            windows=text.input_ids.shape[0],
            window_length=text.input_ids.shape[1],
            predicted_tokens=text.input_ids.shape[0] * (text.input_ids.shape[1] - 1),
            text_sha256=text.sha256,
            calibration_text=text.name in calibrated_on and not text.held_out,
        )
        for text in texts
    }


def batch_facts(batch: CalibrationBatch) -> BatchFacts:
    """Return the size of the calibration batch and what pins it."""
    sequences, length = batch.input_ids.shape
    return BatchFacts(sequences, length, batch.sha256)
