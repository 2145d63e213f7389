"""One byte that the worker's main process shares with its pool: whether the worker is shutting down."""

from __future__ import annotations

import mmap


class DrainFlag:
    """Made before the fork, set by the main process (also from a signal handler: no lock), read by the pool."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Say that the worker is shutting down."""
        self._byte[0] = 1

    def is_set(self) -> bool:
        """Whether the worker is shutting down."""
        return self._byte[0] == 1
