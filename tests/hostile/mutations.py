"""Seeded mutations of right files: of their bytes, of their counts and of the values that they state."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from tests.hostile.gguf_cases import RIGHT
from tests.hostile.spoiling import nested

_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**32, 2**63, 2**64, 10**39, 0.0, -0.5, 1e308, float("nan"), float("inf"),
    "", "x", "llama", "6", "../x", "\0", "\x1b[2J", "\ud800", "\U0001f600", "x" * 5000, [], [1], [[]], {}, {"a": 1},
    {"auto_map": 1}, "model.safetensors", "F32", [0, 128], [32], [2**62, 2**62], [-1], [True],
)  # fmt: skip
_FRAGMENTS = (
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\u",
    b"NaN",
    b"1e999",
    b"-",
    b"\xff",
    b"\0",
    b"9" * 50,
)
_NUMBERS = (0, 1, 2, 255, 2**16, 2**31, 2**32 - 1, 2**40, 2**60, 2**63, 2**64 - 1)


def in_bytes(data: bytes, draw: random.Random, reach: int) -> bytes:
    """Change, add, take out or repeat a few bytes among the first `reach`."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(min(reach, len(changed)) + 1)
        step = draw.randrange(5)
        if step == 0:
            changed[place : place + 1] = bytes([draw.randrange(256)])
        elif step == 1:
            changed[place : place + draw.randint(1, 16)] = b""
        elif step == 2:
            changed[place:place] = draw.choice(_FRAGMENTS)
        elif step == 3:
            changed[place : place + 8] = struct.pack("<Q", draw.choice(_NUMBERS))
        else:
            changed[place:place] = changed[place : place + draw.randint(1, 64)]
    return bytes(changed[: draw.randrange(len(changed) + 1)] if draw.random() < 0.1 else changed)


def in_value(value: Any, draw: random.Random) -> Any:
    """Return a JSON value with one place in it changed, taken out, renamed or nested."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value, key=repr))
        changed = dict(value)
        step = draw.random()
        if step < 0.1:
            del changed[key]
        elif step < 0.2:
            changed[str(draw.choice(_ODD))] = changed.pop(key)
        else:
            changed[key] = in_value(value[key], draw)
        return changed
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        return [*value[:place], in_value(value[place], draw), *value[place + 1 :]]
    return nested(draw.choice((5, 40, 600))) if draw.random() < 0.05 else draw.choice(_ODD)


def json_text(value: Any, draw: random.Random) -> bytes:
    """Return a mutated JSON text: mostly another value, at times broken bytes."""
    for _ in range(draw.randint(1, 3)):
        value = in_value(value, draw)
    raw = json.dumps(value).encode()
    return in_bytes(raw, draw, len(raw)) if draw.random() < 0.3 else raw


def safetensors_file(header: dict[str, Any], data: bytes, draw: random.Random) -> bytes:
    """Return a mutated safetensors file; one in ten is another right one."""
    if draw.random() < 0.1:
        name = draw.choice([name for name in header if name != "__metadata__"])
        entry = header[name]
        kindred = {**entry, "dtype": draw.choice(("I32", "F32", "U32")), "shape": entry["shape"][::-1]}
        raw = json.dumps({**header, name: kindred}).encode()
        return struct.pack("<Q", len(raw)) + raw + data
    raw = json_text(header, draw)
    file = struct.pack("<Q", len(raw)) + raw + data
    return in_bytes(file, draw, len(raw) + 16) if draw.random() < 0.3 else file


def _gguf_parts(draw: random.Random) -> bytes:
    keys, tensors = list(RIGHT.keys), list(RIGHT.tensors)
    for _ in range(draw.randint(1, 3)):
        if draw.random() < 0.5:
            place = draw.randrange(len(keys))
            key, kind, value = keys[place]
            kinds = (kind, draw.randrange(14), draw.choice(_NUMBERS) % 2**32)
            keys[place] = (draw.choice((key, "", "general.alignment")), draw.choice(kinds), value)
            if draw.random() < 0.5:
                rest = draw.randbytes(draw.randrange(40))
                keys[place] = (key, kind, struct.pack("<Q", draw.choice(_NUMBERS)) + rest)
        else:
            place = draw.randrange(len(tensors))
            name, shape, kind, offset = tensors[place]
            names = (name, "", "blk.7.x", "blk.00.x", "token_embd.weight", "\0")
            shapes = (shape, (), (draw.choice(_NUMBERS), 8), (1,) * draw.randrange(12))
            kinds = (kind, draw.randrange(45))
            offsets = (offset, draw.choice(_NUMBERS))
            tensors[place] = tuple(map(draw.choice, (names, shapes, kinds, offsets)))
    return type(RIGHT)(tuple(keys), tuple(tensors)).bytes()


def gguf_file(draw: random.Random) -> bytes:
    """Return a mutated GGUF file."""
    data = _gguf_parts(draw) if draw.random() < 0.6 else RIGHT.bytes()
    return in_bytes(data, draw, len(data) - RIGHT.data) if draw.random() < 0.5 else data
