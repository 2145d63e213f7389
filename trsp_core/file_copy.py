"""Bytes that go from file to file inside the kernel, past this process's memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trsp_core.errors import WorkFailed

STEP_BYTES = 32 * 1024 * 1024
PIECE_BYTES = 4 * 1024 * 1024
"""What is read at once where bytes must pass through memory."""
_NOT_HERE = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class FileRange:
    """Bytes of a file that are to be copied as they are.

    Attributes:
        path: The file.
        begin, end: Half-open range, bytes.
    """

    path: Path
    begin: int
    end: int

    def append_to(self, target: int) -> None:
        """Copy the range to where the open file `target` stands.

        The kernel is asked to begin writing to the disk at once, so that the sync at the end has little
        left to wait for.

        Raises:
            WorkFailed: If the file ends before the range does.
        """
        with _opened(self.path) as source:
            begin = self.begin
            while begin < self.end:
                copied = _step(source, begin, min(STEP_BYTES, self.end - begin), target)
                if not copied:
                    raise WorkFailed(f"{self.path.name} became shorter while it was read")
                begin += copied
                _begin_write_back(target, copied)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _step(source: int, begin: int, count: int, target: int) -> int:
    """Copy at most `count` bytes and return how many; 0 at the end of the source."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, count, offset_src=begin)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
    piece = os.pread(source, min(count, PIECE_BYTES), begin)
    write_all(target, piece)
    return len(piece)


def write_all(target: int, piece: bytes | memoryview) -> None:
    """Write all bytes of `piece`, however many one call takes."""
    left = memoryview(piece).cast("B")
    while left:
        left = left[os.write(target, left) :]


def _begin_write_back(target: int, count: int) -> None:
    if hasattr(os, "posix_fadvise"):
        end = os.lseek(target, 0, os.SEEK_CUR)
        os.posix_fadvise(target, end - count, count, os.POSIX_FADV_DONTNEED)
