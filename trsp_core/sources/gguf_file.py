"""The header of a GGUF file, read with bounds: metadata and the list of tensors, never their data.

The `gguf` package's own reader builds an array object for every token of the vocabulary; a header is
wanted in milliseconds and must not trust the counts that a hostile file states.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from trsp_core.sources.policy import refused
from trsp_core.tensor_names import fault_of

SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MAX_ITEMS = 10_000_000
_MAX_TEXTS = 1_500_000
_MAX_ENTRIES = 50_000
_MAX_STRING = 1024 * 1024
_MAX_KEPT = 16 * 1024 * 1024
_MAX_DIMENSIONS = 8
MODEL_TYPES: Mapping[str, str] = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "gpt2": "gpt2",
}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of the list: name, sizes, the number of its element type, and where its data begins.

    `offset` counts from the first byte of the data, which follows the header at the file's alignment.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufPlace:
    """Where a metadata entry lies in the file: its key from `begin`, its value, behind the type, up to `end`.

    `type` is the number of the value's type; for a list that of its items.
    """

    begin: int
    value: int
    end: int
    type: int
    is_array: bool


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself.

    Attributes:
        version: The format's version.
        metadata: Key -> value; of an array only its number of items.
        places: Key -> where the entry lies.
        tensors: Its tensors.
        end: Offset at which the header ends.
    """

    version: int
    metadata: Mapping[str, Any]
    places: Mapping[str, GgufPlace]
    tensors: tuple[GgufTensor, ...]
    end: int

    def single(self, key: str, default: Any = None) -> Any:
        """Return a metadata value, `default` where there is none, and None where it is a list."""
        if key not in self.places:
            return default
        return None if self.places[key].is_array else self.metadata[key]


class _Reader:
    """Reads little-endian values and refuses to go past the end."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path
        self.size = path.stat().st_size
        self.kept = 0
        self.texts = 0

    def take(self, count: int) -> bytes:
        data = self.file.read(count) if count <= self.size else b""
        if len(data) != count:
            raise refused(f"{self.path.name} is a GGUF file that is cut short.", str(self.path))
        return data

    def skip(self, count: int) -> None:
        if count > self.size - self.file.tell():
            raise refused(f"{self.path.name} is a GGUF file that is cut short.", str(self.path))
        self.file.seek(count, 1)

    def scalar(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def count(self, limit: int, what: str) -> int:
        value = int(self.scalar("<Q"))
        if value > limit:
            raise refused(f"{self.path.name} states {value} {what}, which cannot be.", str(self.path))
        return value

    def string(self) -> str:
        length = self.count(_MAX_STRING, "bytes in a string")
        self.kept += length
        if self.kept > _MAX_KEPT:
            raise refused(f"{self.path.name} holds more than {_MAX_KEPT} bytes of text.", str(self.path))
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        if kind not in SCALARS:
            raise refused(f"{self.path.name} holds a value of the unknown type {kind}.", str(self.path))
        return self.scalar(SCALARS[kind])

    def array(self) -> int:
        """Pass over an array and return its number of items."""
        kind, items = self.scalar("<I"), self.count(_MAX_ITEMS, "items in an array")
        if kind in SCALARS:
            self.skip(items * struct.calcsize(SCALARS[kind]))
        elif kind == _STRING:
            self.skip_texts(items)
        else:
            what = "arrays, which no model needs" if kind == _ARRAY else f"the unknown type {kind}"
            raise refused(f"{self.path.name} holds an array of {what}.", str(self.path))
        return items

    def skip_texts(self, items: int) -> None:
        self.texts += items
        if self.texts > _MAX_TEXTS:
            raise refused(
                f"{self.path.name} states {self.texts} texts in arrays, which cannot be.", self.texts
            )
        read, seek, left = self.file.read, self.file.seek, self.size - self.file.tell()
        for _ in range(items):
            length = int.from_bytes(read(8), "little")
            left -= 8 + length
            if length > _MAX_STRING or left < 0:
                raise refused(f"{self.path.name} is a GGUF file that is cut short in a list.", length)
            seek(length, 1)

    def tensor(self) -> GgufTensor:
        name, dimensions = self.string(), self.scalar("<I")
        fault = fault_of(name)
        if fault is not None:
            raise refused(f"{self.path.name}: the tensor name {name!r} {fault}.", name)
        if dimensions > _MAX_DIMENSIONS:
            raise refused(f"{self.path.name}: tensor {name!r} has {dimensions} dimensions.", str(self.path))
        shape = tuple(int(self.scalar("<Q")) for _ in range(dimensions))
        return GgufTensor(name, shape, int(self.scalar("<I")), int(self.scalar("<Q")))

    def entry(self) -> tuple[str, Any, GgufPlace]:
        begin = self.file.tell()
        key, kind = self.string(), int(self.scalar("<I"))
        start = self.file.tell()
        value = self.value(kind)
        end = self.file.tell()
        if kind != _ARRAY:
            return key, value, GgufPlace(begin, start, end, kind, is_array=False)
        self.file.seek(start)
        item = int(self.scalar("<I"))
        self.file.seek(end)
        return key, value, GgufPlace(begin, start, end, item, is_array=True)

    def version(self) -> int:
        raw = self.take(4)
        version = int.from_bytes(raw, "little")
        if version not in _VERSIONS:
            big = int.from_bytes(raw, "big") in _VERSIONS
            said = "a big-endian GGUF file; little-endian ones" if big else f"GGUF version {version}; 2 and 3"
            raise refused(f"{self.path.name} is {said} are read.", str(self.path))
        return version


def read_gguf_header(path: Path) -> GgufHeader:
    """Read metadata and tensor list of a GGUF file.

    Raises:
        ModelRefused: If it is no GGUF file, is cut short or states counts that cannot be.
    """
    with path.open("rb") as file:
        reader = _Reader(file, path)
        if reader.size < 24 or reader.take(4) != b"GGUF":
            raise refused(f"{path.name} is no GGUF file.", str(path))
        version = reader.version()
        tensors, entries = (reader.count(_MAX_ENTRIES, what) for what in ("tensors", "metadata entries"))
        found = [reader.entry() for _ in range(entries)]
        listed = tuple(reader.tensor() for _ in range(tensors))
        for names in ([key for key, _, _ in found], [tensor.name for tensor in listed]):
            _check_unique(names, path)
        return GgufHeader(
            version,
            {key: value for key, value, _ in found},
            {key: place for key, _, place in found},
            listed,
            file.tell(),
        )


def _check_unique(names: list[str], path: Path) -> None:
    if len(set(names)) != len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise refused(f"{path.name} names {twice!r} twice.", twice)


def gguf_model_type(header: GgufHeader, path: Path) -> str:
    """Return the `model_type` that the file's architecture becomes.

    Raises:
        ModelRefused: If it is none that can be read.
    """
    name = header.metadata.get("general.architecture")
    if isinstance(name, str) and name in MODEL_TYPES:
        return MODEL_TYPES[name]
    known = ", ".join(sorted(MODEL_TYPES))
    raise refused(f"{path.name} holds the architecture {name!r}; GGUF is read for {known}.", str(path))
