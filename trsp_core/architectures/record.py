"""What must be known of a model family to take layers out of it, and what follows from that."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trsp_core.architectures.patterns import LAYER_TYPES, Listed, Pattern

FUTURE_LAYERS = "num_nextn_predict_layers"
"""Config key of layers behind the last one that predict further tokens; plain loading leaves them out."""


@dataclass(frozen=True)
class Forbidden:
    """A value of a config key that makes layers depend on each other or on their position.

    Attributes:
        key: The config's key.
        reason: What it does, a sentence without its full stop.
        holds: Whether a value does that.
    """

    key: str
    reason: str
    holds: Callable[[Any], bool] = bool


@dataclass(frozen=True)
class Architecture:
    """What must be known of a model family to take layers out of it.

    Attributes:
        model_type: The config's `model_type`.
        layers: Path of the list of decoder layers in the causal LM.
        embedding: Path of the token embedding.
        final_norm: Path of the norm after the last layer; None where there is none.
        head: Path of the output projection.
        before_head: Path of what stands between the final norm and the head; None where nothing does.
        mlp_output: Path, inside a layer, of the MLP's output projection; layers without it (mixtures of
            experts, state-space layers) are not refitted. None where no layer has it.
        mlp_output_transposed: The projection is stored as `[in, out]` (GPT-2's `Conv1D`).
        mlp_output_joins: It joins the residual stream as it is; false where a norm or a factor follows it.
        attention_update: Path, inside every layer, of the module whose output is what attention adds to the
            residual stream; None where not every layer has one, or where a layer does more to the stream than
            to add attention's and the MLP's output.
        norm_after: Config key that, when false, puts a norm behind the residual sum (OPT-350M); then the
            MLP's output does not reach the residual stream untouched.
        residual_factor: Config key of a factor on what a layer adds to the residual stream.
        stored_as: Paths that checkpoints call otherwise: (path in the model, name in the checkpoint).
        rebuilt: Path of buffers that depend on which layers there are, so that no other model's fit.
        attention: The fastest attention code that the model class takes on every device.
        not_adapted: Linear maps inside a layer that take no adapter, because the layer's kernel reads their
            weight itself.
        outputs: Length of the tuple that a layer returns; 0 where it returns the residual stream alone.
        nested: Config key of the text model's own config, where it has one.
        layer_count: Config key of the number of layers.
        counted_by: Config key whose length is the number of layers where `layer_count` is absent.
        width, positions, vocabulary: Config keys of the residual stream's width, the longest sequence and the
            number of tokens.
        embedding_width: Config key of the embedding's width where that can differ from `width`.
        patterns: What the config tells layer by layer.
        forbidden: Config values with which such a model is refused.
        ties_by_default: Whether head and embedding are one tensor unless the config says otherwise.
        not_weights: Patterns of stored tensors that are no weights (buffers that old checkpoints carry).
    """

    model_type: str
    layers: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str | None = "model.norm"
    head: str = "lm_head"
    before_head: str | None = None
    mlp_output: str | None = "mlp.down_proj"
    mlp_output_transposed: bool = False
    mlp_output_joins: bool = True
    attention_update: str | None = None
    norm_after: str | None = None
    residual_factor: str | None = None
    stored_as: tuple[tuple[str, str], ...] = ()
    rebuilt: str | None = None
    attention: str = "sdpa"
    not_adapted: tuple[str, ...] = ()
    outputs: int = 0
    nested: str | None = None
    layer_count: str = "num_hidden_layers"
    counted_by: str | None = None
    width: str = "hidden_size"
    positions: str = "max_position_embeddings"
    vocabulary: str = "vocab_size"
    embedding_width: str | None = None
    patterns: tuple[Pattern, ...] = (Listed(LAYER_TYPES),)
    forbidden: tuple[Forbidden, ...] = ()
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

    def text(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the part of a config that describes the decoder."""
        inner = config if self.nested is None else config.get(self.nested)
        return inner if isinstance(inner, Mapping) else {}

    def count(self, config: Mapping[str, Any]) -> Any:
        """Return the number of layers that a config states, unchecked."""
        text = self.text(config)
        stated = text.get(self.layer_count)
        if stated is None and self.counted_by is not None:
            listed = text.get(self.counted_by)
            return len(listed) if isinstance(listed, (list, str)) else None
        return stated

    def future_layers(self, config: Mapping[str, Any]) -> int:
        """Return how many layers behind the last one a checkpoint may hold that plain loading leaves out."""
        stated = self.text(config).get(FUTURE_LAYERS)
        return stated if type(stated) is int and stated > 0 else 0

    def kinds(self, config: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return, for each layer, all that the config tells about it alone; equal kinds are built alike.

        Raises:
            ModelRefused: If what the config holds does not fit its number of layers.
        """
        text, layers = self.text(config), self.count(config)
        told = [pattern.read(text, layers) for pattern in self.patterns]
        return [tuple(entries[index] for entries in told if entries) for index in range(layers)]

    def updates(self, config: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return the paths of the modules whose outputs a layer adds to the residual stream, attention's first.

        A constant factor may stand behind them, a norm may not. None where the layers are not built like that.
        """
        if self.attention_update is None or self.mlp_output is None or not self.mlp_output_joins:
            return None
        return (self.attention_update, self.mlp_output) if self._norms_before(config) else None

    def _norms_before(self, config: Mapping[str, Any]) -> bool:
        return self.norm_after is None or bool(self.text(config).get(self.norm_after, True))

    def mlp_output_added(self, config: Mapping[str, Any]) -> bool:
        """Whether the MLP's output joins the residual stream untouched, so that a refit is linear."""
        text = self.text(config)
        factor = 1.0 if self.residual_factor is None else text.get(self.residual_factor, 1.0)
        joins = self.mlp_output is not None and self.mlp_output_joins
        return joins and self._norms_before(config) and factor == 1.0

    def ties_head(self, config: Mapping[str, Any]) -> bool:
        """Whether head and embedding are one tensor."""
        inner = self.text(config).get("tie_word_embeddings", self.ties_by_default)
        return bool(config.get("tie_word_embeddings", inner))

    @cached_property
    def _layer_tensor(self) -> re.Pattern[str]:
        stored = [self._replaced(self.layers, path, name) for path, name in self.stored_as]
        paths = {self.layers, self.layers.removeprefix(f"{self.base}."), *stored}
        either = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
        return re.compile(rf"^((?:{either})\.)(\d+)\.(.+)$")

    @staticmethod
    def _replaced(name: str, before: str, after: str) -> str:
        inside = name == before or name.startswith(f"{before}.")
        return f"{after}{name.removeprefix(before)}" if inside else name

    def split(self, tensor: str) -> tuple[str, int, str] | None:
        """Return prefix, layer index and name inside the layer of a tensor; None outside the layers."""
        match = self._layer_tensor.match(tensor)
        return (match[1], int(match[2]), match[3]) if match else None

    def without_base(self, tensor: str) -> str:
        """Return a tensor's name as the bare model calls it, whether it is the model's or a checkpoint's."""
        for path, stored in self.stored_as:
            tensor = self._replaced(tensor, stored, path)
        return tensor.removeprefix(f"{self.base}.")

    def is_weight(self, tensor: str) -> bool:
        """Whether a stored tensor is a weight, not a buffer that old checkpoints carry."""
        return not any(re.search(pattern, tensor) for pattern in self.not_weights)
