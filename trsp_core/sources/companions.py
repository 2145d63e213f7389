"""The files that belong to a model beside its weights and its config."""

from __future__ import annotations

import shutil
from pathlib import Path

_PATTERNS = (
    "generation_config.json", "tokenizer*.json", "tokenizer.model", "*.tiktoken", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "chat_template.*",
    "LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*", "README.md",
)  # fmt: skip


def companion_files(folder: Path) -> list[Path]:
    """Return tokenizer, chat template, generation config, licence and model card of a model folder."""
    found = {path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def copy_companions(source: Path, target: Path, card: str) -> None:
    """Copy what belongs to a model beside its weights and configs, without replacing what is there.

    Args:
        source, target: Model folders.
        card: Paragraph that is put at the end of the model card.
    """
    for path in companion_files(source):
        if not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)
    if card:
        write_card(target, card)


def write_card(folder: Path, card: str) -> None:
    """Add a paragraph to the folder's model card, or begin one with it."""
    path = folder / "README.md"
    before = path.read_text(encoding="utf-8", errors="replace").rstrip() + "\n\n" if path.exists() else ""
    path.write_text(f"{before}{card.strip()}\n", encoding="utf-8")


def removal_card(layers: int, kept: tuple[int, ...], changed: str = "") -> str:
    """Return the model card's paragraph on a removal.

    Args:
        layers: Layers of the source.
        kept: Source indices of the kept layers.
        changed: Sentence on what was done to their weights; empty where nothing was.
    """
    removed = [layer for layer in range(layers) if layer not in set(kept)]
    said = changed or "The weights of the layers that stayed are those of the source, bit by bit."
    return (
        "## Layers removed\n\n"
        f"{len(removed)} of the source model's {layers} decoder layers were removed by TRSP: "
        f"{', '.join(map(str, removed))} (0-based). Layer i of this model is layer kept[i] of the source, "
        f"with kept = [{', '.join(map(str, kept))}]. {said} The licence is the source model's."
    )
