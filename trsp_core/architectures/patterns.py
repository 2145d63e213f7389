"""What a config tells layer by layer, in each of the ways that configs tell it: read, and written for fewer layers.

A pattern is read as one entry a layer. The entries of the layers that stay are written back in the config's
own way, so that a layer that moves up keeps its kind; where the config class cannot say the result, that
selection of layers is refused.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from trsp_core.errors import InvalidSpec, ModelRefused, Problem

LAYER_TYPES = "layer_types"

Config = Mapping[str, Any]
Entries = Callable[[Config, int], list[Any]]


class Pattern(Protocol):
    """One entry a layer, kept somewhere in a config."""

    @property
    def told(self) -> str:
        """What a user should know about it, in a few words for a table."""
        ...

    def read(self, config: Config, layers: int, /) -> list[Any] | None:
        """Return the entries, or None where the config has none.

        Raises:
            ModelRefused: If what the config holds is no pattern of that many layers.
        """
        ...

    def write(self, entries: Sequence[Any], /) -> dict[str, Any]:
        """Return the keys of the config, changed so that it tells `entries`.

        Raises:
            InvalidSpec: If the config class cannot say that.
        """
        ...


def whole(config: Config, key: str, default: int) -> int:
    """Return a whole number of the config, or the class's default where it is absent or null.

    Raises:
        ModelRefused: If it is something else.
    """
    value = config.get(key)
    if value is None:
        return default
    if type(value) is not int:
        raise _wrong(key, "a whole number")
    return value


def step(config: Config, key: str, default: int) -> int:
    """Return a whole number of the config that counts layers from one to the next, so at least 1."""
    value = whole(config, key, default)
    if value < 1:
        raise _wrong(key, "at least 1")
    return value


def _wrong(key: str, wanted: str) -> ModelRefused:
    return ModelRefused(Problem("/model", f"{key} in config.json must be {wanted}.", key))


def unspeakable(what: str, entries: Sequence[Any]) -> InvalidSpec:
    """Return the refusal of a selection whose pattern the config class cannot say."""
    message = (
        f"leaves layers whose {what} would be {list(entries)}, which this architecture's config cannot say. "
        "Choose the layers so that the pattern stays regular."
    )
    return InvalidSpec(Problem("/layers", message, list(entries)))


@dataclass(frozen=True)
class Keyed:
    """What the patterns share that are one key of the config.

    Attributes:
        key: The config's key.
        fate: What becomes of it when layers leave.
    """

    fate: ClassVar[str] = "follows"
    key: str

    @property
    def told(self) -> str:
        return f"`{self.key}` {self.fate}"

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        return {self.key: list(entries)}


@dataclass(frozen=True)
class Stated(Keyed, ABC):
    """A key that states the entries where it is there.

    Attributes:
        derive: What the config class derives from positions where it is absent, as one entry a layer.
    """

    derive: Entries | None = None

    def read(self, config: Config, layers: int) -> list[Any] | None:
        value = config.get(self.key)
        if value is not None:
            return self.stated(value, layers)
        return None if self.derive is None else self.derive(config, layers)

    @abstractmethod
    def stated(self, value: Any, layers: int) -> list[Any]:
        """Return the entries that the key's value tells; refuses as `Pattern.read` does."""


class Listed(Stated):
    """A list with one entry a layer."""

    def stated(self, value: Any, layers: int) -> list[Any]:
        if not isinstance(value, list) or len(value) != layers:
            raise _wrong(self.key, f"a list of {layers} entries, one a layer")
        return value


class Indexed(Stated):
    """A list of the indices of the layers that are of another kind; the entries are truth values."""

    def stated(self, value: Any, layers: int) -> list[Any]:
        if not isinstance(value, list) or any(type(index) is not int for index in value):
            raise _wrong(self.key, "a list of layer indices")
        return [index in value for index in range(layers)]

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        return {self.key: [index for index, holds in enumerate(entries) if holds]}


class Lettered(Stated):
    """A string with one letter a layer (`hybrid_override_pattern` of Nemotron-H)."""

    def stated(self, value: Any, layers: int) -> list[Any]:
        if not isinstance(value, str) or len(value) != layers:
            raise _wrong(self.key, f"a string of {layers} letters, one a layer")
        return list(value)

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        return {self.key: "".join(entries)}


class AlsoCount(Stated):
    """A second key that tells the number of layers."""

    def stated(self, _value: Any, layers: int) -> list[Any]:
        return [None] * layers

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        return {self.key: len(entries)}


@dataclass(frozen=True)
class Leading(Keyed):
    """A number of first layers that are of another kind.

    Attributes:
        default: What the config class takes where it is absent.
    """

    default: int

    def read(self, config: Config, layers: int) -> list[Any]:
        bound = whole(config, self.key, self.default)
        return [index < bound for index in range(layers)]

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        return {self.key: sum(entries)}


@dataclass(frozen=True)
class Sparse:
    """Mixture layers at every `decoder_sparse_step`-th place that `mlp_only_layers` does not name (Qwen's MoE).

    Attributes:
        dense: What `mlp_only_layers` is where it is absent.
    """

    dense: tuple[int, ...] = ()

    @property
    def told(self) -> str:
        return "`mlp_only_layers` is written out"

    def read(self, config: Config, layers: int) -> list[Any] | None:
        every = step(config, "decoder_sparse_step", 1)
        dense = config.get("mlp_only_layers")
        named = self.dense if dense is None else dense
        if not isinstance(named, (list, tuple)):
            raise _wrong("mlp_only_layers", "a list of layer indices")
        return [index not in named and (index + 1) % every == 0 for index in range(layers)]

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        return {
            "mlp_only_layers": [i for i, sparse in enumerate(entries) if not sparse],
            "decoder_sparse_step": 1,
        }


