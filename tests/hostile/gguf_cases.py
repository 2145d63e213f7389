"""GGUF files that are cut, state counts that cannot be, nest, overlap or lie."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

UINT32, STRING, ARRAY, UINT64 = 4, 8, 9, 10
DATA = 4096


def text(value: bytes | str) -> bytes:
    """Return a string as the format writes it."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


@dataclass(frozen=True)
class Gguf:
    """A file in its parts; the counts follow from them unless they are given."""

    keys: tuple[tuple[str, int, bytes], ...]
    tensors: tuple[tuple[str, tuple[int, ...], int, int], ...]
    magic: bytes = b"GGUF"
    version: bytes = struct.pack("<I", 3)
    counts: tuple[int | None, int | None] = (None, None)
    data: int = DATA

    def bytes(self) -> bytes:
        """Return the whole file."""
        tensors, keys = self.counts
        head = self.magic + self.version
        head += struct.pack(
            "<QQ",
            len(self.tensors) if tensors is None else tensors,
            len(self.keys) if keys is None else keys,
        )
        for key, kind, value in self.keys:
            head += text(key) + struct.pack("<I", kind) + value
        for name, shape, kind, offset in self.tensors:
            sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            head += text(name) + sizes + struct.pack("<IQ", kind, offset)
        return head + bytes(-len(head) % 32) + bytes(self.data)


def number(value: int) -> bytes:
    """Return a 32-bit number."""
    return struct.pack("<I", value)


RIGHT = Gguf(
    keys=(
        ("general.architecture", STRING, text("llama")),
        ("llama.block_count", UINT32, number(2)),
        ("llama.embedding_length", UINT32, number(8)),
        ("llama.context_length", UINT32, number(64)),
    ),
    tensors=(
        ("token_embd.weight", (8, 16), 0, 0),
        ("blk.0.attn_q.weight", (8, 8), 0, 512),
        ("blk.1.attn_q.weight", (8, 8), 0, 768),
    ),
)


def _with(key: str, kind: int, value: bytes) -> bytes:
    keys = tuple(entry for entry in RIGHT.keys if entry[0] != key)
    return replace(RIGHT, keys=(*keys, (key, kind, value))).bytes()


def _tensor(
    name: str = "blk.1.attn_q.weight", shape: Any = (8, 8), kind: int = 0, offset: int = 768
) -> bytes:
    return replace(RIGHT, tensors=(*RIGHT.tensors[:2], (name, shape, kind, offset))).bytes()


def _array(kind: int, items: int, rest: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, items) + rest


