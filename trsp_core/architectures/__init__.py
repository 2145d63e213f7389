"""One record of facts per `model_type`, and a reason for each that is refused.

A new architecture is one record in `plain.py`, `mixtures.py`, `hybrids.py` or `composites.py`; what can be
derived from its fields is a method of `Architecture`. Torch-free, so that the API can refuse what is not here.
"""

from __future__ import annotations

from typing import Any

from trsp_core.architectures.families import ARCHITECTURES
from trsp_core.architectures.patterns import LAYER_TYPES
from trsp_core.architectures.record import Architecture
from trsp_core.architectures.refusals import REFUSED
from trsp_core.errors import ModelRefused, Problem, closest

__all__ = ["ARCHITECTURES", "LAYER_TYPES", "REFUSED", "Architecture", "architecture_of"]


def architecture_of(model_type: Any) -> Architecture:
    """Return the record of `model_type`.

    Raises:
        ModelRefused: If there is none, saying why, or naming those there are.
    """
    known = tuple(sorted(ARCHITECTURES))
    if not isinstance(model_type, str):
        raise ModelRefused(Problem("/model", _unknown(model_type, known), model_type, known))
    if model_type in ARCHITECTURES:
        return ARCHITECTURES[model_type]
    if model_type in REFUSED:
        message = f"has model_type {model_type!r}, whose layers cannot be taken out: {REFUSED[model_type]}."
        raise ModelRefused(Problem("/model", message, model_type, known))
    raise ModelRefused(
        Problem("/model", _unknown(model_type, known), model_type, known, closest(model_type, known))
    )


def _unknown(model_type: Any, known: tuple[str, ...]) -> str:
    return (
        f"has model_type {model_type!r}, which is not supported; docs/architectures.md lists the {len(known)}"
        " types that are, from llama to mamba2."
    )