@dataclass(frozen=True)
class Periodic:
    """Layers of another kind at every `period`-th place from `offset` on (Jamba).

    Attributes:
        period, offset: The config's keys.
        defaults: What the config class takes for them.
        what: What the pattern decides, for the refusal.
    """

    period: str
    offset: str
    defaults: tuple[int, int]
    what: str

    @property
    def told(self) -> str:
        return f"only selections that leave {self.what} at regular places"

    def read(self, config: Config, layers: int) -> list[Any] | None:
        period = step(config, self.period, self.defaults[0])
        offset = whole(config, self.offset, self.defaults[1])
        return [index % period == offset for index in range(layers)]

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        count = len(entries)
        offset = list(entries).index(True) if True in entries else count
        for period in range(offset + 1, count + 2):
            if list(entries) == [index % period == offset for index in range(count)]:
                return {self.period: period, self.offset: offset}
        raise unspeakable(self.what, entries)


@dataclass(frozen=True)
class Between:
    """Mixture layers from `moe_layer_start_index` to `moe_layer_end_index`, every `moe_layer_interval`-th (Ernie)."""

    @property
    def told(self) -> str:
        return "only selections that leave the mixtures of experts at regular places"

    def read(self, config: Config, layers: int) -> list[Any] | None:
        first = whole(config, "moe_layer_start_index", 1)
        last = whole(config, "moe_layer_end_index", -1)
        every = step(config, "moe_layer_interval", 1)
        return _between(layers, first, layers - 1 if last == -1 else last, every)

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        count = len(entries)
        sparse = [index for index, holds in enumerate(entries) if holds] or [count]
        for every in range(1, count + 1):
            if list(entries) == _between(count, sparse[0], sparse[-1], every):
                return {
                    "moe_layer_start_index": sparse[0],
                    "moe_layer_end_index": sparse[-1],
                    "moe_layer_interval": every,
                }
        raise unspeakable("mixtures of experts", entries)


def _between(layers: int, first: int, last: int, every: int) -> list[bool]:
    return [first <= index <= last and (index + 1) % every == 0 for index in range(layers)]


@dataclass(frozen=True)
class Cycled(Keyed):
    """A list that is repeated over the layers (`block_types` of RecurrentGemma).

    Attributes:
        default: What the config class takes where it is absent or empty.
    """

    fate = "is written out"
    default: tuple[str, ...]

    def read(self, config: Config, layers: int) -> list[Any]:
        cycle = config.get(self.key) or self.default
        if not isinstance(cycle, (list, tuple)):
            raise _wrong(self.key, "a list")
        return [cycle[index % len(cycle)] for index in range(layers)]


@dataclass(frozen=True)
class Counted:
    """GPT-Neo's `attention_types`: lists of kinds, each with how often it is repeated."""

    @property
    def told(self) -> str:
        return "`attention_types` is written out"

    def read(self, config: Config, layers: int) -> list[Any] | None:
        types = config.get("attention_types") or [[["global", "local"], 12]]
        try:
            entries = [kind for kinds, times in types for kind in min(times, layers + 1) * list(kinds)]
        except (TypeError, ValueError):
            entries = []
        if len(entries) != layers:
            raise _wrong("attention_types", f"lists of kinds and counts for {layers} layers")
        return entries

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        return {"attention_types": [[list(entries), 1]], "attention_layers": list(entries)}


@dataclass(frozen=True)
class EdgeLayer:
    """The first or the last layer is built unlike the others, so it has to stay.

    Attributes:
        last: It is the last one.
        why: What is different about it.
    """

    last: bool
    why: str

    @property
    def edge(self) -> str:
        """Which layer it is, in a word."""
        return "last" if self.last else "first"

    @property
    def told(self) -> str:
        return f"the {self.edge} layer stays: {self.why}"

    def read(self, _config: Config, layers: int) -> list[Any] | None:
        edge = layers - 1 if self.last else 0
        return [index == edge for index in range(layers)]

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        if entries[-1 if self.last else 0]:
            return {}
        message = f"takes out the {self.edge} layer, which has to stay: {self.why}."
        raise InvalidSpec(Problem("/layers", message))


@dataclass(frozen=True)
class Remaining:
    """Of some kind of layer at least one has to stay, because the model's code or its cache counts on it.

    Attributes:
        of: The pattern that tells the kinds.
        kind: What to call that kind.
        entries: Its entries.
    """

    of: Pattern
    kind: str
    entries: tuple[Any, ...]

    @property
    def told(self) -> str:
        return f"one {self.kind} layer has to stay"

    def read(self, config: Config, layers: int) -> list[Any] | None:
        return self.of.read(config, layers)

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        if any(entry in self.entries for entry in entries):
            return {}
        message = f"leaves no {self.kind} layer; this architecture does not run without one."
        raise InvalidSpec(Problem("/layers", message))


@dataclass(frozen=True)
class RootScaled(Keyed):
    """A factor that the model divides by the root of its number of layers (`scale_depth` of MiniCPM3).

    Attributes:
        default: What the config class takes where it is absent.
    """

    fate = "is scaled with the root of the number of layers"
    default: float

    def read(self, config: Config, layers: int) -> list[Any]:
        factor = config.get(self.key, self.default)
        if not isinstance(factor, (int, float)):
            raise _wrong(self.key, "a number")
        return [(factor, layers)] * layers

    def write(self, entries: Sequence[Any]) -> dict[str, Any]:
        factor, layers = entries[0]
        return {self.key: factor * math.sqrt(len(entries) / layers)}
