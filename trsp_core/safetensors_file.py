"""The safetensors format, read and written as bytes: an eight-byte length, a JSON header, the tensors.

No tensor library is needed, so the API can look into a checkpoint and surgery needs no memory for it.
Headers are checked before anything trusts them.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

from trsp_core.bounded_json import BadJson, parse
from trsp_core.file_copy import FileRange, write_all
from trsp_core.tensor_names import fault_of
from trsp_core.wording import quoted

ITEM_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""All element types of the format (safetensors 0.8), by their size."""
DTYPE_NAMES: Mapping[str, str] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
}
MAX_HEADER_BYTES = 16 * 1024 * 1024
_MAX_ITEMS = 500_000
_MAX_DIMENSIONS = 8
_FOREIGN: Mapping[bytes, str] = {
    b"PK\x03\x04": "a zip archive, as torch.save writes it",
    b"\x80\x02": "a pickle, which can run code",
    b"\x80\x04": "a pickle, which can run code",
    b"GGUF": "a GGUF file, named gguf:FILE",
    b"\x89HDF": "an HDF5 file",
}


class SafetensorsError(ValueError):
    """A file is no safetensors file, or its header does not fit its bytes."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor is.

    Attributes:
        dtype: The format's name of the element type (`F32`, `BF16`, …).
        shape: Sizes.
        begin, end: Byte range, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header.

    Attributes:
        tensors: Name -> place, in the order of the bytes.
        metadata: The format's free text pairs.
        data_start: Offset of the first tensor in the file.
        raw: The header's own bytes.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int
    raw: bytes

    def span(self, name: str) -> tuple[int, int]:
        """Return where a tensor's bytes begin and end in the file."""
        info = self.tensors[name]
        return self.data_start + info.begin, self.data_start + info.end


def read_header(path: Path) -> Header:
    """Read and check the header of a file.

    Raises:
        SafetensorsError: If the file is cut short, its header is no JSON object, or a tensor overlaps
            another, lies outside the file or has a size that its shape does not give.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = _header_length(file.read(8), size, path.name)
        raw = file.read(length)
    entries = _parse(raw, path.name)
    metadata = _metadata(entries.pop("__metadata__", None), path.name)
    infos = {name: _tensor(name, entry, path.name) for name, entry in entries.items()}
    tensors = dict(sorted(infos.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_places(tensors, size - 8 - length, path.name)
    return Header(tensors, metadata, 8 + length, raw)


def _header_length(start: bytes, size: int, name: str) -> int:
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 0 < length <= size - 8:
        what = next((what for mark, what in _FOREIGN.items() if start.startswith(mark)), "cut short")
        raise SafetensorsError(f"{name} is {what}, or is no safetensors file.")
    if length > MAX_HEADER_BYTES:
        raise SafetensorsError(f"{name} has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read.")
    return length


def _parse(raw: bytes, name: str) -> dict[str, Any]:
    try:
        entries = parse(raw, most_items=_MAX_ITEMS)
    except BadJson as error:
        raise SafetensorsError(f"the header of {name} {error}.") from error
    if not isinstance(entries, dict):
        raise SafetensorsError(f"{name} has a header that is no JSON object.")
    return entries


def _metadata(value: Any, file: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise SafetensorsError(f"{file} has a __metadata__ that is no object of texts.")
    return value


def _tensor(name: str, entry: Any, file: str) -> TensorInfo:
    fault = fault_of(name)
    if fault is not None:
        raise SafetensorsError(f"{file}: the tensor name {name!r} {fault}.")
    if not isinstance(entry, dict):
        raise SafetensorsError(f"{file}: tensor {name!r} is described by no object.")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in ITEM_BITS:
        raise SafetensorsError(f"{file}: tensor {name!r} has the unknown element type {quoted(dtype)}.")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise SafetensorsError(
            f"{file}: tensor {name!r} has a wrong shape or place: {quoted(shape)}, {quoted(offsets)}; sizes and the two"
            " data_offsets are whole numbers from 0."
        )
    if len(shape) > _MAX_DIMENSIONS:
        message = f"{file}: tensor {name!r} has {len(shape)} dimensions; at most {_MAX_DIMENSIONS} are read."
        raise SafetensorsError(message)
    info = TensorInfo(dtype, tuple(shape), *offsets)
    if info.bytes * 8 != info.elements * ITEM_BITS[dtype]:
        raise SafetensorsError(
            f"{file}: tensor {name!r} has {info.bytes} bytes, which its shape does not give."
        )
    return info


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_places(tensors: Mapping[str, TensorInfo], size: int, file: str) -> None:
    """Check that the tensors, in order of place, fill the file's data from its first byte to its last."""
    end = 0
    for name, info in tensors.items():
        if info.begin != end:
            raise SafetensorsError(f"{file}: tensor {name!r} overlaps another or leaves a gap before it.")
        end = info.end
    if end != size:
        raise SafetensorsError(f"{file} has {size} bytes of tensors where its header tells of {end}.")


Content = FileRange | Iterable[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor to be written.

    Attributes:
        name: Its name in the new file.
        dtype, shape: Its element type, as the format names it, and sizes.
        content: Its bytes: a range of a file, or pieces; taken once, when its turn comes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: Content

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * ITEM_BITS[self.dtype] // 8


def write(path: Path, entries: list[Entry], metadata: Mapping[str, str]) -> Iterator[Entry]:
    """Write a file piece by piece and yield each entry once it is written, so that the caller can stop.

    Raises:
        SafetensorsError: If an entry's bytes are not as many as its shape tells.
    """
    with path.open("wb", buffering=0) as file:
        write_all(file.fileno(), _header_bytes(entries, metadata))
        for entry in entries:
            begin = file.tell()
            _append(entry.content, file.fileno())
            if file.tell() - begin != entry.bytes:
                raise SafetensorsError(f"{entry.name} gave other bytes than its shape {entry.shape} tells.")
            yield entry
        os.fsync(file.fileno())


def _append(content: Content, target: int) -> None:
    if isinstance(content, FileRange):
        content.append_to(target)
        return
    for piece in content:
        write_all(target, piece)


def _header_bytes(entries: list[Entry], metadata: Mapping[str, str]) -> bytes:
    """Return length and header, padded to a multiple of eight so that the tensors are aligned."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    place = 0
    for entry in entries:
        end = place + entry.bytes
        table[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [place, end]}
        place = end
    raw = json.dumps(table, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw
