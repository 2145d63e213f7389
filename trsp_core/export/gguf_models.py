"""Which model folders can become GGUF, and what of their configs GGUF cannot say. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trsp_core.errors import ModelRefused, Problem
from trsp_core.export.gguf_vocabulary import read_vocabulary
from trsp_core.results import ModelFacts
from trsp_core.sources.policy import Source
from trsp_core.sources.validate import CONFIG, read_json

POINTER = "/export/formats"
DEFAULT_ROTATION = "default"
_AS_FACTORS = (DEFAULT_ROTATION, "linear", "llama3")
_HEAD_OF_QWEN3 = 128


@dataclass(frozen=True, slots=True)
class GgufFamily:
    """How a `model_type` is written.

    Attributes:
        architecture: GGUF's name of the architecture.
        permuted: Query and key rows are stored in the order of llama.cpp's rotary embedding.
        rotations: Kinds of rotary embedding that the file can state; all but the default as a tensor of factors.
        window: Sliding window where the config states none.
        window_switch: Config key that must be true for the window to hold.
        head_size: The head size that readers take for given; None where the file states it.
    """

    architecture: str
    permuted: bool = False
    rotations: tuple[str, ...] = (DEFAULT_ROTATION,)
    window: int | None = None
    window_switch: str | None = None
    head_size: int | None = None


FAMILIES: Mapping[str, GgufFamily] = {
    "llama": GgufFamily("llama", permuted=True, rotations=_AS_FACTORS),
    "mistral": GgufFamily("llama", permuted=True, rotations=_AS_FACTORS, window=4096),
    "qwen2": GgufFamily("qwen2", window=4096, window_switch="use_sliding_window"),
    "qwen3": GgufFamily("qwen3", window=4096, window_switch="use_sliding_window", head_size=_HEAD_OF_QWEN3),
    "phi3": GgufFamily("phi3"),
}


def check_source(source: Source, facts: ModelFacts) -> None:
    """Refuse a source whose result could not be written as GGUF, as far as its headers tell.

    Raises:
        ModelRefused: With the reason.
    """
    if not source.path.is_dir():
        family_of({"model_type": facts.model_type})
        return
    config = read_json(source.path / CONFIG)
    try:
        family_of(config)
    except (AttributeError, TypeError) as error:
        raise _refused(f"{CONFIG} has a value of the wrong type: {error}.", CONFIG) from error
    read_vocabulary(source.path, facts.vocabulary)


def family_of(config: Mapping[str, Any]) -> GgufFamily:
    """Return how a model is written as GGUF.

    Args:
        config: The folder's, with or without the values that equal their default.

    Raises:
        ModelRefused: If GGUF, or a reader of it, cannot be told everything that the config says.
    """
    model_type = config.get("model_type")
    family = FAMILIES.get(str(model_type))
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise _refused(f"gguf is not written for {model_type!r} models; it is for {known}.", model_type)
    _check_rotation(config, family)
    _check_window(config, family)
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise _refused(f"gguf has no key for {key}, which this model sets.", key)
    if config.get("hidden_act", "silu") != "silu":
        raise _refused(f"gguf takes silu for given; this model uses {config['hidden_act']}.", "hidden_act")
    if family.head_size is not None and config.get("head_dim", family.head_size) != family.head_size:
        message = f"readers of gguf take heads of {family.head_size} for given; this model has {config['head_dim']}."
        raise _refused(message, config["head_dim"])
    return family


def rotation_of(config: Mapping[str, Any]) -> str:
    """Return the kind of rotary embedding that a config names."""
    rotation = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return str(rotation.get("rope_type") or rotation.get("type") or DEFAULT_ROTATION)


def _check_rotation(config: Mapping[str, Any], family: GgufFamily) -> None:
    kind = rotation_of(config)
    if kind not in family.rotations:
        known = ", ".join(family.rotations)
        message = (
            f"gguf's {family.architecture} is written with the rope scaling {known}; this model's is {kind}."
        )
        raise _refused(message, kind)
    rotation = config.get("rope_parameters") or {}
    share = config.get("partial_rotary_factor") or rotation.get("partial_rotary_factor") or 1.0
    if share != 1.0:
        raise _refused(f"transformers does not read partial rotation ({share}) from gguf.", share)


def _check_window(config: Mapping[str, Any], family: GgufFamily) -> None:
    if family.window_switch is not None and not config.get(family.window_switch, False):
        return
    window, positions = config.get("sliding_window", family.window), config.get("max_position_embeddings")
    if window is not None and (positions is None or window < positions):
        windows = f"{window} of {positions} tokens"
        message = f"gguf's {family.architecture} has no sliding window, and this model's is {windows}."
        raise _refused(message, window)


def _refused(message: str, value: Any) -> ModelRefused:
    return ModelRefused(Problem(POINTER, message, value))