GGUF_CASES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no GGUF file"),
    "only the magic": (b"GGUF", "no GGUF file"),
    "bad magic": (replace(RIGHT, magic=b"GGML").bytes(), "no GGUF file"),
    "version 0": (replace(RIGHT, version=number(0)).bytes(), "version 0"),
    "version 1": (replace(RIGHT, version=number(1)).bytes(), "version 1"),
    "version 99": (replace(RIGHT, version=number(99)).bytes(), "version 99"),
    "big-endian": (replace(RIGHT, version=struct.pack(">I", 3)).bytes(), "big-endian"),
    "2^60 tensors": (replace(RIGHT, counts=(2**60, None)).bytes(), "tensors, which cannot be"),
    "2^60 keys": (replace(RIGHT, counts=(None, 2**60)).bytes(), "metadata entries, which cannot be"),
    "more tensors than there are": (replace(RIGHT, counts=(40_000, None)).bytes(), "printable ASCII"),
    "more keys than there are": (replace(RIGHT, counts=(None, 40_000)).bytes(), "m.gguf"),
    "no tensors": (replace(RIGHT, tensors=()).bytes(), "holds tensors of 0"),
    "no keys": (replace(RIGHT, keys=()).bytes(), "architecture None"),
    "text of 2^60 bytes": (_with("a", STRING, struct.pack("<Q", 2**60)), "bytes in a string"),
    "text longer than the file": (_with("a", STRING, struct.pack("<Q", 2**19)), "cut short"),
    "key of 2^60 bytes": (RIGHT.bytes()[:24] + struct.pack("<Q", 2**60), "bytes in a string"),
    "32 MB of text": (
        replace(
            RIGHT, keys=RIGHT.keys + tuple((f"k{i}", STRING, text(b"x" * 2**20)) for i in range(32))
        ).bytes(),
        "bytes of text",
    ),
    "array of arrays": (_with("a", ARRAY, _array(ARRAY, 1) * 1000), "array of arrays"),
    "array of 2^40 numbers": (_with("a", ARRAY, _array(UINT64, 2**40)), "items in an array"),
    "array longer than the file": (_with("a", ARRAY, _array(UINT64, 10**6)), "cut short"),
    "array of 2^22 texts": (_with("a", ARRAY, _array(STRING, 2**22)), "texts in arrays"),
    "arrays of millions of texts": (
        replace(
            RIGHT,
            keys=(
                *RIGHT.keys,
                *((f"k{i}", ARRAY, _array(STRING, 900_000, bytes(8 * 900_000))) for i in range(3)),
            ),
        ).bytes(),
        "texts in arrays",
    ),
    "array of an unknown type": (_with("a", ARRAY, _array(77, 1)), "unknown type 77"),
    "value of an unknown type": (_with("a", 77, b"1234"), "unknown type 77"),
    "key that is there twice": (
        replace(RIGHT, keys=(*RIGHT.keys, ("llama.block_count", UINT32, number(1)))).bytes(),
        "'llama.block_count' twice",
    ),
    "unknown architecture": (_with("general.architecture", STRING, text("evil\x1b[2J")), r"evil\x1b"),
    "architecture that is no text": (_with("general.architecture", UINT32, number(1)), "architecture 1"),
    "one layer more": (_with("llama.block_count", UINT32, number(3)), "states 3 layers"),
    "one layer less": (_with("llama.block_count", UINT32, number(1)), "states 1 layers"),
    "2^32-1 layers": (_with("llama.block_count", UINT32, number(2**32 - 1)), "block_count"),
    "layers as text": (_with("llama.block_count", STRING, text("2")), "block_count"),
    "layers as a list": (
        _with("llama.block_count", ARRAY, _array(UINT32, 2, bytes(8))),
        "None for llama.block_count",
    ),
    "dimensions that overflow": (_tensor(shape=(2**63, 2**63)), "outside the file"),
    "dimensions of nothing": (_tensor(shape=(8, 0)), "no whole blocks"),
    "no dimensions": (_tensor(shape=()), "no whole blocks"),
    "nine dimensions": (_tensor(shape=(1,) * 9), "9 dimensions"),
    "rows that are no blocks": (_tensor(kind=2), "no whole blocks"),
    "unknown element type": (_tensor(kind=999), "unknown type 999"),
    "offset beyond the file": (_tensor(offset=2**40), "outside the file"),
    "offset of 2^64-32": (_tensor(offset=2**64 - 32), "outside the file"),
    "offset that is not aligned": (_tensor(offset=769), "unaligned"),
    "tensors that overlap": (_tensor(offset=512), "shares bytes"),
    "tensor named twice": (_tensor(name="blk.0.attn_q.weight"), "twice"),
    "tensor name with a NUL": (_tensor(name="blk.1.attn\0.weight"), "printable ASCII"),
    "tensor name that is a path": (_tensor(name="blk.1/../x"), "looks like a path"),
    "layer index of 5000 digits": (_tensor(name=f"blk.{'9' * 5000}.x"), "1 to 512"),
    "layer index of other digits": (_tensor(name="blk.\u0661.x"), "printable ASCII"),
    "layer index with leading zeros": (_tensor(name="blk.01.x"), "leading zeros"),
    "layer index of 10^9": (_tensor(name="blk.1000000000.x"), "states 2 layers"),
    "alignment 0": (_with("general.alignment", UINT32, number(0)), "power of two"),
    "alignment 3": (_with("general.alignment", UINT32, number(3)), "power of two"),
    "alignment 2^31": (_with("general.alignment", UINT32, number(2**31)), "power of two"),
    "alignment as text": (_with("general.alignment", STRING, text("32")), "power of two"),
    "no embedding length": (
        replace(RIGHT, keys=tuple(entry for entry in RIGHT.keys if "embedding" not in entry[0])).bytes(),
        "embedding_length",
    ),
    "embedding length 0": (_with("llama.embedding_length", UINT32, number(0)), "embedding_length"),
    "no embedding": (replace(RIGHT, tensors=RIGHT.tensors[1:]).bytes(), "token embedding"),
}
