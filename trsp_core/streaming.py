"""A model that is larger than memory: its weights stay on disk but for those of the part that runs.

The modules are transformers' own, built without weights. A layer, the embedding or the head gets its weights
when it is called, by the very loader that fills a whole model, and keeps them until another part is called; so
whoever goes through the stack one layer after the other reads each weight once. What is computed is, to the
bit, what the resident model computes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig

from trsp_core.checkpoint import check_finite, load_model, load_skeleton, refusing
from trsp_core.decoder import Decoder
from trsp_core.device import Placement
from trsp_core.quiet import quiet_transformers
from trsp_core.weight_parts import REST, Part, WeightParts


class StreamedDecoder(Decoder):
    """A causal LM of which one part's weights are in memory at a time.

    Weights that were asked for by name stay in memory, since they may have been written to; the others are
    those of the files. There are no gradients: what a backward pass would need is gone by then.
    """

    def __init__(self, folder: Path, placement: Placement) -> None:
        super().__init__(load_skeleton(folder, dtype=placement.dtype))
        self._placement = placement
        self._weights = WeightParts(folder, self.architecture, tied=bool(self.model.all_tied_weights_keys))
        self._absent = _stored_tensors(self.model)
        self._kept: dict[str, nn.Parameter] = {}
        self._present: Part | None = None
        self._checked: set[Part] = set()
        self._conversions = self.model._weight_conversions
        _compute_buffers(self.model, placement.device)
        self._load(REST)
        for part, path in self._weights.modules(len(self)):
            module = self.model.get_submodule(path)
            module.__dict__["forward"] = self._loading(part, module.forward)

    @property
    def writes(self) -> bool:
        """It cannot: every token would be a pass through the files."""
        return False

    @property
    def device(self) -> torch.device:
        """Device that takes the token ids and the weights of the part that runs."""
        return self._placement.device

    def weight(self, name: str) -> nn.Parameter:
        """Return a weight of the model by its full name; it stays in memory from now on."""
        if name not in self._kept:
            self._bring(self._weights.part_of(name))
            self._kept[name] = self.model.get_parameter(name)
        return self._kept[name]

    def _loading(self, part: Part, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self._bring(part)
            return forward(*args, **kwargs)

        return run

    def _bring(self, part: Part) -> None:
        """Put a part's weights in the place of another's."""
        if part in (self._present, REST):
            return
        for name, absent in self._absent.items():
            if self._weights.part_of(name) == self._present:
                _put(self.model, name, absent)
        self._load(part)
        self._present = part

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _load(self, part: Part) -> None:
        conversions: Any = get_model_conversion_mapping(self.model)
        config = LoadStateDictConfig(
            device_map={"": self._placement.device},
            dtype=self._placement.dtype,
            dtype_plan=self.model._get_dtype_plan(self._placement.dtype),
            weight_mapping=conversions,
        )
        with quiet_transformers(), refusing("the model"):
            found, _ = convert_and_load_state_dict_in_model(self.model, self._weights.read(part), config)
            self.model.tie_weights(missing_keys=found.missing_keys, recompute_mapping=False)
        self.model._weight_conversions = self._conversions
        for name, kept in self._kept.items():
            if self._weights.part_of(name) == part:
                _put(self.model, name, kept)
        self._check(part)

    def _check(self, part: Part) -> None:
        """Refuse weights that are not finite, the first time that they are read."""
        if part not in self._checked:
            for name in self._absent:
                if self._weights.part_of(name) == part:
                    check_finite(name, self.model.get_parameter_or_buffer(name))
            self._checked.add(part)


def open_decoder(folder: Path, placement: Placement) -> Decoder:
    """Return the model of a folder, whole in memory or streamed, as the placement says.

    Raises:
        ModelRefused, OutOfMemory: As `load_model`.
    """
    if placement.streamed:
        return StreamedDecoder(folder, placement)
    return Decoder(load_model(folder, dtype=placement.dtype, device=placement.device))


def _stored_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the parameters and buffers that a checkpoint holds, tied ones by each of their names."""
    computed = {name for name, _ in model.named_non_persistent_buffers()}
    buffers = dict(model.named_buffers(remove_duplicate=False))
    stored: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    return stored | {name: value for name, value in buffers.items() if name not in computed}


def _compute_buffers(model: PreTrainedModel, device: torch.device) -> None:
    """Compute the buffers that no checkpoint holds (rotary frequencies, causal masks), as loading does."""
    for name, buffer in list(model.named_non_persistent_buffers()):
        _put(model, name, torch.empty_like(buffer, device=device))
        owner: Any = model.get_submodule(name.rpartition(".")[0])
        owner._is_hf_initialized = False
    model.initialize_weights()  # type: ignore[no-untyped-call]


def _put(model: nn.Module, name: str, value: Tensor) -> None:
    """Give the model another tensor under a name."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, value)
