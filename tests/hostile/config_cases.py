"""Configs, and the configs beside them, that lie, name code, or are more than a reader should take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hostile.spoiling import Case, both, code, config, in_json, nested, put

CONFIG = "config.json"
LAYERS = "num_hidden_layers"
MIB = 1024 * 1024


def _text(change: Any) -> Any:
    """Change the text of config.json."""
    return lambda folder: put(CONFIG, change((folder / CONFIG).read_text()))(folder)


def _with(fragment: str) -> Any:
    """Add a fragment of JSON to config.json as it is."""
    return _text(lambda text: text.rstrip().removesuffix("}") + f", {fragment}}}")


def _coded(name: str, **changes: Any) -> Any:
    reference = {"AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}
    edit = in_json(name, **(changes or {"auto_map": reference}))
    return both(edit, put("evil.json", "{}"))


def _huge(folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps({"model_type": "llama", "x": "y" * 100 * MIB}))


def _many(folder: Path) -> None:
    (folder / CONFIG).write_text('{"a":[' + "{}," * MIB + "{}]}")


CONFIG_CASES: dict[str, Case] = {
    "empty config": Case(put(CONFIG, ""), "no valid JSON"),
    "config of spaces": Case(put(CONFIG, " " * MIB), "no valid JSON"),
    "config that is a list": Case(put(CONFIG, "[]"), "no JSON object"),
    "config that is null": Case(put(CONFIG, "null"), "no JSON object"),
    "config of 100 MB": Case(_huge, "at most 4194304 are read"),
    "config of a million objects": Case(_many, "more than 250000 values"),
    "config nested 10,000 deep": Case(put(CONFIG, '{"a":' * 10_000 + "1" + "}" * 10_000), "nested too deep"),
    "config nested 500 deep": Case(config(x=nested(500)), "nested deeper than 32"),
    "config nested 500 deep where code may be named": Case(
        config(attn_implementation=nested(500)), "attention code"
    ),
    "config with a byte order mark": Case(_text(lambda text: "\ufeff" + text), "BOM"),
    "config in UTF-16": Case(_text(lambda text: text.encode("utf-16")), "no UTF-8"),
    "config in UTF-32": Case(_text(lambda text: text.encode("utf-32")), "no UTF-8"),
    "config in Latin-1": Case(_text(lambda text: text.encode() + b"\xe9"), "no UTF-8"),
    "key that is there twice": Case(_with(f'"{LAYERS}": 2'), "twice"),
    "number of 10,000 digits": Case(_with('"x": ' + "9" * 10_000), "number of 10000 digits"),
    "NaN": Case(_with('"x": NaN'), "finite"),
    "infinity": Case(_with('"x": Infinity'), "finite"),
    "number beyond the largest float": Case(_with('"x": -1e999'), "finite"),
    "comment": Case(_text(lambda text: text + "// layers"), "no valid JSON"),
    "auto_map": Case(config(auto_map={"AutoModelForCausalLM": "evil.Model"}), "auto_map"),
    "auto_map in a text config": Case(config(text_config={"auto_map": {}}), "auto_map"),
    "auto_map in a list in a list": Case(config(x=[[{"auto_map": 1}]]), "auto_map"),
    "internal key": Case(config(_attn_implementation_internal="org/kernel"), "_attn_implementation_internal"),
    "internal key at depth": Case(config(text_config={"a": [{"_evil": 1}]}), "_evil"),
    "key with an escape": Case(config(**{"_\x1b[2J\n": 1}), r"_\x1b[2J\n"),
    "key with a lone surrogate": Case(_with('"_\\ud800": 1'), r"_\ud800"),
    "key without end": Case(config(**{"_" + "x" * MIB: 1}), "no checkpoint needs"),
    "attention code from elsewhere": Case(config(attn_implementation="org/kernel"), "org/kernel"),
    "attention code in a list": Case(config(attn_implementation=["sdpa"]), "attention code"),
    "attention code in an object": Case(config(experts_implementation={"": "x"}), "attention code"),
    "renamed values": Case(config(attribute_map={LAYERS: "hidden_size"}), "attribute_map"),
    "results as tuples": Case(config(return_dict=False), "return_dict"),
    "other weights": Case(config(transformers_weights="../x.safetensors"), "transformers_weights"),
    "no model_type": Case(config(model_type=...), "not supported"),
    "model_type that is a number": Case(config(model_type=5), "not supported"),
    "model_type that is an object": Case(config(model_type={"llama": 1}), "not supported"),
    "model_type without end": Case(config(model_type="llama" * (MIB // 2)), "not supported"),
    "model_type that is a path": Case(config(model_type="../../evil"), "not supported"),
    "one layer more": Case(config(num_hidden_layers=7), "states 7 layers, the weights hold 6"),
    "one layer less": Case(config(num_hidden_layers=5), "states 5 layers, the weights hold 6"),
    "10^9 layers": Case(config(num_hidden_layers=10**9), "2 to 1024"),
    "10^39 layers": Case(config(num_hidden_layers=10**39), "2 to 1024"),
    "layers as text": Case(config(num_hidden_layers="6"), "2 to 1024"),
    "layers as a float": Case(config(num_hidden_layers=6.0), "2 to 1024"),
    "layers as true": Case(config(num_hidden_layers=True), "2 to 1024"),
    "layers as a list": Case(config(num_hidden_layers=[6] * MIB), "250000 values"),
    "negative layers": Case(config(num_hidden_layers=-6), "2 to 1024"),
    "no layers stated": Case(config(num_hidden_layers=...), "2 to 1024"),
    "another width": Case(config(hidden_size=64), "the embedding is [260, 32]"),
    "no width": Case(config(hidden_size=...), "states None for hidden_size"),
    "width as text": Case(config(hidden_size="32"), "states '32' for hidden_size"),
    "negative width": Case(config(hidden_size=-32), "from 1 to"),
    "another vocabulary": Case(config(vocab_size=10**6), "the embedding is [260, 32]"),
    "no vocabulary": Case(config(vocab_size=None), "vocab_size"),
    "vocabulary as a float": Case(config(vocab_size=260.0), "vocab_size"),
    "positions as text": Case(config(max_position_embeddings="128"), "max_position_embeddings"),
    "negative positions": Case(config(max_position_embeddings=-1), "max_position_embeddings"),
    "10^12 positions": Case(config(max_position_embeddings=10**12), "max_position_embeddings"),
    "positions as true": Case(config(max_position_embeddings=True), "max_position_embeddings"),
    "10^9 experts": Case(config(num_experts=10**9), "1 to 4096"),
    "10^9 labels": Case(config(num_labels=10**9), "num_labels"),
    "heads as text": Case(config(num_attention_heads="4"), "num_attention_heads"),
    "no heads": Case(config(num_key_value_heads=0), "num_key_value_heads"),
    "tied as text": Case(config(tie_word_embeddings="false"), "true or false"),
    "first window layer as text": Case(config(max_window_layers="3"), "max_window_layers"),
    "no first window layer": Case(config(max_window_layers=None), "max_window_layers"),
    "layer_types too short": Case(config(layer_types=["full_attention"]), "a list of 6"),
    "layer_types as an object": Case(config(layer_types={"0": "full_attention"}), "a list of 6"),
    "encoder and decoder": Case(config(is_encoder_decoder=True), "decoder-only"),
    "tokenizer_config with auto_map": Case(_coded("tokenizer_config.json"), "auto_map"),
    "tokenizer_config with auto_map at depth": Case(
        in_json("tokenizer_config.json", extra={"a": [{"auto_map": 1}]}), "auto_map"
    ),
    "generation_config with auto_map": Case(_coded("generation_config.json"), "auto_map"),
    "generation_config with code": Case(
        both(in_json("generation_config.json", custom_generate="x")), "custom_generate"
    ),
    "preprocessor_config with auto_map": Case(_coded("preprocessor_config.json"), "auto_map"),
    "processor_config with auto_map": Case(_coded("processor_config.json"), "auto_map"),
    "generation_config that is a list": Case(put("generation_config.json", "[]"), "no JSON object"),
    "generation_config nested deep": Case(
        put("generation_config.json", '{"a":' * 40 + "1" + "}" * 40), "nested deeper than 32"
    ),
    "tokenizer_config that is no JSON": Case(put("tokenizer_config.json", "{"), "no valid JSON"),
    "tokenizer_config with another file": Case(
        in_json("tokenizer_config.json", tokenizer_file="/etc/passwd"), "tokenizer_file"
    ),
    "tokenizer_config with other tokenizers": Case(
        in_json("tokenizer_config.json", fast_tokenizer_files=["tokenizer.4.0.json"]), "fast_tokenizer_files"
    ),
    "tokenizer class that is a module": Case(
        both(code("evil.txt"), in_json("tokenizer_config.json", tokenizer_class="evil.Tokenizer")),
        "transformers' own",
    ),
    "tokenizer class that is no tokenizer": Case(
        in_json("tokenizer_config.json", tokenizer_class="AutoModelForCausalLM"), "transformers' own"
    ),
    "tokenizer class that is a list": Case(
        in_json("tokenizer_config.json", tokenizer_class=["LlamaTokenizer"]), "transformers' own"
    ),
    "special_tokens_map that is a list": Case(put("special_tokens_map.json", "[]"), "no JSON object"),
}
