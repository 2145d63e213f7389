"""Waiting for a job to change: one connection that listens, for all streams of this process.

Nothing runs while no stream waits. A notice wakes the streams of its job; the first of them reads what is
new, in one query, and the others share what it read. A notice may be lost, with the connection or before it
stood: streams are woken each time that it stands again, and every few seconds whatever happens. They go on
from the last thing that they sent, so being woken in vain, or late, loses and repeats nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import psycopg
import structlog
from fastapi import Depends, Request
from psycopg import AsyncConnection
from starlette.concurrency import run_in_threadpool

from trsp_jobs.notices import listening

POLL_SECONDS = 5.0
"""After so long a stream looks by itself, should a notice have been lost."""
RETRY_SECONDS = 0.5
LOOK_SECONDS = 0.5
"""How soon the listener sees that nobody waits any more, or that the server stops."""

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Topic:
    """A job as its streams see it: a count of changes to wait on, and reads to share.

    Attributes:
        version: Grows with each change, and when there may have been one.
        streams: How many streams follow it.
    """

    def __init__(self, listen: Callable[[], None]) -> None:
        self.version = 0
        self.streams = 0
        self._listen = listen
        self._changed = asyncio.Event()
        self._reads: dict[Hashable, asyncio.Task[Any]] = {}

    def wake(self) -> None:
        """Let every stream look again."""
        self.version += 1
        self._reads.clear()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self, seen: int) -> None:
        """Return once the version is another one than `seen`."""
        self._listen()
        while self.version == seen:
            await self._changed.wait()

    async def read(self, key: Hashable, action: Callable[[], T]) -> T:
        """Run an action in a thread; whoever asks for the same key before the next change shares its outcome."""
        if key not in self._reads:
            task = asyncio.create_task(run_in_threadpool(action))
            task.add_done_callback(_look_at)
            self._reads[key] = task
        found: T = await asyncio.shield(self._reads[key])
        return found


def _look_at(task: asyncio.Task[Any]) -> None:
    """Take an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


class Live:
    """The topics of one process, and the connection that listens for them while somebody waits."""

    def __init__(self, database_url: str, stopping: threading.Event) -> None:
        self._database_url = database_url
        self._stopping = stopping
        self._topics: dict[str, Topic] = {}
        self._listener: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def topic(self, job_id: str) -> AsyncIterator[Topic]:
        """Give the job's topic, the same to all of its streams."""
        topic = self._topics.setdefault(job_id, Topic(self._ensure_listener))
        topic.streams += 1
        try:
            yield topic
        finally:
            topic.streams -= 1
            if not topic.streams:
                del self._topics[job_id]

    @property
    def listening(self) -> bool:
        """Whether a connection is held, or being made."""
        return self._listener is not None and not self._listener.done()

    async def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    def _ensure_listener(self) -> None:
        if not self.listening:
            self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """Listen as long as anybody follows a topic; a connection that breaks is made again."""
        while self._topics and not self._stopping.is_set():
            try:
                async with listening(self._database_url) as connection:
                    self._wake_all()
                    await self._hear(connection)
            except psycopg.Error as error:
                log.warning("no notices from the database; asks it instead", error=type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)
                self._wake_all()
        self._wake_all()

    async def _hear(self, connection: AsyncConnection) -> None:
        woken = time.monotonic()
        while self._topics and not self._stopping.is_set():
            async for notice in connection.notifies(timeout=LOOK_SECONDS):
                if notice.payload in self._topics:
                    self._topics[notice.payload].wake()
            if time.monotonic() - woken >= POLL_SECONDS:
                self._wake_all()
                woken = time.monotonic()

    def _wake_all(self) -> None:
        for topic in self._topics.values():
            topic.wake()


async def get_live(request: Request) -> Live:
    """Return the application's topics."""
    live: Live = request.app.state.live
    return live


LiveDep = Annotated[Live, Depends(get_live)]
