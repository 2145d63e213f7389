"""The files that belong to a model beside its weights and its config."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from trsp_core import __version__
from trsp_core.sources.policy import Source

COMPANIONS = (
    "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer*.json", "*.tiktoken", "special_tokens_map.json", "*.jinja",
    "chat_template.*", "additional_chat_templates/*.jinja", "added_tokens.json", "vocab*", "merges.txt",
    "*.model", "LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*", "README.md",
)  # fmt: skip
"""Patterns of tokenizer, chat template, generation config, licence and model card, as in a model folder."""
QUANTIZER_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
"""What ModelOpt, AutoGPTQ and AutoAWQ write beside the config; they may name single layers."""
CARD = "README.md"
"""The model card."""


def companion_files(folder: Path) -> list[Path]:
    """Return tokenizer, chat template, generation config, licence and model card of a model folder."""
    found = {path for pattern in COMPANIONS for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def copy_companions(source: Path, target: Path, card: str) -> None:
    """Copy what belongs to a model beside its weights and configs, without replacing what is there.

    Args:
        source, target: Model folders.
        card: Paragraph that is put at the end of the model card.
    """
    for path in companion_files(source):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        if not copy.exists():
            shutil.copyfile(path, copy)
    if card:
        write_card(target, card)


def write_card(folder: Path, card: str) -> None:
    """Add a paragraph to the folder's model card, or begin one with it; what is there stays byte for byte."""
    path = folder / CARD
    before = path.read_bytes().rstrip() if path.exists() else b""
    path.write_bytes(before + (b"\n\n" if before else b"") + f"{card.strip()}\n".encode())


def removal_card(layers: int, kept: Sequence[int], *, changed: str = "", origin: str = "") -> str:
    """Return the model card's paragraph on a removal.

    Args:
        layers: Layers of the source.
        kept: Source indices of the kept layers.
        changed: Sentence on what was done to their weights; empty where nothing was.
        origin: Sentence on where the source was and by which command the layers went.
    """
    removed = [layer for layer in range(layers) if layer not in set(kept)]
    said = changed or "The weights of the layers that stayed are those of the source, bit by bit."
    return (
        "## Layers removed\n\n"
        f"{len(removed)} of the source model's {layers} decoder layers were removed by TRSP: "
        f"{', '.join(map(str, removed))} (0-based). Layer i of this model is layer kept[i] of the source, "
        f"with kept = [{', '.join(map(str, kept))}]. {said} {origin}{' ' if origin else ''}"
        "The licence is the source model's."
    )


def removal_origin(source: Source, removed: Sequence[int]) -> str:
    """Return the model card's sentence on where a model came from and how its layers were removed.

    Of a local model only the last name is told: a card is published, the folders of a machine are not.
    """
    local = source.kind in ("folder", "gguf")
    name = _in_code(source.path.name if local else source.reference)
    command = f"trsp remove {shlex.quote(name)} --layers {','.join(map(str, removed))}"
    return f"The source is `{name}`, revision `{source.revision}`; the command was `{command}` (TRSP {__version__})."


def _in_code(text: str) -> str:
    """Return a name as it can stand between backticks."""
    return "".join(letter if letter.isprintable() and letter != "`" else "?" for letter in text)
