"""How long a stream waits for a database that is away before it ends, to be taken up again."""

from __future__ import annotations

import time

OUTAGE_SECONDS = 30.0


class Patience:
    """Counts from the last time that the database answered."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def renew(self) -> None:
        """Note that the database answered."""
        self._since = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether it was silent for too long."""
        return time.monotonic() - self._since > OUTAGE_SECONDS
