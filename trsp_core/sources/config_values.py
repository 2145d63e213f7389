"""The plain values of a config.json: of the right kind and in range before anything computes with them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from trsp_core.architectures import Architecture
from trsp_core.sources.policy import refused
from trsp_core.wording import quoted

_LARGEST = 2**31 - 1
_MOST_EXPERTS = 4096
_MOST_LABELS = 100_000
_LONGEST_NAME = 100
_UNBOUNDED = frozenset({"time_step_limit", "__float__"})
_COUNTS: Mapping[str, int] = {
    "num_attention_heads": _LARGEST, "num_key_value_heads": _LARGEST, "n_head": _LARGEST,
    "head_dim": _LARGEST, "intermediate_size": _LARGEST, "ffn_dim": _LARGEST, "n_inner": _LARGEST,
    "word_embed_proj_dim": _LARGEST, "num_experts": _MOST_EXPERTS, "num_local_experts": _MOST_EXPERTS,
    "n_routed_experts": _MOST_EXPERTS, "num_labels": _MOST_LABELS,
}  # fmt: skip
_SWITCHES = (
    "tie_word_embeddings", "use_sliding_window", "is_encoder_decoder", "add_cross_attention",
    "do_layer_norm_before",
)  # fmt: skip


def check_model_type(value: Any) -> None:
    """Refuse a `model_type` that is no name, before it is looked up.

    Raises:
        ModelRefused: Saying what it is.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        raise refused(
            f"has model_type {quoted(value)}, which is not supported; it must be a name such as 'llama'."
        )


def check_values(config: Mapping[str, Any], architecture: Architecture) -> None:
    """Check the kinds and ranges of the numbers and switches that are read here, or that size the model.

    Raises:
        ModelRefused: Naming the key, its value and what would be right.
    """
    text = architecture.text(config)
    if architecture.nested is None:
        for key in (architecture.width, architecture.vocabulary):
            _check_count(text.get(key), key, _LARGEST)
    sizes = dict.fromkeys((architecture.width, architecture.vocabulary, architecture.positions), _LARGEST)
    for key, most in {**sizes, **_COUNTS}.items():
        for value in _each(text.get(key)):
            _check_count(value, key, most)
    bound = text.get("max_window_layers", 0)
    if type(bound) is not int or not 0 <= bound <= _LARGEST:
        raise _wrong("max_window_layers", bound, f"a whole number from 0 to {_LARGEST}")
    for key in _SWITCHES:
        if not isinstance(config.get(key), bool | None):
            raise _wrong(key, config[key], "true or false")
    if config.get("return_dict") not in (None, True):
        raise _wrong("return_dict", config["return_dict"], "true or absent")
    _check_finite(config)


def _each(value: Any) -> Iterator[Any]:
    """Yield a number, or those of a list with one a layer; nothing where it is not stated."""
    if isinstance(value, list):
        yield from value
    elif value is not None:
        yield value


def _check_count(value: Any, key: str, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise _wrong(key, value, f"a whole number from 1 to {most}")


def _wrong(key: str, value: Any, right: str) -> Exception:
    return refused(f"config.json states {quoted(value)} for {key}; it must be {right}.", value)


def _check_finite(value: Any, key: str = "") -> None:
    """Refuse NaN, and infinity where no model means it; JSON has neither, Python reads both."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_finite(item, name)
    elif isinstance(value, list):
        for item in value:
            _check_finite(item, key)
    elif (
        isinstance(value, float) and not math.isfinite(value) and (math.isnan(value) or key not in _UNBOUNDED)
    ):
        raise _wrong(key, value, "a finite number")
