"""Layers leave a GGUF file, and every block that stays is the same bytes: no model, no torch, a few MiB.

The metadata is copied entry by entry as it lies in the file; only what tells of layers is written anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from trsp_core.errors import ModelRefused
from trsp_core.file_copy import PIECE_BYTES
from trsp_core.files import check_new_file, check_room, file_written_whole, storage_errors
from trsp_core.gguf_layers import check_position_free
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.pruned_config import check_kept
from trsp_core.sources.facts import block_index, gguf_layers
from trsp_core.sources.gguf_file import SCALARS, GgufHeader, GgufPlace, GgufTensor, read_gguf_header
from trsp_core.sources.gguf_layout import gguf_layout, padded
from trsp_core.sources.policy import refused

KEPT_LAYERS = "trsp.kept_layers"
"""Metadata key, written: the source's index of each layer; sliced again when the result is cut again."""
SOURCE_LAYERS = "trsp.source_layers"
"""Metadata key, written: the number of layers of the first source."""
_PER_LAYER = (
    "attention.head_count", "attention.head_count_kv", "attention.sliding_window_pattern",
    "feed_forward_length",
)  # fmt: skip
"""Lists that must have one entry a layer; a number in their place holds for all layers."""
_WINDOW_PERIOD = "attention.sliding_window_pattern"
_NOT_PER_LAYER = ("rope.dimension_sections",)
_UINT32, _STRING, _ARRAY = 4, 8, 9


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A GGUF file of which layers may be removed.

    Attributes:
        path: The file.
        header: What it says of itself.
        architecture: Its architecture, which is the prefix of its keys.
        layers: Number of layers.
        alignment: Bytes that the header and every tensor are padded to.
        sizes: Bytes of each tensor, in the order of the list.
    """

    path: Path
    header: GgufHeader
    architecture: str
    layers: int
    alignment: int
    sizes: tuple[int, ...]

    @property
    def data_start(self) -> int:
        """Offset of the first tensor in the file."""
        return padded(self.header.end, self.alignment)

    def is_per_layer(self, key: str) -> bool:
        """Whether a metadata entry is a list with one entry a layer."""
        name = key.removeprefix(f"{self.architecture}.")
        ours = key == KEPT_LAYERS or (name != key and name not in _NOT_PER_LAYER)
        return ours and self.header.places[key].is_array and self.header.metadata[key] == self.layers


def read_gguf_model(path: Path) -> GgufModel:
    """Read a file's header and check that layers can be removed from it.

    Raises:
        ModelRefused: If the file is damaged, split, big-endian or of another version, or its layers share
            tensors, differ from each other or depend on their position.
    """
    header = read_gguf_header(path)
    if header.metadata.get("split.count", 1) != 1:
        parts = header.metadata["split.count"]
        message = (
            f"{path.name} is one of {parts} parts of a split model; merge them with llama-gguf-split first."
        )
        raise refused(message, parts)
    architecture = check_position_free(header, path)
    layers = gguf_layers(header, path)
    layout = gguf_layout(header, path)
    model = GgufModel(path, header, architecture, layers, layout.alignment, layout.sizes)
    _check_layers_alike(model)
    _check_lists(model)
    return model


def remove_from_gguf(
    model: GgufModel, target: Path, kept: Sequence[int], *, should_stop: StopFn = never
) -> None:
    """Write the file without some of its layers; where all are kept the result is the same file.

    Tensors keep their order, type and bytes, metadata its order and bytes; changed are the number of layers
    and every list with one entry a layer. `trsp.kept_layers` and `trsp.source_layers` say what was done.

    Args:
        model: The source, as `read_gguf_model` returned it.
        target: A new file; there whole or not at all.
        kept: Source indices of the layers that stay, ascending.
        should_stop: Asked after each tensor.

    Raises:
        InvalidSpec: If `kept` is no selection of the layers.
        OutputRefused: If there is something at `target`.
        StorageFull: If the disk has too little room.
        Cancelled: If `should_stop` said so; nothing is left.
    """
    check_kept(kept, model.layers)
    check_new_file(target)
    tensors = list(_kept_tensors(model, kept))
    check_room(target.parent, model.data_start + sum(size for _, _, size in tensors))
    with (
        storage_errors(target),
        file_written_whole(target) as temporary,
        model.path.open("rb") as source,
        temporary.open("wb") as file,
    ):
        for piece in _head(model, source, kept, tensors):
            file.write(piece)
        _pad(file, model.alignment)
        for _, old, size in tensors:
            _copy(source, file, model.data_start + old.offset, size)
            _pad(file, model.alignment)
            raise_if_stopped(should_stop)


def _check_layers_alike(model: GgufModel) -> None:
    """Check that all layers hold tensors of the same names."""
    found: list[set[str]] = [set() for _ in range(model.layers)]
    for tensor in model.header.tensors:
        index = block_index(tensor.name)
        if index is not None:
            found[index].add(tensor.name.split(".", 2)[2])
    for index, names in enumerate(found):
        if names != found[0]:
            name = min(names ^ found[0])
            message = f"{model.path.name}: layers 0 and {index} differ: only one of them holds {name}."
            raise refused(message, index)


def _check_lists(model: GgufModel) -> None:
    """Check that what is told layer by layer has one entry a layer of a type that can be sliced."""
    for key, place in model.header.places.items():
        name = key.removeprefix(f"{model.architecture}.")
        if name == key:
            continue
        if name == _WINDOW_PERIOD and not place.is_array:
            message = f"{model.path.name} states {key} as a period, which chooses layers by their position."
            raise refused(message, key)
        if name in _PER_LAYER and place.is_array and not model.is_per_layer(key):
            count = model.header.metadata[key]
            message = f"{model.path.name}: {key} has {count} entries for {model.layers} layers."
            raise refused(message, count)
        if model.is_per_layer(key) and place.type not in SCALARS:
            raise refused(f"{model.path.name}: {key} is a list of texts that nothing is known of.", key)


Kept = tuple[GgufTensor, GgufTensor, int]
"""A tensor as it will be, as it is, and its bytes."""


def _kept_tensors(model: GgufModel, kept: Sequence[int]) -> Iterator[Kept]:
    """Give each tensor that stays its new name and place."""
    place = 0
    new = {old: index for index, old in enumerate(kept)}
    for tensor, size in zip(model.header.tensors, model.sizes, strict=True):
        layer = block_index(tensor.name)
        if layer is not None and layer not in new:
            continue
        name = tensor.name
        if layer is not None:
            name = f"blk.{new[layer]}.{name.split('.', 2)[2]}"
        yield replace(tensor, name=name, offset=place), tensor, size
        place += padded(size, model.alignment)


def _head(
    model: GgufModel, source: BinaryIO, kept: Sequence[int], tensors: Sequence[Kept]
) -> Iterator[bytes]:
    """Yield the new header: counts, metadata, list of tensors."""
    places = model.header.places
    added = [] if len(kept) == model.layers else list(_provenance(model, kept))
    yield b"GGUF" + struct.pack("<IQQ", model.header.version, len(tensors), len(places) + len(added))
    for key, place in places.items():
        if key == f"{model.architecture}.block_count":
            yield _read(source, place.begin, place.value - place.begin)
            yield struct.pack(SCALARS[place.type], len(kept))
        elif model.is_per_layer(key):
            yield from _sliced(source, place, kept)
        else:
            yield from _pieces(source, place.begin, place.end - place.begin)
    yield from added
    for tensor, _, _ in tensors:
        sizes = struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        yield _text(tensor.name) + struct.pack("<I", len(tensor.shape)) + sizes
        yield struct.pack("<IQ", tensor.type, tensor.offset)


def _sliced(source: BinaryIO, place: GgufPlace, kept: Sequence[int]) -> Iterator[bytes]:
    """Yield a list's entry with only the items of the layers that stay."""
    kind = place.type
    size = struct.calcsize(SCALARS[kind])
    yield _read(source, place.begin, place.value - place.begin)
    yield struct.pack("<IQ", kind, len(kept))
    for index in kept:
        yield _read(source, place.value + 12 + index * size, size)


