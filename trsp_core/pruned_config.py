"""The config of a model with fewer layers: the count, and everything that is told layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from trsp_core.architectures import Architecture
from trsp_core.architectures.record import FUTURE_LAYERS
from trsp_core.errors import InvalidSpec, Problem
from trsp_core.pruned_quantization import QUANTIZATION, pruned_quantization


def check_kept(kept: Sequence[int], layers: int) -> None:
    """Check the indices of the layers that stay.

    Raises:
        InvalidSpec: If they are none, not ascending, repeated or out of range.
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

    What is told layer by layer is read from the source and written for the layers that stay. A pattern that
    the config class would derive from positions is written out from the source's positions, or the layers
    that move up would get another's.

    Args:
        config: The source's, as in `config.json` or from `to_dict()`.
        kept: Source indices of the layers that stay, ascending.
        architecture: The source's.

    Raises:
        InvalidSpec: If `kept` is no selection of the layers, or one whose config cannot be written.
    """
    layers = architecture.count(config)
    check_kept(kept, layers)
    result = copy.deepcopy(dict(config))
    text = architecture.text(config)
    changed = result if architecture.nested is None else result[architecture.nested]
    for pattern in architecture.patterns:
        entries = pattern.read(text, layers)
        if entries is not None:
            changed.update(pattern.write([entries[index] for index in kept]))
    if architecture.counted_by is None or changed.get(architecture.layer_count) is not None:
        changed[architecture.layer_count] = len(kept)
    if architecture.future_layers(config):
        changed[FUTURE_LAYERS] = 0
    if QUANTIZATION in result:
        result[QUANTIZATION] = pruned_quantization(result[QUANTIZATION], kept, layers, architecture.stack)
    return result
