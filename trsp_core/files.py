"""Files that are whole or not there: everything is written beside its name and moved onto it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trsp_core.errors import OutputRefused, Problem, StorageFull

_MEBIBYTE = 1024 * 1024


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes of `path` survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def file_written_whole(target: Path) -> Iterator[Path]:
    """Give a temporary file beside `target` that takes its name when the block ends without an error.

    After an error or an interruption `target` is as it was and the temporary file is gone; a reader sees
    the old file or the whole new one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        sync_file(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def check_new_file(target: Path) -> None:
    """Refuse a name that is taken.

    Raises:
        OutputRefused: If there is anything at `target`.
    """
    if target.exists():
        raise OutputRefused(Problem("/out", f"{target} exists; give a new file.", str(target)))


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`: a reader sees the old file or the whole new one."""
    with file_written_whole(path) as temporary:
        temporary.write_bytes(data)


def write_text_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text to `path`, whole or not at all."""
    write_bytes_atomically(path, text.encode())


def write_json_atomically(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all.

    Raises:
        ValueError: If a number is not finite, which JSON cannot carry.
    """
    write_text_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def folder_written_whole(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `target` that takes its name when the block ends without an error.

    After an error or an interruption `target` is as it was and the temporary folder is gone.

    Args:
        target: Where the folder shall be.
        replace: Whether a folder that is there, and all in it, may go; between its leaving and the new one's
            arrival lies one rename.

    Raises:
        OutputRefused: If `target` is a file, or a folder that is not empty and may not be replaced.
        StorageFull: If the disk is full.
    """
    check_free(target, replace=replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        with storage_errors(target):
            yield temporary
            _settle(temporary)
            _take_name(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(target.parent)


def check_free(target: Path, *, replace: bool = False) -> None:
    """Refuse a place where a folder cannot be put.

    Raises:
        OutputRefused: If `target` is a file, or a folder that is not empty and may not be replaced.
    """
    if target.exists() and not target.is_dir():
        raise OutputRefused(Problem("/out", f"{target} is a file; give a folder.", str(target)))
    if not replace and target.is_dir() and any(target.iterdir()):
        raise OutputRefused(Problem("/out", f"{target} is not empty; give a new folder.", str(target)))


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Say a full disk as `StorageFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"the disk that holds {path} is full") from error
        raise


def check_room(folder: Path, needed: int) -> None:
    """Check that the disk of `folder`, which need not exist yet, has `needed` bytes free.

    Raises:
        StorageFull: Naming both figures.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise StorageFull(f"{folder} has {free:,} bytes free; {needed:,} are needed")


def _settle(folder: Path) -> None:
    """Give a temporary folder the usual access rights and make its bytes survive a power cut."""
    folder.chmod(0o777 & ~_umask())
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~_umask())
            sync_file(path)
    sync_folder(folder)


def _take_name(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".old"))
    target.rename(old / target.name)
    try:
        temporary.rename(target)
    except BaseException:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for whoever holds it; the kernel frees it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; reads it in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_MEBIBYTE):
            digest.update(piece)
    return digest.hexdigest()


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
