"""Layers leave a model as it lies there: the cut, the model card and, where it is wanted, the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trsp_core.manifest import record_removal
from trsp_core.progress import StopFn, never
from trsp_core.sources import Source, SourcePolicy, inspect, opened
from trsp_core.sources.companions import removal_card, removal_origin
from trsp_core.surgery import remove_streamed


def remove_layers(
    source: Source,
    target: Path,
    kept: Sequence[int],
    policy: SourcePolicy,
    *,
    manifest: bool = False,
    should_stop: StopFn = never,
) -> None:
    """Write a source without some of its layers into the folder `target`, whole or not at all.

    Args:
        source: The model.
        target: New or empty.
        kept: Source indices of the layers that stay, ascending.
        policy: What may be read.
        manifest: Whether the folder gets a manifest, which reads source and result once more.
        should_stop: Asked after each tensor.

    Raises:
        InputRefused, WorkFailed, Cancelled: As `remove_streamed`.
    """
    facts = inspect(source)
    gone = [layer for layer in range(facts.layers) if layer not in set(kept)]
    changed = "Its weights were dequantized first." if source.kind in ("gguf", "demo") else ""
    card = removal_card(facts.layers, kept, changed=changed, origin=removal_origin(source, gone))

    def seal(folder: Path) -> None:
        if manifest:
            record_removal(folder, source, facts, kept)

    with opened(source, policy) as (folder, read):
        remove_streamed(folder, target, kept, read=read, card=card, seal=seal, should_stop=should_stop)
