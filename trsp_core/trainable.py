"""Which weights stage 2 changes: everything but the embeddings, adapters that are merged, or a small share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

import torch
from torch import nn

from trsp_core.decoder import Decoder, frozen
from trsp_core.method_options import TrspOptions
from trsp_core.quiet import quiet_logger

LEARNING_RATES = {"full": 1e-4, "lora": 2e-3, "norms+down": 3e-4}
"""Peak rates where none is given: adapters begin at zero and take twenty times the rate of weights."""


@contextmanager
def trainable_parameters(
    decoder: Decoder, options: TrspOptions, gone: Sequence[int], *, seed: int
) -> Iterator[dict[str, nn.Parameter]]:
    """Let exactly the chosen weights take gradients; merge adapters into the weights at the end.

    Args:
        decoder: The model; its weights are changed by whoever optimises the yielded parameters.
        options: `trainable` and `lora_rank` are read.
        gone: Layers that are switched off and so have nothing to learn.
        seed: Seed of the adapters' initial values.
    """
    if options.trainable == "lora":
        with _adapters(decoder, options.lora_rank, gone, seed=seed) as chosen, _only(decoder, chosen):
            yield chosen
        return
    chosen = _full(decoder, gone) if options.trainable == "full" else _norms_and_down(decoder, gone)
    with _only(decoder, chosen):
        yield chosen


def changed_names(decoder: Decoder, options: TrspOptions, gone: Sequence[int]) -> frozenset[str]:
    """Return the names of the model's own parameters that training with these options changes."""
    if options.trainable == "lora":
        return frozenset(f"{name}.weight" for name in _linear_names(decoder, gone))
    return frozenset(_full(decoder, gone) if options.trainable == "full" else _norms_and_down(decoder, gone))


@contextmanager
def _only(decoder: Decoder, chosen: dict[str, nn.Parameter]) -> Iterator[None]:
    with frozen(decoder.model, chosen.values()):
        yield


def _full(decoder: Decoder, gone: Sequence[int]) -> dict[str, nn.Parameter]:
    """All weights of the layers that are there, and the final norm: all but the embeddings (the paper)."""
    found = {}
    for layer, module in enumerate(decoder.layers):
        if layer not in gone:
            found.update(_named(module, f"{decoder.architecture.layers}.{layer}"))
    norm = decoder.architecture.final_norm
    if norm is not None and (module := attrgetter(norm)(decoder.model)) is not None:
        found.update(_named(module, norm))
    return found


def _norms_and_down(decoder: Decoder, gone: Sequence[int]) -> dict[str, nn.Parameter]:
    small = tuple(
        f"{decoder.architecture.layers}.{layer}.{part}."
        for layer in range(len(decoder))
        for part in (*decoder.norms(layer), decoder.architecture.mlp_output)
    )
    chosen = (*small, f"{decoder.architecture.final_norm}.")
    return {name: value for name, value in _full(decoder, gone).items() if name.startswith(chosen)}


def _named(module: nn.Module, prefix: str) -> dict[str, nn.Parameter]:
    return {f"{prefix}.{name}": parameter for name, parameter in module.named_parameters()}


@contextmanager
def _adapters(
    decoder: Decoder, rank: int, gone: Sequence[int], *, seed: int
) -> Iterator[dict[str, nn.Parameter]]:
    """Put LoRA adapters on every linear map of the layers that are there; merge them at the end.

    They are put into the list of layers, not into the model: by a model's type peft takes the names of dense
    MLPs and shared experts for those of fused experts and would adapt these instead.
    """
    with quiet_logger("bitsandbytes"):
        from peft import LoraConfig, LoraModel

    path = decoder.architecture.layers
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=[name.removeprefix(f"{path}.") for name in _linear_names(decoder, gone)],
        fan_in_fan_out=decoder.architecture.mlp_output_transposed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = LoraModel(decoder.model.get_submodule(path), config, "default")
    try:
        yield {name: parameter for name, parameter in decoder.model.named_parameters() if "lora_" in name}
    finally:
        adapted.merge_and_unload()


def linear_weights(decoder: Decoder) -> list[dict[str, nn.Parameter]]:
    """Return for each layer the weights of its linear maps, by their full names."""
    return [
        {
            f"{name}.weight": decoder.model.get_parameter(f"{name}.weight")
            for name in _linear_of(decoder, layer)
        }
        for layer in range(len(decoder))
    ]


def _linear_names(decoder: Decoder, gone: Sequence[int]) -> list[str]:
    return [name for layer in range(len(decoder)) if layer not in gone for name in _linear_of(decoder, layer)]


def _linear_of(decoder: Decoder, layer: int) -> list[str]:
    return [
        f"{decoder.architecture.layers}.{layer}.{name}"
        for name, part in decoder.layers[layer].named_modules()
        if (isinstance(part, nn.Linear) or type(part).__name__ == "Conv1D")
        and name not in decoder.architecture.not_adapted
    ]
