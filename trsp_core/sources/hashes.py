"""The files that a result is made from, and their hashes in full."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trsp_core.files import sha256_of
from trsp_core.progress import StopFn, never, raise_if_stopped
from trsp_core.sources.companions import companion_files
from trsp_core.sources.policy import Source
from trsp_core.sources.validate import CONFIG, INDEX, weight_files

FileHash = dict[str, str | int]
"""`sha256`, hex, and `bytes`."""


def content_files(source: Source) -> list[Path]:
    """Return config, weights, index and companions of a folder, in order of name, or the one GGUF file."""
    if source.path.is_file():
        return [source.path]
    named = [source.path / name for name in (CONFIG, INDEX) if (source.path / name).is_file()]
    return sorted({*named, *weight_files(source.path), *companion_files(source.path)})


def hashed(files: Iterable[Path], root: Path, should_stop: StopFn = never) -> dict[str, FileHash]:
    """Return SHA-256 and size of each file by its path below `root`; each is read once, in pieces.

    Raises:
        Cancelled: If `should_stop`, asked before each file, said so.
    """
    found: dict[str, FileHash] = {}
    for path in files:
        raise_if_stopped(should_stop)
        found[path.relative_to(root).as_posix()] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    return found


def hashed_source(source: Source, should_stop: StopFn = never) -> dict[str, FileHash]:
    """Return SHA-256 and size of every file that a result of `source` is made from; minutes for 100 GB.

    Of a model in S3 nothing: it is not here, and its revision pins the ETag of every object.
    """
    if source.kind == "s3":
        return {}
    root = source.path.parent if source.path.is_file() else source.path
    return hashed(content_files(source), root, should_stop)