def _provenance(model: GgufModel, kept: Sequence[int]) -> Iterator[bytes]:
    """Yield the entries that say where the layers come from, as far as the source has none of its own."""
    told = model.header.metadata
    if KEPT_LAYERS not in told:
        items = struct.pack(f"<IQ{len(kept)}I", _UINT32, len(kept), *kept)
        yield _text(KEPT_LAYERS) + struct.pack("<I", _ARRAY) + items
    if SOURCE_LAYERS not in told:
        yield _text(SOURCE_LAYERS) + struct.pack("<II", _UINT32, model.layers)
    name = told.get("general.name")
    if isinstance(name, str) and name and "general.base_model.count" not in told:
        yield _text("general.base_model.count") + struct.pack("<II", _UINT32, 1)
        yield _text("general.base_model.0.name") + struct.pack("<I", _STRING) + _text(name)


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _read(source: BinaryIO, begin: int, count: int) -> bytes:
    return b"".join(_pieces(source, begin, count))


def _pieces(source: BinaryIO, begin: int, count: int) -> Iterator[bytes]:
    source.seek(begin)
    while count:
        piece = source.read(min(PIECE_BYTES, count))
        if not piece:
            raise ModelRefused("the GGUF file became shorter while it was read.")
        count -= len(piece)
        yield piece


def _copy(source: BinaryIO, file: BinaryIO, begin: int, count: int) -> None:
    for piece in _pieces(source, begin, count):
        file.write(piece)


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))
