"""Checkpoints of a tiny Llama written by hand, in formats that no library here can write."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trsp_core.safetensors_file import Entry, write

WIDTH, LAYERS, VOCABULARY = 16, 4, 32
Kinds = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name behind a projection's path -> element type and shape."""
CONFIG = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": True,
}
PLAIN: Kinds = {"weight": ("F16", (WIDTH, WIDTH))}


def made(
    folder: Path, packed: Kinds = PLAIN, *, bare: tuple[int, ...] = (), shards: int = 2, **config: Any
) -> Path:
    """Write a model whose projections are stored as `packed`, but as plain weights in the layers `bare`."""
    entries = [
        Entry("model.embed_tokens.weight", "BF16", (VOCABULARY, WIDTH), ()),
        Entry("model.norm.weight", "F32", (WIDTH,), ()),
    ]
    for layer in range(LAYERS):
        for name, (dtype, shape) in (PLAIN if layer in bare else packed).items():
            entries.append(Entry(f"model.layers.{layer}.mlp.down_proj.{name}", dtype, shape, ()))
        entries.append(Entry(f"model.layers.{layer}.input_layernorm.weight", "BF16", (WIDTH,), ()))
    folder.mkdir(parents=True)
    drawn = random.Random(0)
    filled = [replace(entry, content=[drawn.randbytes(entry.bytes)]) for entry in entries]
    table = {}
    for number in range(shards):
        name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        list(write(folder / name, filled[number::shards], {"format": "pt"}))
        table.update({entry.name: name for entry in filled[number::shards]})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def stored(folder: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Return every tensor of a folder as its files have it, read without the code that is tested."""
    found = {}
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        start = 8 + struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:start]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                found[name] = (entry["dtype"], entry["shape"], data[start + begin : start + end])
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
