"""How a worker that is told to end gives its job back first, whichever of its processes hears of it."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class DrainFlag:
    """One byte that the worker's main process shares with its pool: whether the worker is shutting down.

    Made before the fork, set by the main process (also from a signal handler: no lock), read by the pool."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Say that the worker is shutting down."""
        self._byte[0] = 1

    def is_set(self) -> bool:
        """Whether the worker is shutting down."""
        return self._byte[0] == 1


class TermHeld:
    """Whether this process was told to end while it held the signal back."""

    def __init__(self) -> None:
        self.told = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold SIGTERM back while the block runs, and let it do its work at the end.

        A process supervisor may signal all processes of a worker at once, and the pool's process would end with
        its job in the middle.
        """
        before = signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            if self.told:
                self.told = False
                os.kill(os.getpid(), signal.SIGTERM)

    def _hear(self, *_: object) -> None:
        self.told = True
