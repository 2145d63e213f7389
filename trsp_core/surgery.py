"""Whole layers leave and the rest move up: in memory without a copy, on disk without a model.

Torch is imported only where tensors are handed over, so that a removal on disk runs without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trsp_core.architectures import Architecture, architecture_of
from trsp_core.errors import ModelRefused
from trsp_core.file_copy import FileRange
from trsp_core.files import check_room, folder_written_whole
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.pruned_config import pruned_config
from trsp_core.pruned_quantization import pruned_quantization
from trsp_core.safetensors_file import DTYPE_NAMES, Entry, Header, write
from trsp_core.sources.companions import QUANTIZER_FILES, copy_companions, removal_card
from trsp_core.sources.contents import Reader
from trsp_core.sources.policy import SourcePolicy
from trsp_core.sources.validate import CONFIG, INDEX, WEIGHTS, check_folder, headers, read_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["pruned_config", "pruned_view", "remove_streamed", "rename_tensor"]


def rename_tensor(name: str, kept: Sequence[int], architecture: Architecture) -> str | None:
    """Return a tensor's name in the pruned model, or None if its layer is gone.

    Args:
        name: Its name in the source, with or without the base model's prefix.
        kept: Source indices of the layers that stay, ascending.
        architecture: The source's.
    """
    place = architecture.split(name)
    if place is None:
        return name
    prefix, layer, rest = place
    return f"{prefix}{kept.index(layer)}.{rest}" if layer in kept else None


def _source_name(name: str, kept: Sequence[int], architecture: Architecture) -> str:
    """Return the source's name of a tensor of the pruned model."""
    place = architecture.split(name)
    return name if place is None else f"{place[0]}{kept[place[1]]}.{place[2]}"


