"""What an embedded service makes for itself on its first start and keeps in its data folder: key and secret."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from trsp_jobs import tokens

KEY_FILE = "key"


def own_key(data_dir: Path) -> tuple[str, bool]:
    """Return the operator's key of a data folder, and whether it was made just now."""
    return _kept(data_dir / KEY_FILE, tokens.new_token)


def own_secret(data_dir: Path) -> str:
    """Return the secret of a data folder."""
    return _kept(data_dir / "secret", lambda: secrets.token_hex(32))[0]


def _kept(path: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """Return what a file holds; one that is not there is written, whole and for its owner's eyes only."""
    if path.exists():
        return path.read_text().strip(), False
    value, part = make(), path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(value + "\n")
    part.replace(path)
    return value, True
