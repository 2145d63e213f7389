"""The weights of a folder in parts, of which a pass through the model needs one at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from trsp_core.architectures import Architecture
from trsp_core.sources.validate import headers

Part = int | str
"""A decoder layer by its index, or one of the names below."""
REST = "rest"
"""What is small and is needed all the time: norms, learned positions, projections around the stack."""
EMBEDDING, HEAD, ENDS = "embedding", "head", "ends"
"""The token embedding and the output head; both together where they may share a weight."""


@dataclass(frozen=True)
class WeightParts:
    """Which tensors of a folder make up which part of its model.

    Attributes:
        folder: The model's folder of safetensors.
        architecture: Its architecture.
        tied: Whether embedding and head may share a weight.
    """

    folder: Path
    architecture: Architecture
    tied: bool

    def part_of(self, name: str) -> Part:
        """Return the part of a tensor, named as the model or as its checkpoint names it."""
        place = self.architecture.split(name)
        if place is not None:
            return place[1]
        bare = self.architecture.without_base(name)
        for part, path in ((EMBEDDING, self.architecture.embedding), (HEAD, self.architecture.head)):
            if bare.startswith(f"{self.architecture.without_base(path)}."):
                return ENDS if self.tied else part
        return REST

    def modules(self, layers: int) -> Iterator[tuple[Part, str]]:
        """Yield each part of a model of this many layers with the path of a module that reads it."""
        yield (ENDS if self.tied else EMBEDDING), self.architecture.embedding
        yield (ENDS if self.tied else HEAD), self.architecture.head
        for layer in range(layers):
            yield layer, f"{self.architecture.layers}.{layer}"

    def read(self, part: Part) -> dict[str, Tensor]:
        """Return a part's tensors by their stored names, in their stored precision.

        They are read into fresh memory and not mapped: the pages of a mapped file count as the process's own
        for as long as the kernel cares to keep them.
        """
        found = {}
        for path, names in self._files[part].items():
            with safe_open(path, framework="pt", backend="pread") as file:
                found.update({name: file.get_tensor(name) for name in names})
        return found

    @cached_property
    def _files(self) -> Mapping[Part, Mapping[Path, list[str]]]:
        result: dict[Part, dict[Path, list[str]]] = defaultdict(lambda: defaultdict(list))
        for path, header in headers(self.folder).items():
            for name in header.tensors:
                result[self.part_of(name)][path].append(name)
        return result
