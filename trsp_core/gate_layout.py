"""Which gates a layer has and what they say of it: one on the whole layer, or one on each of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from trsp_core.decoder import Decoder
from trsp_core.gates import gated, gated_parts
from trsp_core.method_options import TrspOptions

PARTS = ("attention", "mlp")


@dataclass(frozen=True, slots=True)
class GateLayout:
    """How a list of gates belongs to layers: all gates of a layer stand side by side, layer after layer.

    Attributes:
        kind: What a gate on a whole layer scales; see `gates.gated`.
        parts: What the gates of a layer are on, in order; empty where its one gate is on the whole.
    """

    kind: str
    parts: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: TrspOptions) -> GateLayout:
        """Return the layout that the options ask for."""
        return cls(options.gate, PARTS if options.gate_parts == "attention+mlp" else ())

    @property
    def per_layer(self) -> int:
        """Number of gates of a layer."""
        return max(1, len(self.parts))

    def places(self, layers: Sequence[int]) -> list[int]:
        """Return where the gates of these layers stand in the list of all gates."""
        each = self.per_layer
        return [each * layer + part for layer in layers for part in range(each)]

    def scores(self, gates: Sequence[float], layers: Sequence[int]) -> dict[int, float]:
        """Return one score a layer, the mean of its gates, from the list of all gates.

        A mean stays on the scale of one gate: 1 is a layer as it was, 0 a layer that is gone.
        """
        return {layer: fmean(gates[place] for place in self.places([layer])) for layer in layers}

    def part_scores(self, gates: Sequence[float], layers: Sequence[int]) -> Mapping[str, Mapping[int, float]]:
        """Return the gate of each part of these layers by the part's name, from the list of all gates."""
        each = self.per_layer
        return {
            name: {layer: gates[each * layer + part] for layer in layers}
            for part, name in enumerate(self.parts)
        }

    def attached(
        self, decoder: Decoder, gates: Tensor, layers: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Scale these layers by their gates, `[per_layer * len(layers)]`, for the time of a block."""
        if self.parts:
            return gated_parts(decoder, gates, layers)
        return gated(decoder, gates, layers, kind=self.kind)
