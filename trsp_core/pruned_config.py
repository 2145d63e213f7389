"""The config of a model with fewer layers: the count, and everything that is told layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from trsp_core.architectures import LAYER_TYPES, Architecture
from trsp_core.errors import InvalidSpec, Problem
from trsp_core.pruned_quantization import QUANTIZATION, pruned_quantization

_DEFAULT_WINDOW = 4096
_DEFAULT_WINDOW_LAYERS = 28


def check_kept(kept: Sequence[int], layers: int) -> None:
    """Check the indices of the layers that stay.

    Raises:
        InvalidSpec: If they are none, all, not ascending, repeated or out of range.
    """
    wrong = [index for index in kept if not 0 <= index < layers]
    if wrong:
        message = f"names layer {wrong[0]}; the model has layers 0 to {layers - 1}."
        raise InvalidSpec(Problem("/layers", message, wrong[0], f"0 to {layers - 1}"))
    if not kept or list(kept) != sorted(set(kept)):
        message = f"leaves the layers {list(kept)}; at least one must stay, each once, in ascending order."
        raise InvalidSpec(Problem("/layers", message, list(kept)))


def pruned_config(
    config: Mapping[str, Any], kept: Sequence[int], architecture: Architecture
) -> dict[str, Any]:
    """Return the config of the model that has only the layers `kept`; `config` is left as it is.

    Lists with an entry a layer are sliced. A pattern that the config class would derive from positions is
    written out from the source's positions first, or the layers that move up would get another's.

    Args:
        config: The source's, as in `config.json` or from `to_dict()`.
        kept: Source indices of the layers that stay, ascending.
        architecture: The source's.
    """
    layers = config[architecture.layer_count]
    check_kept(kept, layers)
    result = copy.deepcopy(dict(config))
    if architecture.derives_layer_types:
        if result.get(LAYER_TYPES) is None:
            result[LAYER_TYPES] = derived_layer_types(config, layers)
        bound = config.get("max_window_layers", _DEFAULT_WINDOW_LAYERS)
        result["max_window_layers"] = sum(index < bound for index in kept)
    for name in architecture.per_layer_lists:
        if result.get(name) is not None:
            result[name] = [result[name][index] for index in kept]
    if QUANTIZATION in result:
        result[QUANTIZATION] = pruned_quantization(result[QUANTIZATION], kept, layers, architecture.stack)
    result[architecture.layer_count] = len(kept)
    return result


def derived_layer_types(config: Mapping[str, Any], layers: int) -> list[str]:
    """Return what Qwen2 and Qwen3 derive where `layer_types` is absent: sliding windows from a layer on."""
    slides = config.get("use_sliding_window", False) and config.get("sliding_window", _DEFAULT_WINDOW)
    bound = config.get("max_window_layers", _DEFAULT_WINDOW_LAYERS)
    return ["sliding_attention" if slides and index >= bound else "full_attention" for index in range(layers)]
