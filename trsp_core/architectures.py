"""One record of facts per `model_type`: where the layers are, what they hold, what depends on a position.

A new architecture is one record in `ARCHITECTURES`; what can be derived from its fields is a method.
Torch-free, so that the API can refuse what is not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from trsp_core.errors import ModelRefused, Problem, closest

LAYER_TYPES = "layer_types"


@dataclass(frozen=True)
class Architecture:
    """What must be known of a model family to take layers out of it.

    Attributes:
        model_type: The config's `model_type`.
        layers: Path of the list of decoder layers in the causal LM.
        embedding: Path of the token embedding.
        final_norm: Path of the norm after the last layer.
        head: Path of the output projection.
        mlp_output: Path, inside a layer, of the MLP's output projection.
        attention_output: Path, inside a layer, of the attention's output projection.
        norms: Paths, inside a layer, of its norms.
        mlp_output_transposed: The projection is stored as `[in, out]` (GPT-2's `Conv1D`).
        norm_after: Config key that, when false, puts a norm behind the residual sum (OPT-350M); then the
            MLP's output does not reach the residual stream untouched.
        layer_count: Config key of the number of layers.
        width, positions, vocabulary: Config keys of the residual stream's width, the longest sequence and the
            number of tokens.
        embedding_width: Config key of the embedding's width where that can differ from `width`.
        per_layer_lists: Config lists with one entry a layer, sliced with the layers.
        derives_layer_types: The config class derives `layer_types` from positions where they are absent
            (sliding windows from `max_window_layers` on), so they are written out before the cut.
        index_scaled_attention: Config key that, when true, makes a layer depend on its index; refused.
        ties_by_default: Whether head and embedding are one tensor unless the config says otherwise.
        not_weights: Patterns of stored tensors that are no weights (buffers that old checkpoints carry).
    """

    model_type: str
    layers: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    head: str = "lm_head"
    mlp_output: str = "mlp.down_proj"
    attention_output: str = "self_attn.o_proj"
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    mlp_output_transposed: bool = False
    norm_after: str | None = None
    layer_count: str = "num_hidden_layers"
    width: str = "hidden_size"
    positions: str = "max_position_embeddings"
    vocabulary: str = "vocab_size"
    embedding_width: str | None = None
    per_layer_lists: tuple[str, ...] = (LAYER_TYPES,)
    derives_layer_types: bool = False
    index_scaled_attention: str | None = None
    ties_by_default: bool = False
    not_weights: tuple[str, ...] = (r"rotary_emb\.inv_freq$",)

    @property
    def base(self) -> str:
        """Prefix of everything but the head; checkpoints saved from the bare model leave it out."""
        return self.layers.partition(".")[0]

    @property
    def stack(self) -> str:
        """Name of the list of layers in the module that holds it."""
        return self.layers.rpartition(".")[2]

    def mlp_output_added(self, config: Mapping[str, Any]) -> bool:
        """Whether the MLP's output joins the residual stream untouched, so that a refit is linear."""
        return self.norm_after is None or bool(config.get(self.norm_after, True))

    def ties_head(self, config: Mapping[str, Any]) -> bool:
        """Whether head and embedding are one tensor."""
        return bool(config.get("tie_word_embeddings", self.ties_by_default))

    @cached_property
    def _layer_tensor(self) -> re.Pattern[str]:
        rest = re.escape(self.layers.partition(".")[2])
        return re.compile(rf"^((?:{re.escape(self.base)}\.)?{rest}\.)(\d+)\.(.+)$")

    def split(self, tensor: str) -> tuple[str, int, str] | None:
        """Return prefix, layer index and name inside the layer of a tensor; None outside the layers."""
        match = self._layer_tensor.match(tensor)
        return (match[1], int(match[2]), match[3]) if match else None

    def without_base(self, tensor: str) -> str:
        """Return a tensor's name as the bare model calls it."""
        return tensor.removeprefix(f"{self.base}.")

    def is_weight(self, tensor: str) -> bool:
        """Whether a stored tensor is a weight, not a buffer that old checkpoints carry."""
        return not any(re.search(pattern, tensor) for pattern in self.not_weights)


_LLAMA = Architecture("llama")
_QWEN2 = replace(_LLAMA, model_type="qwen2", derives_layer_types=True)

ARCHITECTURES: Mapping[str, Architecture] = {
    record.model_type: record
    for record in (
        _LLAMA,
        replace(_LLAMA, model_type="mistral"),
        _QWEN2,
        replace(_QWEN2, model_type="qwen3"),
        replace(_LLAMA, model_type="phi3"),
        replace(
            _LLAMA,
            model_type="phi",
            final_norm="model.final_layernorm",
            mlp_output="mlp.fc2",
            attention_output="self_attn.dense",
            norms=("input_layernorm",),
        ),
        Architecture(
            "opt",
            layers="model.decoder.layers",
            embedding="model.decoder.embed_tokens",
            final_norm="model.decoder.final_layer_norm",
            mlp_output="fc2",
            attention_output="self_attn.out_proj",
            norms=("self_attn_layer_norm", "final_layer_norm"),
            norm_after="do_layer_norm_before",
            embedding_width="word_embed_proj_dim",
            ties_by_default=True,
        ),
        Architecture(
            "gpt2",
            layers="transformer.h",
            embedding="transformer.wte",
            final_norm="transformer.ln_f",
            mlp_output="mlp.c_proj",
            attention_output="attn.c_proj",
            norms=("ln_1", "ln_2"),
            mlp_output_transposed=True,
            layer_count="n_layer",
            width="n_embd",
            positions="n_positions",
            index_scaled_attention="scale_attn_by_inverse_layer_idx",
            ties_by_default=True,
            not_weights=(r"\.attn\.(masked_)?bias$",),
        ),
    )
}


def architecture_of(model_type: Any) -> Architecture:
    """Return the record of `model_type`.

    Raises:
        ModelRefused: If there is none, naming those there are.
    """
    if isinstance(model_type, str) and model_type in ARCHITECTURES:
        return ARCHITECTURES[model_type]
    known = tuple(sorted(ARCHITECTURES))
    guess = closest(model_type, known) if isinstance(model_type, str) else None
    message = f"has model_type {model_type!r}, which is not supported; supported are {', '.join(known)}."
    raise ModelRefused(Problem("/model", message, model_type, known, guess))