def pruned_view(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """Return a model of the same class that has only the layers `kept` and shares its weights with `model`.

    It is built from the pruned config, so masks, cache and layer indices are those that a saved and
    reloaded model has; its parameters are the very objects of `model`, so no weight is copied and training
    one trains the other. `model` is left as it is.

    Args:
        model: A causal LM.
        kept: Its layers that stay, ascending.

    Raises:
        InvalidSpec: If `kept` is no selection of its layers.
    """
    import torch

    architecture = architecture_of(model.config.model_type)
    config = type(model.config).from_dict(pruned_config(model.config.to_dict(), kept, architecture))
    with torch.device("meta"):
        build: Any = type(model)._from_config
        view: PreTrainedModel = build(
            config, dtype=model.dtype, attn_implementation=model.config._attn_implementation
        )
    _adopt(view, model, kept, architecture)
    if model.generation_config is not None:
        view.generation_config = type(model.generation_config).from_dict(model.generation_config.to_dict())
    view.train(model.training)
    return view


def _adopt(
    view: PreTrainedModel, model: PreTrainedModel, kept: Sequence[int], architecture: Architecture
) -> None:
    """Put the source's parameters, and copies of its buffers, into the view."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, _ in list(view.named_parameters(remove_duplicate=False)):
        owner, _, leaf = name.rpartition(".")
        source = parameters[_source_name(name, kept, architecture)]
        view.get_submodule(owner).register_parameter(leaf, source)
    buffers = dict(model.named_buffers(remove_duplicate=False))
    for name, _ in list(view.named_buffers(remove_duplicate=False)):
        owner, _, leaf = name.rpartition(".")
        if architecture.rebuilt is None or not name.startswith(f"{architecture.rebuilt}."):
            setattr(view.get_submodule(owner), leaf, buffers[_source_name(name, kept, architecture)].clone())
    if architecture.rebuilt is not None:
        _rebuild(view.get_submodule(architecture.rebuilt).children(), model.device)


def _rebuild(modules: Iterable[Any], device: torch.device) -> None:
    """Give each module the buffers that its own config asks for."""
    for module in modules:
        for name, buffer in type(module)(module.config).named_buffers():
            setattr(module, name, buffer.to(device))


def remove_streamed(
    source_folder: Path,
    out_folder: Path,
    kept: Sequence[int],
    *,
    overrides: Mapping[str, torch.Tensor] | None = None,
    read: Reader = FileRange,
    card: str | None = None,
    replace: bool = False,
    seal: Callable[[Path], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: StopFn = never,
) -> None:
    """Write the model without some of its layers, shard by shard, tensor by tensor, a few MiB at a time.

    What stays is bit for bit what it was, in its stored precision or packed as it was, and each tensor stays
    in its shard. Config, index, tokenizer, generation config, chat template, licence and model card come
    along.

    Args:
        source_folder: A folder that `sources.resolve` accepts; packed weights only without `overrides`.
        out_folder: Where the result goes, whole or not at all.
        kept: Source indices of the layers that stay, ascending.
        overrides: New values by name in the result; cast to the stored precision.
        read: What gives the bytes of its weight files; the files themselves unless given.
        card: Paragraph for the model card; one that says which layers went unless given.
        replace: Whether a folder that is there may go.
        seal: Called with the folder when all is in it, before it takes its name.
        on_progress: Called with (bytes written, bytes in all) after each tensor.
        should_stop: Asked after each tensor.

    Raises:
        InvalidSpec: If `kept` is no selection of the layers.
        ModelRefused: If the source is damaged or unsupported, or an override fits no tensor.
        OutputRefused: If `out_folder` is there, not empty, and may not be replaced.
        StorageFull: If the disk has too little room.
        Cancelled: If `should_stop` said so; nothing is left.
    """
    config, architecture = check_folder(source_folder, SourcePolicy(quantized=not overrides))
    layers = architecture.count(config)
    result = pruned_config(config, kept, architecture)
    shards = _plan(headers(source_folder), read, kept, architecture, overrides or {})
    total = sum(entry.bytes for _, entries, _ in shards for entry in entries)
    with folder_written_whole(out_folder, replace=replace) as temporary:
        check_room(temporary, total)
        done = 0
        for entry in _written(shards, temporary):
            done += entry.bytes
            if on_progress is not None:
                on_progress(done, total)
            raise_if_stopped(should_stop)
        _write_json(temporary / CONFIG, result)
        for file in QUANTIZER_FILES:
            if (source_folder / file).is_file():
                told = read_json(source_folder / file)
                _write_json(temporary / file, pruned_quantization(told, kept, layers, architecture.stack))
        changed = f"{len(overrides)} of its tensors have new values." if overrides else ""
        said = removal_card(layers, kept, changed=changed) if card is None else card
        copy_companions(source_folder, temporary, said)
        if seal is not None:
            seal(temporary)


Shard = tuple[str, list[Entry], Mapping[str, str]]


def _plan(
    files: Mapping[Path, Header],
    read: Reader,
    kept: Sequence[int],
    architecture: Architecture,
    overrides: Mapping[str, torch.Tensor],
) -> list[Shard]:
    """Decide what each file of the result holds; a shard that nothing is left of is dropped."""
    new = {architecture.without_base(name): value for name, value in overrides.items()}
    shards = []
    for path, header in files.items():
        entries = list(_entries(path, header, read, kept, architecture, new))
        if entries:
            shards.append((entries, header.metadata or {"format": "pt"}))
    if new:
        raise ModelRefused(f"{', '.join(sorted(new)[:3])} are no tensors of the model that is left.")
    if len(shards) == 1:
        return [(WEIGHTS, *shards[0])]
    count = len(shards)
    return [(f"model-{i:05d}-of-{count:05d}.safetensors", *shard) for i, shard in enumerate(shards, start=1)]


def _entries(
    path: Path,
    header: Header,
    read: Reader,
    kept: Sequence[int],
    architecture: Architecture,
    new: dict[str, torch.Tensor],
) -> Iterator[Entry]:
    for source, info in header.tensors.items():
        name = rename_tensor(source, kept, architecture)
        if name is None:
            continue
        value = new.pop(architecture.without_base(name), None)
        if value is None:
            yield Entry(name, info.dtype, info.shape, read(path, *header.span(source)))
        elif tuple(value.shape) != info.shape:
            raise ModelRefused(f"{name} is {list(info.shape)}, its new value {list(value.shape)}.")
        else:
            yield Entry(name, info.dtype, info.shape, _tensor_bytes(value, info.dtype))


def _tensor_bytes(value: torch.Tensor, dtype: str) -> Iterator[memoryview]:
    """Yield a tensor's bytes in the stored precision, cast only when its turn comes."""
    import torch

    stored = value.detach().to(device="cpu", dtype=getattr(torch, DTYPE_NAMES[dtype])).contiguous()
    yield stored.view(-1).view(torch.uint8).numpy().data


def _written(shards: list[Shard], folder: Path) -> Iterator[Entry]:
    """Write all shards and their index; yields each tensor once it is written."""
    for name, entries, metadata in shards:
        yield from write(folder / name, entries, metadata)
    if len(shards) > 1:
        table = {entry.name: name for name, entries, _ in shards for entry in entries}
        total = sum(entry.bytes for _, entries, _ in shards for entry in entries)
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": table})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
