"""Tiny random models of every family, saved as folders with a tokenizer of 260 tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from trsp_core.results import RoundTrip
from trsp_core.sources import SourcePolicy

LAYERS = 6
_SPECIAL = ["<s>", "</s>", "<pad>", "<unk>"]
VOCABULARY = 256 + len(_SPECIAL)
_IDS = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258, "vocab_size": VOCABULARY}
_USUAL = {
    **_IDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
_OPT = {
    **_IDS,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "word_embed_proj_dim": 32,
}
_WINDOWS = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**_USUAL, "model_type": "llama", "num_key_value_heads": 2, "tie_word_embeddings": True},
    "llama-untied": {**_USUAL, "model_type": "llama", "mlp_bias": True},
    "mistral": {**_USUAL, "model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 8},
    "opt": {**_OPT, "model_type": "opt"},
    "opt-after": {**_OPT, "model_type": "opt", "do_layer_norm_before": False, "word_embed_proj_dim": 16},
    "gpt2": {
        **_IDS,
        "model_type": "gpt2",
        "n_embd": 32,
        "n_layer": LAYERS,
        "n_head": 4,
        "n_positions": 128,
    },
    "qwen2": {**_USUAL, **_WINDOWS, "model_type": "qwen2", "num_key_value_heads": 2},
    "qwen3": {**_USUAL, **_WINDOWS, "model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 16},
    "phi": {**_USUAL, "model_type": "phi", "qk_layernorm": True},
    "phi3": {**_USUAL, "model_type": "phi3", "num_key_value_heads": 2},
}


def tiny_model(family: str, *, seed: int = 0, **changes: Any) -> Any:
    """Build a random model whose layers matter: weights large enough for logits that differ clearly."""
    options = {**FAMILIES[family], **changes}
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.15)
    return model.eval()


def save_tokenizer(folder: Path) -> None:
    """Save a tokenizer with one token a byte and no merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    table = {token: number for number, token in enumerate([*alphabet, *_SPECIAL])}
    tokenizer = Tokenizer(models.BPE(vocab=table, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_SPECIAL)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)


def save_tiny(folder: Path, family: str, **changes: Any) -> Path:
    """Save a tiny model and its tokenizer; returns the folder."""
    tiny_model(family, **changes).save_pretrained(folder)
    save_tokenizer(folder)
    (folder / "LICENSE").write_text("a licence\n")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return, for a family's name, the folder of its tiny model; made once a session, not to be changed."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save_tiny(tmp_path_factory.mktemp(family), family)
        return made[family]

    return folder


@pytest.fixture
def policy(tmp_path: Path) -> SourcePolicy:
    """A policy without the hub, with a cache of its own."""
    return SourcePolicy(cache_dir=tmp_path / "cache", dataset_root=None)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the fresh process, for tests of what comes before and after it."""
    held = RoundTrip(True, 0.0, 1e-5, True, "not loaded in this test")
    monkeypatch.setattr("trsp_core.job.round_trip", lambda *_, **__: held)


@pytest.fixture
def said_by_transformers(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Collect the warnings of transformers, whose logger hands nothing on."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
