"""What is known of a model without loading it: from config and tensor headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trsp_core.architectures import Architecture
from trsp_core.results import ModelFacts
from trsp_core.safetensors_file import DTYPE_NAMES, TensorInfo
from trsp_core.sources.gguf_file import GgufHeader, gguf_model_type, read_gguf_header
from trsp_core.sources.gguf_types import GGUF_TYPES
from trsp_core.sources.policy import Source, refused
from trsp_core.sources.validate import (
    CONFIG,
    MAX_LAYERS,
    check_config,
    check_tensors,
    read_json,
    tensor_table,
    weight_files,
)
from trsp_core.wording import quoted

_MOST = 2**31 - 1


def inspect(source: Source) -> ModelFacts:
    """Return what headers tell of a model that `resolve` returned; torch-free, reads no weights.

    Raises:
        ModelRefused: If its files were damaged since.
    """
    if source.path.is_dir():
        return _folder_facts(source)
    return _gguf_facts(source)


def _folder_facts(source: Source) -> ModelFacts:
    config = read_json(source.path / CONFIG)
    architecture = check_config(config, quantized=True)
    stored = tensor_table(source.path)
    check_tensors(stored, config, architecture)
    tensors = _weights(stored, config, architecture)
    layers = _layer_parameters(tensors, architecture, architecture.count(config))
    text = architecture.text(config)
    vocabulary, width = _embedding_of(tensors, architecture)
    return ModelFacts(
        reference=source.reference,
        revision=source.revision,
        model_type=architecture.model_type,
        layers=len(layers),
        parameters=_parameters(tensors, config, architecture),
        layer_parameters=layers,
        hidden_size=text.get(architecture.width, width),
        vocabulary=text.get(architecture.vocabulary, vocabulary),
        max_positions=text.get(architecture.positions),
        stored_bytes=sum(path.stat().st_size for path in weight_files(source.path)),
        stored_dtype=_main_dtype(tensors),
    )


def _weights(
    tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], architecture: Architecture
) -> dict[str, TensorInfo]:
    """Return the tensors that loading reads: no buffers, no layers behind the last one."""
    layers = architecture.count(config)
    places = {name: architecture.split(name) for name in tensors if architecture.is_weight(name)}
    return {name: tensors[name] for name, place in places.items() if place is None or place[1] < layers}


def _embedding_of(tensors: Mapping[str, TensorInfo], architecture: Architecture) -> tuple[int, int]:
    """Return the shape of the token embedding; a config may leave out what is its class's default."""
    wanted = architecture.without_base(f"{architecture.embedding}.weight")
    shape = next(info.shape for name, info in tensors.items() if architecture.without_base(name) == wanted)
    return shape[0], shape[1]


def _layer_parameters(
    tensors: Mapping[str, TensorInfo], architecture: Architecture, layers: int
) -> tuple[int, ...]:
    counts = [0] * layers
    for name, info in tensors.items():
        place = architecture.split(name)
        if place is not None:
            counts[place[1]] += info.elements
    return tuple(counts)


def _parameters(
    tensors: Mapping[str, TensorInfo], config: Mapping[str, Any], architecture: Architecture
) -> int:
    """Count the weights; a head that is tied and stored all the same counts once."""
    stored_twice = architecture.ties_head(config)
    head = architecture.without_base(f"{architecture.head}.weight")
    return sum(
        info.elements
        for name, info in tensors.items()
        if not (stored_twice and architecture.without_base(name) == head)
    )


def _main_dtype(tensors: Mapping[str, TensorInfo]) -> str:
    sizes: Counter[str] = Counter()
    for info in tensors.values():
        sizes[DTYPE_NAMES.get(info.dtype, info.dtype)] += info.elements
    return sizes.most_common(1)[0][0]


def _gguf_facts(source: Source) -> ModelFacts:
    header = read_gguf_header(source.path)
    model_type = gguf_model_type(header, source.path)
    layers = gguf_layers(header, source.path)
    counts = [0] * layers
    for tensor in header.tensors:
        index = block_index(tensor.name)
        if index is not None:
            counts[index] += tensor.elements
    return ModelFacts(
        reference=source.reference,
        revision=source.revision,
        model_type=model_type,
        layers=layers,
        parameters=sum(item.elements for item in header.tensors if not item.name.startswith("rope_")),
        layer_parameters=tuple(counts),
        hidden_size=_number(header, "embedding_length", source.path),
        vocabulary=max(_embedding_shape(header, source.path)),
        max_positions=_number(header, "context_length", source.path),
        stored_bytes=source.path.stat().st_size,
        stored_dtype=_main_gguf_type(header),
    )


def gguf_layers(header: GgufHeader, path: Path) -> int:
    """Return the number of layers, checked against the tensors.

    Raises:
        ModelRefused: If the stated number cannot be or is not that of the tensors.
    """
    stated = _number(header, "block_count", path)
    found = {index for item in header.tensors if (index := block_index(item.name)) is not None}
    if not 2 <= stated <= MAX_LAYERS or found != set(range(stated)):
        raise refused(f"{path.name} states {stated} layers and holds tensors of {len(found)}.", stated)
    return stated


def block_index(tensor: str) -> int | None:
    """Return the layer that a GGUF tensor belongs to; None outside layers."""
    parts = tensor.split(".")
    return int(parts[1]) if parts[0] == "blk" and len(parts) > 2 and parts[1].isdecimal() else None


def _number(header: GgufHeader, key: str, path: Path) -> int:
    name = f"{header.metadata.get('general.architecture')}.{key}"
    value = header.single(name)
    if type(value) is not int or not 1 <= value <= _MOST:
        message = (
            f"{path.name} states {quoted(value)} for {name}; it must be a whole number from 1 to {_MOST}."
        )
        raise refused(message, value)
    return value


def _embedding_shape(header: GgufHeader, path: Path) -> tuple[int, ...]:
    for item in header.tensors:
        if item.name == "token_embd.weight" and item.shape:
            return item.shape
    raise refused(f"{path.name} holds no token embedding.", str(path))


def _main_gguf_type(header: GgufHeader) -> str:
    sizes: Counter[int] = Counter()
    for tensor in header.tensors:
        sizes[tensor.type] += tensor.elements
    number = sizes.most_common(1)[0][0]
    return GGUF_TYPES[number].name if number in GGUF_TYPES else f"type {number}"
