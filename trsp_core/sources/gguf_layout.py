"""Where a GGUF file's tensors lie: whole, aligned and apart from each other, or the file is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trsp_core.sources.gguf_file import GgufHeader, GgufTensor
from trsp_core.sources.gguf_types import GGUF_TYPES
from trsp_core.sources.policy import refused
from trsp_core.wording import quoted

_DEFAULT_ALIGNMENT = 32
_MOST_ALIGNMENT = 1 << 20


@dataclass(frozen=True, slots=True)
class GgufLayout:
    """The places of a file's tensors, checked.

    Attributes:
        alignment: Bytes that the header and every tensor are padded to.
        sizes: Bytes of each tensor, in the order of the list.
    """

    alignment: int
    sizes: tuple[int, ...]


def gguf_layout(header: GgufHeader, path: Path) -> GgufLayout:
    """Return alignment and sizes of a file's tensors.

    Raises:
        ModelRefused: If a tensor is of an unknown type, lies outside the file or unaligned, or on another's
            bytes; so whoever reads them needs no more memory than the file is long.
    """
    layout = GgufLayout(_alignment(header, path), _sizes(header, path))
    _check_places(header, layout, path)
    return layout


def padded(size: int, alignment: int) -> int:
    """Return `size` rounded up to a multiple of `alignment`."""
    return size + -size % alignment


def _alignment(header: GgufHeader, path: Path) -> int:
    value = header.single("general.alignment", _DEFAULT_ALIGNMENT)
    if type(value) is not int or not 0 < value <= _MOST_ALIGNMENT or value & (value - 1):
        raise refused(f"{path.name} states the alignment {quoted(value)}; it must be a power of two.", value)
    return value


def _sizes(header: GgufHeader, path: Path) -> tuple[int, ...]:
    return tuple(_bytes(tensor, path) for tensor in header.tensors)


def _bytes(tensor: GgufTensor, path: Path) -> int:
    block = GGUF_TYPES.get(tensor.type)
    if block is None:
        raise refused(
            f"{path.name}: tensor {tensor.name!r} is of the unknown type {tensor.type}.", tensor.type
        )
    if not tensor.shape or not tensor.elements or tensor.shape[0] % block.elements:
        message = f"{path.name}: rows of tensor {tensor.name!r}, {list(tensor.shape)}, are no whole blocks."
        raise refused(message, tensor.name)
    return tensor.elements // block.elements * block.bytes


def _check_places(header: GgufHeader, layout: GgufLayout, path: Path) -> None:
    placed = sorted(
        (tensor.offset, size, tensor.name) for tensor, size in zip(header.tensors, layout.sizes, strict=True)
    )
    room, end = path.stat().st_size - padded(header.end, layout.alignment), 0
    for offset, size, name in placed:
        if offset % layout.alignment or offset + size > room:
            raise refused(f"{path.name}: tensor {name!r} lies outside the file or unaligned.", name)
        if offset < end:
            raise refused(f"{path.name}: tensor {name!r} shares bytes with another.", name)
        end = offset + size
