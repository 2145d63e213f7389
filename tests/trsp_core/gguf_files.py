"""Tiny GGUF files of random weights, quantised ones among them, with a tokenizer of 260 tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.trsp_core.conftest import save_tokenizer
from trsp_core.export.gguf_check import TEXTS
from trsp_core.export.gguf_vocabulary import SPLITS as EXPRESSIONS

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
    tokens[-2] = "<|endoftext|>"
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<") and len(token) > 1 else 1 for token in tokens])
    writer.add_token_merges([f"{tokens[60]} {tokens[61]}"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)


SPLITS: dict[str, Any] = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama-bpe": None,
    "qwen2": None,
}
for _pattern, _name in EXPRESSIONS.items():
    SPLITS[_name] = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
SIZE = 320
"""Rows of the embedding: more than the tokenizers of `save_bpe` have tokens."""


def save_bpe(folder: Path, split: str = "gpt-2") -> None:
    """Save a byte-level BPE tokenizer, or one with byte fallback as SentencePiece makes, that was trained."""
    tokenizer = _with_fallback() if split == "sentencepiece" else _byte_level(split)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    fast.save_pretrained(folder)


def _byte_level(split: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = SPLITS[split]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _with_fallback() -> Tokenizer:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": byte + 3 for byte in range(256)}
    for token in ("▁", "t", "h", "e", "o", "w", "▁t", "he", "▁the", "wo"):
        vocabulary[token] = len(vocabulary)
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("w", "o")]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer
