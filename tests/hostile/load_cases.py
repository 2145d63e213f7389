"""What headers cannot tell: it is refused when the model or its tokenizer is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.hostile.spoiling import MARKER, Case, both, config, gone, in_json, pickled, put, weights

NORM = "model.layers.2.input_layernorm.weight"
BOMB = (
    "{% for a in range(999999999) %}{% for b in range(999999999) %}{{ cycler.__init__.__globals__.os.popen("
    f"'touch {MARKER}')"
    " }}{% endfor %}{% endfor %}"
)


def _value(name: str, value: float) -> Any:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].view(-1)[-1] = value

    return weights(change)


def _beyond_half(tensors: dict[str, torch.Tensor]) -> None:
    tensors[NORM] = tensors[NORM].to(torch.float64)
    tensors[NORM][0] = 1e300


def _tokenizer(change: Any) -> Any:
    def spoil(folder: Path) -> None:
        path = folder / "tokenizer.json"
        value = json.loads(path.read_text())
        changed = change(value)
        path.write_text(json.dumps(value if changed is None else changed))

    return spoil


def _added(token: int) -> Any:
    entry = {"content": "<evil>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return _tokenizer(lambda value: value["added_tokens"].append({**entry, "id": token, "special": True}))


def _vocabulary(value: dict[str, Any]) -> None:
    value["model"]["vocab"]["evil"] = 10**6


MODEL_CASES: dict[str, Case] = {
    "NaN in a layer": Case(_value(NORM, float("nan")), f"{NORM} holds values that are not finite"),
    "infinity in a layer": Case(
        _value("model.layers.5.mlp.down_proj.weight", float("inf")), "layers.5.mlp.down_proj"
    ),
    "minus infinity in the embedding": Case(
        _value("model.embed_tokens.weight", -float("inf")), "embed_tokens"
    ),
    "value beyond the precision of the work": Case(weights(_beyond_half), "not finite in torch.float32"),
    "10^9 in the MLP": Case(config(intermediate_size=10**9), "the largest is model.layers.0.mlp"),
    "heads of 10^9": Case(config(head_dim=10**9), "the largest is model.layers.0.self_attn"),
    "MLP of another width": Case(config(intermediate_size=49), "another shape than the config describes"),
    "other heads": Case(config(num_key_value_heads=4), "another shape than the config describes"),
    "heads that do not divide": Case(config(num_attention_heads=3), "could not be loaded"),
    "biases that are not there": Case(config(attention_bias=True), "missing from the weight files"),
    "weights that nobody reads": Case(
        weights(lambda tensors: tensors.update(evil=torch.ones(3))), "not part of the model"
    ),
    "activation that is code": Case(config(hidden_act=f"__import__('os').mknod('{MARKER}')"), "KeyError"),
    "activation that is a list": Case(config(hidden_act=["silu"]), "hidden_act"),
    "rope of nonsense": Case(config(rope_parameters="nonsense"), "rope_parameters"),
    "unknown rope": Case(config(rope_parameters={"rope_type": "evil"}), "evil"),
    "rope with text for numbers": Case(
        config(rope_parameters={"rope_type": "yarn", "factor": "x", "rope_theta": 1e4}), "could not be loaded"
    ),
    "norm epsilon as text": Case(config(rms_norm_eps="x"), "rms_norm_eps"),
    "precision that is a function": Case(config(dtype="os.system"), "os.system"),
    "padding beyond the vocabulary": Case(config(pad_token_id=10**6), "Padding_idx"),
    "a method of the config": Case(config(to_dict=5), "could not be loaded"),
    "layer_types of nonsense": Case(config(layer_types=["evil"] * 6), "layer_types"),
}

TOKENIZER_CASES: dict[str, Case] = {
    "no tokenizer": Case(both(gone("tokenizer.json"), gone("tokenizer_config.json")), "could not be loaded"),
    "tokenizer that is no JSON": Case(put("tokenizer.json", "{"), "could not be loaded"),
    "tokenizer that is empty": Case(put("tokenizer.json", ""), "could not be loaded"),
    "tokenizer that is a list": Case(put("tokenizer.json", "[]"), "could not be loaded"),
    "tokenizer nested deep": Case(
        put("tokenizer.json", '{"a":' * 10_000 + "1" + "}" * 10_000), "could not be loaded"
    ),
    "tokenizer of an unknown kind": Case(
        _tokenizer(lambda value: value["model"].update(type="Evil")), "could not be loaded"
    ),
    "tokenizer with an id beyond the embedding": Case(_tokenizer(_vocabulary), "gives 'evil' the id 1000000"),
    "tokenizer with a token more than the embedding": Case(_added(260), "gives '<evil>' the id 260"),
    "tokenizer with merges of nothing": Case(
        _tokenizer(lambda value: value["model"].update(merges=[["no", "thing"]])), "could not be loaded"
    ),
    "tokenizer class that is not there": Case(
        both(
            gone("tokenizer.json"),
            in_json("tokenizer_config.json", tokenizer_class="EvilTokenizer"),
        ),
        "could not be loaded",
    ),
    "special token that is a number": Case(
        in_json("tokenizer_config.json", bos_token=5), "could not be loaded"
    ),
    "added tokens of nonsense": Case(
        in_json("tokenizer_config.json", added_tokens_decoder={"x": {"content": 5}}), "could not be loaded"
    ),
}

HARMLESS: dict[str, Any] = {
    "pickles beside the weights": both(pickled("pytorch_model.bin"), pickled("training_args.bin")),
    "a pickle for an optimizer": pickled("optimizer.pt"),
    "a chat template that never ends": both(
        put("chat_template.jinja", BOMB), in_json("tokenizer_config.json", chat_template=BOMB)
    ),
    "2^31-1 positions": config(max_position_embeddings=2**31 - 1),
    "a model class of its own": config(architectures=["EvilForCausalLM"]),
}
"""Spoiled in a way that touches nothing of what is read: taken, and nothing of it is executed."""
