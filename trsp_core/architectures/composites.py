"""Records of models that hold a text model beside a vision or an audio model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trsp_core.architectures.common import LLAMA, QWEN2
from trsp_core.architectures.hybrids import HYBRIDS
from trsp_core.architectures.plain import PLAIN
from trsp_core.architectures.record import Architecture, Forbidden

_NESTED = replace(
    LLAMA,
    layers="model.language_model.layers",
    embedding="model.language_model.embed_tokens",
    final_norm="model.language_model.norm",
    stored_as=(("model.language_model", "language_model.model"), ("lm_head", "language_model.lm_head")),
    nested="text_config",
)


def _text_of(record: Architecture, *model_types: str, **changes: Any) -> Architecture:
    """Return the record of a model whose text model is of one of these types, held in `text_config`."""
    reason = f"the text model must be of type {' or '.join(model_types)}"
    other = Forbidden("model_type", reason, lambda value: value not in (None, *model_types))
    return replace(record, forbidden=(other,), **changes)


COMPOSITES: Mapping[str, Architecture] = {
    # A text model beside a vision or an audio model, which stays as it is.
    "fuyu": _text_of(
        _NESTED,
        "persimmon",
        final_norm="model.language_model.final_layernorm",
        mlp_output="mlp.dense_4h_to_h",
    ),
    "gemma3": _text_of(
        _NESTED,
        "gemma3_text",
        mlp_output_joins=False,
        patterns=PLAIN["gemma3_text"].patterns,
        ties_by_default=True,
    ),
    "got_ocr2": _text_of(_NESTED, "qwen2", attention="eager", patterns=QWEN2.patterns, ties_by_default=True),
    "moss_transcribe_diarize": _text_of(_NESTED, "qwen3", patterns=QWEN2.patterns, ties_by_default=True),
    # Loaded as a causal LM, these leave their vision model out.
    "qwen3_5": _text_of(
        HYBRIDS["qwen3_5_text"],
        "qwen3_5_text",
        stored_as=(("model", "model.language_model"),),
        nested="text_config",
    ),
    "qwen3_5_moe": _text_of(
        HYBRIDS["qwen3_5_moe_text"],
        "qwen3_5_moe_text",
        stored_as=(("model", "model.language_model"),),
        nested="text_config",
    ),
}
