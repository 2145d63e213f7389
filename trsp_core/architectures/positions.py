"""What config classes derive from a layer's position where its per-layer list is absent.

Each function returns a rule `(config, layers) -> entries`; a test holds every rule against its config class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trsp_core.architectures.patterns import Config, Entries, step, whole

FULL, SLIDING, LINEAR, INDEXED = (
    "full_attention",
    "sliding_attention",
    "linear_attention",
    "indexed_attention",
)
DENSE, SPARSE = "dense", "sparse"


def same(entry: Any) -> Entries:
    """Every layer is `entry`."""
    return lambda _config, layers: [entry] * layers


def each(entry: Callable[[int], Any]) -> Entries:
    """Layer `i` is `entry(i)`."""
    return lambda _config, layers: [entry(index) for index in range(layers)]


def every(
    period: int, key: str | None = None, *, then: str = FULL, others: str = SLIDING, shift: int = 1
) -> Entries:
    """Layer `i` is `then` where `i + shift` is a multiple of the period, which the config may hold in `key`."""

    def rule(config: Config, layers: int) -> list[Any]:
        length = period if key is None else step(config, key, period)
        return [others if (index + shift) % length else then for index in range(layers)]

    return rule


def first(count: int, key: str | None = None, *, kind: str = DENSE, rest: str = SPARSE) -> Entries:
    """The first layers are `kind`; the config may hold how many in `key`."""

    def rule(config: Config, layers: int) -> list[Any]:
        bound = count if key is None else whole(config, key, count)
        return [kind if index < bound else rest for index in range(layers)]

    return rule


def dense_first(count: int) -> Entries:
    """The first `first_k_dense_replace` layers are dense, then every `moe_layer_freq`-th is sparse."""

    def rule(config: Config, layers: int) -> list[Any]:
        bound, every_ = whole(config, "first_k_dense_replace", count), step(config, "moe_layer_freq", 1)
        return [SPARSE if index >= bound and index % every_ == 0 else DENSE for index in range(layers)]

    return rule


def windows_from(bound: int, *, needs: bool) -> Entries:
    """Windows slide from layer `max_window_layers` on (Qwen2, Qwen3).

    Args:
        bound: The config class's `max_window_layers`.
        needs: Whether `use_sliding_window` has to be true.
    """

    def rule(config: Config, layers: int) -> list[Any]:
        wanted = not needs or config.get("use_sliding_window", False)
        slides = wanted and config.get("sliding_window", 4096) is not None
        start = whole(config, "max_window_layers", bound)
        return [SLIDING if slides and index >= start else FULL for index in range(layers)]

    return rule


def alternating_windows(config: Config, layers: int) -> list[Any]:
    """Every second layer below `max_window_layers` slides if `use_sliding_window` says so (Qwen2-MoE)."""
    slides = config.get("use_sliding_window", False)
    bound = whole(config, "max_window_layers", 28)
    return [SLIDING if slides and (i + 1) % 2 and i < bound else FULL for i in range(layers)]


def windows_if_set(config: Config, layers: int) -> list[Any]:
    """All layers slide unless `sliding_window` is null (Ministral)."""
    return [FULL if config.get("sliding_window", 4096) is None else SLIDING] * layers


def exaone_windows(config: Config, layers: int) -> list[Any]:
    """Every `sliding_window_pattern`-th layer is full, none slides without a window (EXAONE)."""
    if config.get("sliding_window", 4096) is None:
        return [FULL] * layers
    return every(4, "sliding_window_pattern")(config, layers)


def cohere_moe_windows(config: Config, layers: int) -> list[Any]:
    """The dense first layers have a pattern of windows of their own, the others count from the first of them."""
    dense = max(0, min(whole(config, "first_k_dense_replace", 0), layers))
    prefix = every(1, "prefix_dense_sliding_window_pattern")(config, dense)
    return prefix + every(4, "sliding_window_pattern")(config, layers - dense)


def flint_windows(_config: Config, layers: int) -> list[Any]:
    """The first two, the last and every fourth layer from the second on are full (Flint)."""
    return [FULL if i < 2 or i % 4 == 1 or i == layers - 1 else SLIDING for i in range(layers)]


def olmo_hybrid_types(_config: Config, layers: int) -> list[Any]:
    """Every fourth layer is full attention; the last one where that would leave none (OLMo hybrid)."""
    types = [FULL if index % 4 == 3 else LINEAR for index in range(layers)]
    return types if FULL in types else [*types[:-1], FULL]


def rope_choices(config: Config, layers: int) -> list[Any]:
    """Every `no_rope_layer_interval`-th layer goes without rotary embedding: 0, the others 1."""
    interval = step(config, "no_rope_layer_interval", 4)
    return [int((index + 1) % interval != 0) for index in range(layers)]


def smollm3_types(config: Config, layers: int) -> list[Any]:
    """Layers without rotary embedding slide if `use_sliding_window` says so (SmolLM3)."""
    slides = config.get("use_sliding_window", False) and config.get("sliding_window") is not None
    ropes = config.get("no_rope_layers") or rope_choices(config, layers)
    return [SLIDING if slides and not rope else FULL for rope in ropes]


def llama4_types(config: Config, layers: int) -> list[Any]:
    """Layers with rotary embedding attend within chunks (Llama 4)."""
    ropes = config.get("no_rope_layers") or rope_choices(config, layers)
    return ["chunked_attention" if rope else FULL for rope in ropes]


def llama4_mixtures(config: Config, layers: int) -> list[Any]:
    """Every `interleave_moe_layer_step`-th layer is a mixture of experts (Llama 4)."""
    interval = step(config, "interleave_moe_layer_step", 1)
    return [(index + 1) % interval == 0 for index in range(layers)]


def lfm2_types(config: Config, layers: int) -> list[Any]:
    """Layers that `full_attn_idxs` names attend, all where it is absent; the others convolve (LFM2)."""
    named = config.get("full_attn_idxs")
    return [FULL if named is None or index in named else "conv" for index in range(layers)]


def inkling_types(config: Config, layers: int) -> list[Any]:
    """Layers that `local_layer_ids` names slide; where it is absent all but every sixth (Inkling)."""
    named = config.get("local_layer_ids")
    local = [(index + 1) % 6 != 0 if named is None else index in named for index in range(layers)]
    return ["hybrid_sliding" if slides else "hybrid" for slides in local]


def lfm3_types(_config: Config, layers: int) -> list[Any]:
    """Of four layers the third attends fully and the first within a window, but for layer 0 (LFM3)."""
    return [FULL if i % 4 == 2 else SLIDING if i % 4 == 0 and i > 0 else "conv" for i in range(layers)]


def hybrid_groups(config: Config, layers: int) -> list[Any]:
    """The last layer of each group of `layer_group_size` attends (Bailing)."""
    size = step(config, "layer_group_size", 6)
    return [FULL if (index + 1) % size == 0 else LINEAR for index in range(layers)]
