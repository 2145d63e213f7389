"""Fakes for tests of whatever is built on this package."""

from __future__ import annotations

from obstore.store import MemoryStore as _ObstoreMemory

from trsp_jobs.errors import BrokerUnavailable
from trsp_jobs.storage import ArtifactStore


class RecordingDispatcher:
    """Writes down which jobs were rung; as if the broker were away while `down` is set."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.down = False

    def ring(self, job_id: str) -> None:
        """Note the id.

        Raises:
            BrokerUnavailable: While `down`.
        """
        if self.down:
            raise BrokerUnavailable("the broker does not answer: it is set to be down")
        self.rung.append(job_id)

    def pending(self) -> int:
        """Return how many rings were noted, as if no worker took them.

        Raises:
            BrokerUnavailable: While `down`.
        """
        if self.down:
            raise BrokerUnavailable("the broker does not answer: it is set to be down")
        return len(self.rung)


class MemoryStore(ArtifactStore):
    """A store that forgets everything with the process."""

    def __init__(self) -> None:
        super().__init__(_ObstoreMemory())
