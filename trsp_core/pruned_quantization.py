"""What a quantizer was told of single layers, once some are gone and the rest have moved up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trsp_core.errors import ModelRefused, Problem

QUANTIZATION = "quantization_config"
"""Key in config.json."""
_MARKED = ("re:", "+:", "-:")
"""Beginnings of names that are regular expressions: of compressed-tensors, and of GPTQ's `dynamic`."""
_PLACE = r"(?:\\[^.]|\[[^\]]*\]|\([^)]*\)|[^.\\])+"
_PLAIN = r"[^().?*+{]*"
_READABLE = re.compile(rf"(?:{_PLAIN}(?:\((?:\?:)?{_PLAIN}\))?{_PLAIN}|{_PLAIN}[+*])")
"""Patterns that match in bounded time: one group without repetition, or one repetition at the end."""
_MOST_LETTERS = 500


def pruned_quantization(value: Any, kept: Sequence[int], layers: int, stack: str) -> Any:
    """Return a quantization config, or a part of one, for the layers `kept`; `value` is left as it is.

    Names in lists (`modules_to_not_convert`, `ignore`, `targets`, …) and keys of objects (`dynamic`,
    `extra_config`, …) may name a layer by its index: such a name gets the new index, or goes with its layer.
    A pattern that means some of the layers is written out, one name for each that stays; one that means all
    of them stays as it is.

    Args:
        value: The config as JSON.
        kept: Source indices of the layers that stay, ascending.
        layers: Number of the source's layers.
        stack: Name of the module list, such as `layers` or `h`.

    Raises:
        ModelRefused: If it cannot be told which layers a name means.
    """
    return _Renaming(tuple(kept), layers, stack).apply(value)


@dataclass(frozen=True)
class _Renaming:
    kept: tuple[int, ...]
    layers: int
    stack: str

    def apply(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self.apply(item) for key, item in value.items() for name in self.names(str(key))}
        if isinstance(value, list):
            return [new for item in value for new in self._items(item)]
        return value

    def _items(self, item: Any) -> list[Any]:
        return list(self.names(item)) if isinstance(item, str) else [self.apply(item)]

    def names(self, name: str) -> list[str]:
        """Return what becomes of one name: itself, nothing, or a name for each kept layer that it means."""
        found = re.search(rf"(?<![A-Za-z0-9_]){re.escape(self.stack)}\\?\.({_PLACE})", name)
        if found is None or found[1].startswith("*"):
            return [name]
        before, place, after = name[: found.start(1)], found[1], name[found.end(1) :]
        if re.fullmatch(r"\d+\*", place):
            return self._written(before, self._beginning_with(place[:-1]), f".*{after}")
        if place.isdecimal() and name.startswith(_MARKED) and after.startswith(".*"):
            return self._written(before, self._beginning_with(place), rf"\.{after}")
        meant = {int(place)} if re.fullmatch("[0-9]{1,9}", place) else self._matching(place, name)
        return [name] if meant in (set(), set(range(self.layers))) else self._written(before, meant, after)

    def _written(self, before: str, meant: set[int], after: str) -> list[str]:
        return [f"{before}{new}{after}" for new, old in enumerate(self.kept) if old in meant]

    def _beginning_with(self, digits: str) -> set[int]:
        """Layers of a name whose index is followed by anything: `layers.1*` means 1 and 10 to 19."""
        return {layer for layer in range(self.layers) if str(layer).startswith(digits)}

    def _matching(self, pattern: str, name: str) -> set[int]:
        try:
            if len(pattern) > _MOST_LETTERS or not _READABLE.fullmatch(pattern):
                raise re.error("only numbers, classes and one group of alternatives are read")
            return {layer for layer in range(self.layers) if re.fullmatch(pattern, str(layer))}
        except re.error as error:
            message = f"quantization_config holds {name!r}; which layers that means cannot be told: {error}."
            raise ModelRefused(Problem("/model", message, name)) from error
