"""The weights of a source, byte range by byte range, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trsp_core.file_copy import FileRange
from trsp_core.safetensors_file import Content
from trsp_core.sources.materialize import materialize
from trsp_core.sources.policy import Source, SourcePolicy
from trsp_core.sources.s3 import read_s3

Reader = Callable[[Path, int, int], Content]
"""Gives the bytes of a weight file from the first up to but without the second offset."""


@contextmanager
def opened(source: Source, policy: SourcePolicy) -> Iterator[tuple[Path, Reader]]:
    """Give a folder with a source's configs, companions and headers, and what reads its weights.

    Of S3 only what is read is fetched; whatever else is no folder yet becomes one first.

    Raises:
        ModelRefused: If it cannot be read as a model, or is no longer what it was when it was resolved.
        StorageFull: If the cache has too little room.
    """
    if source.kind != "s3":
        yield materialize(source, policy), FileRange
        return
    with read_s3(source) as read:
        yield source.path, read
