"""Tiny GGUF files of random weights, quantised ones among them, with a tokenizer of 260 tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.trsp_core.conftest import save_tokenizer

WIDTH = 32
VOCABULARY = 260
QUANTIZED = {"Q8_0": gguf.GGMLQuantizationType.Q8_0, "Q4_0": gguf.GGMLQuantizationType.Q4_0}


def write_gguf(
    path: Path,
    *,
    layers: int = 4,
    architecture: str = "llama",
    quantized: str = "Q8_0",
    keys: dict[str, Any] | None = None,
    alignment: int | None = None,
) -> Path:
    """Write a llama-like model; `keys` are further metadata below the architecture, lists among them."""
    writer = gguf.GGUFWriter(path, architecture)
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_name("Tiny")
    writer.add_block_count(layers)
    for key, value in {**_usual(), **(keys or {})}.items():
        _add(writer, f"{architecture}.{key}", value)
    writer.add_vocab_size(VOCABULARY)
    _add_tokenizer(writer, path.parent)
    for name, value in _tensors(layers).items():
        if value.ndim == 1:
            writer.add_tensor(name, value)
        else:
            kind = QUANTIZED[quantized]
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensor_bytes(path: Path) -> dict[str, bytes]:
    """Return each tensor's stored bytes."""
    return {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(path).tensors}


def values(path: Path) -> dict[str, Any]:
    """Return the metadata."""
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def _usual() -> dict[str, Any]:
    return {
        "context_length": 64,
        "embedding_length": WIDTH,
        "feed_forward_length": WIDTH,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10_000.0,
        "rope.dimension_count": 8,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def _tensors(layers: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (VOCABULARY, WIDTH), "output_norm": (WIDTH,)}
    for layer in range(layers):
        for name in ("attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            shapes[f"blk.{layer}.{name}"] = (WIDTH, WIDTH)
        shapes |= {f"blk.{layer}.{name}": (WIDTH // 2, WIDTH) for name in ("attn_k", "attn_v")}
        shapes |= {f"blk.{layer}.{name}": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
    return {
        f"{name}.weight": random.standard_normal(shape, dtype=np.float32) * 0.3
        for name, shape in shapes.items()
    }


def _add_tokenizer(writer: gguf.GGUFWriter, place: Path) -> None:
    save_tokenizer(place / "tokenizer")
    table = json.loads((place / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(table, key=table.get)
    tokens[-1] = tokens[60] + tokens[61]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<") and len(token) > 1 else 1 for token in tokens])
    writer.add_token_merges([f"{tokens[60]} {tokens[61]}"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
