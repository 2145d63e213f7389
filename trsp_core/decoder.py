"""A loaded causal LM seen as a stack of decoder layers.

Everything that interferes with a forward pass does it through the context managers here, which always
put the model back: a layer's `forward` is overridden on the instance, so that hooks, masks chosen by
position, the final norm and the head stay the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trsp_core.architectures import Architecture, architecture_of
from trsp_core.budget import held_together
from trsp_core.errors import InvalidSpec
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.pruned_config import pruned_config


class Decoder:
    """The layers of a causal LM and the parts of each that the method needs. Holds the model, copies nothing."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.architecture: Architecture = architecture_of(model.config.model_type)
        self.layers: list[nn.Module] = list(model.get_submodule(self.architecture.layers))

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def device(self) -> torch.device:
        """Device that takes the token ids."""
        device: torch.device = self.model.device
        return device

    @property
    def writes(self) -> bool:
        """Whether it can write text at a bearable cost; each token is a pass through the whole model."""
        return True

    @property
    def body(self) -> nn.Module:
        """The model without its head."""
        body: nn.Module = self.model.get_submodule(self.architecture.base)
        return body

    def mlp_output(self, layer: int) -> nn.Module:
        """Return the output projection of a layer's MLP.

        Raises:
            AttributeError: If the layer has none; `has_mlp_output` tells.
        """
        return self.layers[layer].get_submodule(str(self.architecture.mlp_output))

    def weight(self, name: str) -> nn.Parameter:
        """Return a weight of the model by its full name; what is written to it in place stays."""
        parameter: nn.Parameter = self.model.get_parameter(name)
        return parameter

    def mlp_output_name(self, layer: int) -> str:
        """Return the full name of the weight of a layer's MLP output."""
        return f"{self.architecture.layers}.{layer}.{self.architecture.mlp_output}.weight"

    def updates(self, layer: int) -> list[nn.Module]:
        """Return the modules whose outputs a layer adds to the residual stream, attention's first.

        Raises:
            ValueError: If layers of this type are not built like that; preflight refuses to ask for it.
        """
        paths = self.architecture.updates(self.config)
        if paths is None:
            raise ValueError(f"a {self.architecture.model_type} does not add attention and MLP to its stream")
        return [self.layers[layer].get_submodule(path) for path in paths]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's config as a dictionary."""
        config: dict[str, Any] = self.model.config.to_dict()
        return config

    def spares(self, gone: Iterable[int]) -> bool:
        """Whether the architecture can do without just these layers."""
        kept = [layer for layer in range(len(self)) if layer not in set(gone)]
        try:
            pruned_config(self.config, kept, self.architecture)
        except InvalidSpec:
            return False
        return True

    def has_mlp_output(self, layer: int) -> bool:
        """Whether a layer has one MLP output projection; a mixture of experts or a recurrence has not."""
        names = {name for name, _ in self.layers[layer].named_modules()}
        return self.architecture.mlp_output in names

    def refits(self, layer: int) -> bool:
        """Whether a layer's MLP output joins the residual stream untouched, so that a refit is linear."""
        return self.architecture.mlp_output_added(self.config) and self.has_mlp_output(layer)

    @property
    def refittable(self) -> bool:
        """Whether some layer can be refitted."""
        return any(self.refits(layer) for layer in range(len(self)))

    def norms(self, layer: int) -> list[str]:
        """Return the names, inside a layer, of its norms: those on the residual stream where there are any."""
        found = [
            name
            for name, module in self.layers[layer].named_modules()
            if "norm" in type(module).__name__.lower() and list(module.parameters(recurse=False))
        ]
        return [name for name in found if "." not in name] or found

    def handed_on(self, hidden: Tensor) -> Any:
        """Return what a layer that does nothing to `[batch, tokens, hidden]` returns."""
        outputs = self.architecture.outputs
        return (hidden, *[None] * (outputs - 1)) if outputs else hidden

    def identity(self, *args: Any, **kwargs: Any) -> Any:
        """Be the `forward` of a layer that hands on what it gets."""
        return self.handed_on(layer_input(args, kwargs))

    def mlp_output_shape(self, projection: nn.Module) -> tuple[int, int]:
        """Return (residual width, inner width) of an MLP's output projection."""
        rows, columns = projection.get_parameter("weight").shape
        return (columns, rows) if self.architecture.mlp_output_transposed else (rows, columns)

    @torch.no_grad()
    def add_to_mlp_output(self, layer: int, change: Tensor) -> None:
        """Add `[residual width, inner width]` to the weight of a layer's MLP output, in place."""
        weight = self.weight(self.mlp_output_name(layer))
        oriented = change.T if self.architecture.mlp_output_transposed else change
        weight.add_(oriented.to(device=weight.device, dtype=weight.dtype))


@torch.no_grad()
def assign(decoder: Decoder, tensors: Mapping[str, Tensor]) -> None:
    """Write values into the model's parameters of these names, in place."""
    for name, value in tensors.items():
        decoder.weight(name).copy_(value)


