"""How the C library's allocator treats large tensors. Process-wide; only glibc has the switch."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
LARGE_BYTES = 2**20
"""From this size on an allocation is mapped, and goes back to the system when it is freed."""
ENVIRONMENT = {"THP_MEM_ALLOC_ENABLE": "1"}
"""What a process that will work on a CPU starts with: torch then asks for large pages, which are cleared faster."""
MOST_BYTES = 32 * 2**20
"""The largest threshold that glibc takes, which it reaches by itself in a process with large tensors."""


@contextmanager
def returning_freed_memory() -> Iterator[None]:
    """Let freed tensors leave the process for the time of the block, and at its end all that is free.

    By default glibc raises its threshold with every freed block, up to 32 MiB: activations of many sizes then
    come from a heap that tears, and the peak of a stage grows by the better part of a gigabyte, differently in
    every run (`benchmarks/allocator.py`). The price is that the kernel clears each tensor's pages anew, of which
    `ENVIRONMENT` takes some back; measurements of speed are better off without.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    _set_thresholds(libc, LARGE_BYTES)
    try:
        yield
    finally:
        _set_thresholds(libc, MOST_BYTES)
        libc.malloc_trim(0)


def _set_thresholds(libc: ctypes.CDLL, size: int) -> None:
    for switch in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        libc.mallopt(switch, size)
