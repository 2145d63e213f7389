"""Which names a stored tensor may have: those that every reader takes for the same tensor of the same layer."""

from __future__ import annotations

import re

MAX_LENGTH = 512
_PLAIN = re.compile(rf"[!-~]{{1,{MAX_LENGTH}}}", re.ASCII)
_PATH = re.compile(r"[/\\]")
_PADDED_INDEX = re.compile(r"(?:^|\.)0[0-9]")


def fault_of(name: str) -> str | None:
    """Return what is wrong with a tensor's name, or None.

    `layers.01` and `layers.1` are one layer to whoever reads the number and two tensors to whoever reads the
    text; digits of other scripts likewise.
    """
    if not _PLAIN.fullmatch(name):
        return f"is not 1 to {MAX_LENGTH} printable ASCII characters"
    if _PATH.search(name):
        return "looks like a path"
    if _PADDED_INDEX.search(name):
        return "has an index with leading zeros"
    return None