def layer_input(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the residual stream that a layer was called with, `[batch, tokens, hidden]`."""
    return cast(Tensor, args[0] if args else kwargs["hidden_states"])


def layer_output(output: Any) -> Tensor:
    """Return the residual stream that a layer returned, `[batch, tokens, hidden]`."""
    return cast(Tensor, output[0] if isinstance(output, (tuple, list)) else output)


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """Return a layer's output with its residual stream replaced."""
    return (hidden, *output[1:]) if isinstance(output, (tuple, list)) else hidden


@contextmanager
def overridden(layers: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Give each module another `forward` for the time of the block; nests."""
    before = {layer: layer.__dict__.get("forward") for layer in layers}
    try:
        for layer, forward in layers.items():
            layer.__dict__["forward"] = forward
        yield
    finally:
        for layer, forward_before in before.items():
            if forward_before is None:
                layer.__dict__.pop("forward", None)
            else:
                layer.__dict__["forward"] = forward_before


@contextmanager
def switched_off(decoder: Decoder, layers: Iterable[int]) -> Iterator[None]:
    """Let these layers hand on what they get, at no cost: the model as it is after their removal."""
    with overridden({decoder.layers[layer]: decoder.identity for layer in layers}):
        yield


@contextmanager
def starting_from(decoder: Decoder, layer: int, hidden: Tensor) -> Iterator[None]:
    """Let the forward pass begin at `layer` with `hidden`, `[batch, tokens, hidden]`, as its input."""
    before: dict[nn.Module, Callable[..., Any]] = {decoder.layers[i]: decoder.identity for i in range(layer)}
    if layer:
        before[decoder.layers[layer - 1]] = lambda *_, **__: decoder.handed_on(hidden)
    with overridden(before):
        yield


@contextmanager
def checkpointed(decoder: Decoder) -> Iterator[None]:
    """Keep only each layer's input for the backward pass and compute the rest again (gradient checkpointing).

    Modules stay in eval mode, so that no dropout blurs the gradients.
    """
    with overridden({layer: _checkpointing(layer.forward) for layer in decoder.layers}):
        yield


def _checkpointing(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run


@contextmanager
def hooked(modules: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Attach a forward hook `(module, args, kwargs, output)` to each module; always detach."""
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module, hook in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Start:
    """A batch at the door of the first layer.

    Attributes:
        hidden: The residual stream that enters layer 0, `[batch, tokens, hidden]`.
        calls: For each layer, what the model hands it beside the residual stream (mask, positions, …).
    """

    hidden: Tensor
    calls: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]

    def let_go(self) -> Start:
        """Return the calls without the residual stream, for whoever takes the stream on and replaces it."""
        return Start(self.hidden.new_empty(0), self.calls)


@torch.no_grad()
def start(decoder: Decoder, input_ids: Tensor) -> Start:
    """Embed a batch `[batch, tokens]` and learn how the model calls its layers, without running any."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    entered: list[Tensor] = []

    def record(*args: Any, **kwargs: Any) -> Any:
        hidden = layer_input(args, kwargs)
        entered.append(hidden)
        seen.append((args[1:], {key: value for key, value in kwargs.items() if key != "hidden_states"}))
        return decoder.handed_on(hidden)

    with overridden(dict.fromkeys(decoder.layers, record)):
        decoder.body(input_ids=input_ids.to(decoder.device), use_cache=False)
    return Start(entered[0], tuple(seen))


def run_layer(decoder: Decoder, layer: int, hidden: Tensor, calls: Start) -> Tensor:
    """Run one layer on `[batch, tokens, hidden]`, called as the model calls it."""
    args, kwargs = calls.calls[layer]
    return layer_output(decoder.layers[layer](hidden, *args, **kwargs))


def through_layers(
    decoder: Decoder, batches: Iterable[Tensor], should_stop: StopFn = never
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Run batches of ids through the stack layer by layer, many together, so that a layer is needed rarely.

    Yields (layer, place of the batch, residual stream before the layer, after it); the streams of the batches that
    `budget.held_together` puts together, `[batch, tokens, hidden]` each, are held.

    Raises:
        Cancelled: `should_stop` said so.
    """
    first = 0
    for group in held_together(batches):
        streams, calls = [], []
        for ids in group:
            begun = start(decoder, ids)
            streams.append(begun.hidden)
            calls.append(begun.let_go())
        for layer in range(len(decoder)):
            for place, hidden in enumerate(streams):
                raise_if_stopped(should_stop)
                streams[place] = run_layer(decoder, layer, hidden, calls[place])
                yield layer, first + place, hidden, streams[place]
        first += len(group)


@contextmanager
def frozen(model: nn.Module, trainable: Iterable[nn.Parameter] = ()) -> Iterator[None]:
    """Let only `trainable` take gradients for the time of the block."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    chosen = {id(parameter) for parameter in trainable}
    try:
        for parameter in before:
            parameter.requires_grad_(id(parameter) in chosen)
        yield
    finally:
        for parameter, flag in before.items():
            parameter.requires_grad_(flag)
            parameter.grad = None
