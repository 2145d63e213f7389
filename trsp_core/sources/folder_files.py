"""Which files a model folder may hold: nothing that is code, a device, a link out, or too much to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from trsp_core.sources.companions import companion_files
from trsp_core.sources.policy import SourcePolicy, refused

MAX_COMPANION_BYTES = 64 * 1024 * 1024
_MAX_FILES = 10_000
_MAX_FOLDERS_DEEP = 16
_CODE = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")


def check_files(folder: Path, policy: SourcePolicy) -> None:
    """Look at the names and kinds of all files in a folder; none is opened.

    Raises:
        ModelRefused: Naming the file.
    """
    for count, path in enumerate(walk(folder)):
        if count >= _MAX_FILES:
            raise refused(
                f"{folder} holds more than {_MAX_FILES} files; give a model's own folder.", str(folder)
            )
        _check_file(path, str(path.relative_to(folder)), policy)
    if (folder / "adapter_config.json").exists():
        raise refused("is an adapter, not a model; merge it into its base model first.", str(folder))
    for path in companion_files(folder):
        size = path.stat().st_size
        if size > MAX_COMPANION_BYTES:
            message = f"{path.name} has {size} bytes; at most {MAX_COMPANION_BYTES} are taken."
            raise refused(message, path.name)


def walk(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder as the system tells it, so that a million files need not be listed first."""
    left = [(folder, 0)]
    while left:
        place, depth = left.pop()
        if depth > _MAX_FOLDERS_DEEP:
            raise refused(
                f"{folder} holds folders more than {_MAX_FOLDERS_DEEP} deep; remove them.", str(place)
            )
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    yield Path(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        left.append((Path(entry.path), depth + 1))
        except OSError as error:
            raise refused(f"{place} cannot be read: {error.strerror}.", str(place)) from error


def _check_file(path: Path, name: str, policy: SourcePolicy) -> None:
    if not policy.allows(path):
        message = (
            f"{name} is a link out of the folders that models may be read from, or into itself; remove it."
        )
        raise refused(message, name)
    if not path.exists():
        raise refused(f"{name} is a link to nothing; remove it or put its file there.", name)
    if not path.is_file() and not path.is_dir():
        raise refused(f"{name} is a pipe, a socket or a device; a model folder holds plain files.", name)
    if path.suffix.lower() in _CODE:
        raise refused(f"holds the code file {name}; remove it if the model loads without it.", name)
